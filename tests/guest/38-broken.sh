#!/bin/bash
# Devices that fail and come back, under origin and store, during copies, commits,
# checkpoints and recovery: a clear mode, nothing wrong is ever read, and all goes on
# when the device is back.  TYPE is another store.
# timeout: 420
# on request: not settled yet.
# cpus: 2
. ./lib.sh
type=${TYPE:-btree}
modprobe -q dm-flakey
dust=
! modprobe -q dm-dust || dust=1
plan $((4 * 8 + 6 + 4 + 5))

# become <name> <table>: what the device does from now on.
become() {
	dmsetup reload "$1" <<< "$2" && dmsetup suspend --noflush --nolockfs "$1" && dmsetup resume "$1"
}
whole() { echo "0 $(sectors "$1") linear $1 0"; }
# hole <device> <first sector> <end>: all of it but that part, which fails.
hole() {
	local size
	size=$(sectors "$1")
	[ "$2" -eq 0 ] || echo "0 $2 linear $1 0"
	echo "$2 $(($3 - $2)) error"
	[ "$3" -eq "$size" ] || echo "$3 $((size - $3)) linear $1 $3"
}
mode() { ms_status ms mode; }
mode_is() { [ "$(mode)" = "$1" ]; }
# right_or_lost <device> <seed> <whole>: each chunk shows that pattern or gives EIO.
right_or_lost() {
	local at lost=0
	for at in $(seq 0 32 $(($3 - 32))); do
		if ! check_pattern "$1" "$at" 32 "$2" > /dev/null 2> /tmp/why; then
			grep -q 'Input/output error' /tmp/why || { cat /tmp/why; return 1; }
			lost=$((lost + 1))
		fi
	done
	echo "$lost"
}
# The machine must not stop before the loss could be told (promises.rst).
told() { mode_is rw || our_lines | grep -q "have lost"; }
set_up() { # <generic args>
	make_nullblk o 16
	make_nullblk s 64
	dmsetup create od --table "$(whole /dev/o)"
	dmsetup create st --table "$(whole /dev/s)"
	make_ms ms /dev/mapper/od /dev/mapper/st 32 "$1" "$type"
	write_pattern /dev/mapper/ms 0 1024 1
	take_snapshot ms > /dev/null
	write_pattern /dev/mapper/ms 0 64 2
}

# One part of the store after the other takes nothing, and gives nothing: header,
# log, first metadata area, and data, which 64 MiB have at these sectors.
while read -r what first end; do
	for policy in "0" "1 preserve-on-error"; do
		set_up "$policy"
		dmesg_mark
		become st "$(hole /dev/s "$first" "$end")"
		write_pattern /dev/mapper/ms 256 512 3 2> /tmp/error
		rc=$?
		if [ "$policy" = 0 ]; then
			is "$what: the origin goes on" $rc 0
		else
			like "$what: a write goes on, or is refused" "$rc $(cat /tmp/error)" "^(0|1 .*Input/output error)"
		fi
		like "$what: a clear mode" "$(mode)" "^(rw|fail)$"
		become st "$(whole /dev/s)"
		within 12 told
		dmsetup remove ms
		ok "$what: it is loaded again" make_ms ms /dev/mapper/od /dev/mapper/st 32 "$policy" "$type"
		make_snap snap /dev/mapper/od 1
		lost=$(right_or_lost /dev/mapper/snap 1 1024)
		if [ "$policy" = 0 ]; then
			like "$what: the snapshot is right or lost ($lost of 32)" "$lost" '^[0-9]+$'
		else
			is "$what: the snapshot is right" "$lost" 0
		fi
		cleanup
	done
done <<- END
	header 0 256
	log 256 2304
	metadata 2304 4352
	data 4352 131072
END

