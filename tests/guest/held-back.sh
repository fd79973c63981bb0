# Sourced by tests: a snapshot is deleted while a copy for it is under way, because the device
# under the origin, /dev/mapper/slow on /dev/o, takes six seconds for a read, or more on a slow machine.
# shellcheck shell=bash

held=$((6 * ${SLOW:-1}))
[ $held -lt 60 ] || held=60
swept() { [ "$(ms_status ms sweep)" = - ]; }
# become <table>: what the device under the origin does from now on.
become() {
	dmsetup suspend slow
	dmsetup load slow --table "$1"
	dmsetup resume slow
}
# begin_held_back <first sector>...: a write to each of these chunks of 8 sectors, with a copy.
begin_held_back() {
	local at
	become "0 $(sectors /dev/o) delay /dev/o 0 ${held}000 /dev/o 0 0"
	writers=()
	for at in "$@"; do
		write_pattern /dev/mapper/ms "$at" 8 2 &
		writers+=($!)
	done
	sleep 0.5
}
# delete_held_back <id> <ids that are left>
delete_held_back() {
	local begin
	begin=$(date +%s%N)
	ok "a snapshot is deleted" message ms delete "$1"
	ok "at once" test $(($(date +%s%N) - begin)) -lt $((held * 1000000000 / 3))
	ok "while a copy is under way for it" kill -0 "${writers[@]}"
	is "it has gone" "$(ms_status ms ids)" "$2"
}
end_held_back() {
	local writer
	ok "the copy is under way all the time" kill -0 "${writers[@]}"
	for writer in "${writers[@]}"; do ends_well "the write ends" "$writer"; done
	become "0 $(sectors /dev/o) linear /dev/o 0"
	ok "then the sweep does" within 30 swept
}
