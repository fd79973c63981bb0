# Sourced by tests: a device that fails in a part of it, or for a while.
# shellcheck shell=bash

modprobe dm-flakey
# become <name> <table>: what the device does from now on.
become() {
	dmsetup reload "$1" <<< "$2" && dmsetup suspend --noflush --nolockfs "$1" && dmsetup resume "$1"
}
whole() { echo "0 $(sectors "$1") linear $1 0"; }
# hole <device> <first sector> <end> [reads|writes]: all of it but that part, which fails, or fails to
# be read or written.
hole() {
	local size
	size=$(sectors "$1")
	[ "$2" -eq 0 ] || echo "0 $2 linear $1 0"
	if [ -n "${4:-}" ]; then
		echo "$2 $(($3 - $2)) flakey $1 $2 0 600 1 error_$4"
	else
		echo "$2 $(($3 - $2)) error"
	fi
	[ "$3" -eq "$size" ] || echo "$3 $((size - $3)) linear $1 $3"
}