# The same in the middle of concurrent I/O, cuts and deletions.  The model takes any
# error, and no wrong content; in the end all must be there again.
# torture_with <name> <device> <bad table> <generic args>: that device fails now and then.
torture_with() {
	local rc=0 job
	make_nullblk o 16
	make_nullblk s 192
	dmsetup create od --table "$(whole /dev/o)"
	dmsetup create st --table "$(whole /dev/s)"
	(
		sleep 1
		while [ ! -e /tmp/stop ]; do
			become "$1" "$3"
			sleep "0.$((RANDOM % 10))"
			become "$1" "$(whole "$2")"
			sleep "$((RANDOM % 3)).$((RANDOM % 10))"
		done
		rm /tmp/stop
	) &
	job=$!
	torture seed="${SEED:-$RANDOM}" origin=/dev/mapper/od sectors="$(sectors /dev/o)" store=/dev/mapper/st \
		type="$type" generic="$4" faults=broken restarts=no rounds=6 stop=/tmp/stop || rc=$?
	kill $job 2> /dev/null
	wait $job
	cleanup
	return $rc
}
size=$((16 << 11)) store_size=$((192 << 11))
for policy in "0" "1 preserve-on-error"; do
	ok "torture on a store that comes and goes ($policy)" \
		torture_with st /dev/s "0 $store_size error" "$policy"
	ok "and on an origin that does" torture_with od /dev/o "0 $size error" "$policy"
done
ok "a store that takes nothing, but can be read" torture_with st /dev/s \
	"0 $store_size flakey /dev/s 0 0 60 1 error_writes" 0
ok "an origin that can be written, but not read" torture_with od /dev/o \
	"0 $size flakey /dev/o 0 0 60 1 error_reads" 0

# Sectors that go bad, and are mended by a write, as a disk does.
bad_sectors() { # <device name> <generic args>
	local rc=0
	make_nullblk o 16
	make_nullblk s 192
	dmsetup create od --table "0 $(sectors /dev/o) dust /dev/o 0 4096"
	dmsetup create st --table "0 $(sectors /dev/s) dust /dev/s 0 4096"
	dmsetup message od 0 quiet
	dmsetup message st 0 quiet
	(
		while [ ! -e /tmp/stop ]; do
			# Any of the origin; of the store, the header and its neighbours stay good.
			for _ in 1 2 3 4 5 6 7 8; do
				dmsetup message "$1" 0 addbadblock $((32 + RANDOM % 4000)) > /dev/null
			done
			dmsetup message "$1" 0 enable
			sleep "1.$((RANDOM % 10))"
			dmsetup message "$1" 0 disable
			sleep "0.$((RANDOM % 10))"
		done
		rm /tmp/stop
	) 2> /dev/null &
	job=$!
	torture seed="${SEED:-$RANDOM}" origin=/dev/mapper/od sectors="$(sectors /dev/o)" store=/dev/mapper/st \
		type="$type" generic="$2" faults=broken restarts=no rounds=6 stop=/tmp/stop || rc=$?
	kill $job 2> /dev/null
	wait $job
	cleanup
	return $rc
}
for device in od st; do
	for policy in "0" "1 preserve-on-error"; do
		what="bad sectors of $device ($policy)"
		if [ -n "$dust" ]; then ok "$what" bad_sectors $device "$policy"
		else skip "$what" "no dm-dust"; fi
	done
done

# Recovery from a store that fails now and then: refused or right, and never harmed.
make_nullblk o 16
make_nullblk s 64
dmsetup create od --table "$(whole /dev/o)"
dmsetup create st --table "$(whole /dev/s)"
make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 4096 2
# Not closed: what is in the log is to be replayed.
become st "0 $(sectors /dev/s) error"
dmsetup remove ms
refused=0 loaded=0
for at in 0 64 128 256 264 272 512 1024 2304 2312 2368 3072 4352; do
	become st "$(hole /dev/s "$at" $((at + 8)))"
	if make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type" 2> /dev/null; then
		loaded=$((loaded + 1))
		make_snap snap /dev/mapper/od 1
		check_pattern /dev/mapper/snap 0 4096 1 > /dev/null 2>> /tmp/wrong
		dmsetup remove snap
		become st "0 $(sectors /dev/s) error"
		dmsetup remove ms
	else
		refused=$((refused + 1))
	fi
done
ok "a store with a bad block is refused ($refused times)" test $refused -gt 0
ok "or loaded ($loaded times)" test $loaded -gt 0
is "and nothing wrong is read" "$(grep -vE 'Input/output error|found ""' /tmp/wrong)" ""
become st "$(whole /dev/s)"
ok "with all blocks good it is loaded" make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
make_snap snap /dev/mapper/od 1
ok "and right" check_pattern /dev/mapper/snap 0 4096 1
cleanup
