#!/bin/bash
# Devices that fail and come back, under origin and store, during copies, commits,
# checkpoints and recovery: a clear mode, nothing wrong is ever read, and all goes on
# when the device is back.  TYPE is another store.
# timeout: 600
# on request: it takes minutes.
# cpus: 2
. ./lib.sh
. ./become.sh
type=${TYPE:-btree}
dust=
! modprobe -q dm-dust || dust=1
plan $((5 * 2 * 9 + 1 + 6 + 4 + 8 + 6 + 4 + 3))

mode() { ms_status ms mode; }
mode_is() { [ "$(mode)" = "$1" ]; }
# right_or_lost <device> <seed> <end> [<begin>]: each chunk shows that pattern or gives EIO.
right_or_lost() {
	local at lost=0
	for at in $(seq "${4:-0}" 32 $(($3 - 32))); do
		if ! check_pattern "$1" "$at" 32 "$2" > /dev/null 2> /tmp/why; then
			grep -q 'Input/output error' /tmp/why || { cat /tmp/why; return 1; }
			lost=$((lost + 1))
		fi
	done
	echo "$lost"
}
# lost_parts: how many of the snapshot's chunks are lost before, within and behind those that are written
# meanwhile.
lost_parts() {
	local snap=/dev/mapper/snap
	echo "$(right_or_lost $snap 1 256) $(right_or_lost $snap 1 768 256) $(right_or_lost $snap 1 1024 768)"
}
told() { our_lines | grep -q "have lost what the origin still held"; }
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
# log, first metadata area, and data, which 64 MiB have at these sectors.  A log that is not
# written makes the mode fail, and a checkpoint heals that, unless the header takes none either.
# With each go: whether a line says that the store has failed, the mode after the write, and of
# the 32 chunks of the snapshot, 2 of which have a copy, how many are lost where that is allowed:
# none, the 16 that are written meanwhile, or all without a copy.  Some of the 16 may have one in that
# case: what was recorded before the log failed is there when the store is back.
tellers=0
while read -r what first end fails mode_then loss; do
	for policy in "0" "1 preserve-on-error"; do
		set_up "$policy"
		dmesg_mark
		become st "$(hole /dev/s "$first" "$end")"
		write_pattern /dev/mapper/ms 256 512 3 2> /tmp/error
		rc=$?
		if [ "$policy" = 0 ] || [ "$loss" -eq 0 ]; then
			is "$what ($policy): the origin goes on" "$rc $(cat /tmp/error)" "0 "
		else
			like "$what ($policy): the write is refused" "$rc $(cat /tmp/error)" "^1 .*Input/output error"
		fi
		is "$what ($policy): the mode is $mode_then" "$(mode)" "$mode_then"
		# On a slow machine it heals, and fails again, while the 16 are written.
		failed=0
		if our_lines | grep -q "store .* failed with error -5"; then failed=1; fi
		is "$what ($policy): a line tells if the store has failed" "$failed" "$fails"
		become st "$(whole /dev/s)"
		ok "$what ($policy): and rw when the store is back" within 12 mode_is rw
		is "$what ($policy): with a line for each time" "$(our_lines | grep -c "takes writes again")" \
			"$(our_lines | grep -c "store .* failed with error -5")"
		wanted=$loss
		[ "$policy" = 0 ] || wanted=0
		all=
		if told; then all=told tellers=$((tellers + 1)); fi
		is "$what ($policy): a line tells if all is lost" "$all" "$([ "$wanted" -le 16 ] || echo told)"
		make_snap snap /dev/mapper/od 1
		case $wanted in
		0) parts='0 0 0' ;;
		16) parts='0 16 0' ;;
		*) parts='6 ([0-9]|1[0-6]) 8' ;;
		esac
		lost=$(lost_parts)
		like "$what ($policy): the snapshot is right but for what is lost" "$lost" "^$parts\$"
		dmsetup remove snap
		dmsetup remove ms
		ok "$what ($policy): it is loaded again" make_ms ms /dev/mapper/od /dev/mapper/st 32 "$policy" "$type"
		make_snap snap /dev/mapper/od 1
		is "$what ($policy): the snapshot is the same" "$(lost_parts)" "$lost"
		cleanup
	done
done <<- END
	header 0 256 0 rw 0
	log 256 2304 1 rw 0
	header+log 0 2304 1 fail 30
	metadata 2304 4352 0 rw 0
	data 4352 131072 0 rw 16
END
is "one of these told that all is lost" $tellers 1

# summary: of the run before, with the restarts that had to be forced.
: > /tmp/summaries
summary() { diag "$(tee -a /tmp/summaries < /tmp/summary)"; }
# The same in the middle of concurrent I/O, cuts and deletions.  The model takes any
# error, and no wrong content; in the end all must be there again.
# torture_with <name> <device> <bad table> <generic args>: that device fails now and then.
torture_with() {
	local rc=0 job
	make_nullblk o 16
	make_nullblk s 192
	dmsetup create od --table "$(whole /dev/o)"
	dmsetup create st --table "$(whole /dev/s)"
	: > /tmp/become
	(
		sleep 1
		while [ ! -e /tmp/stop ]; do
			become "$1" "$3" && echo >> /tmp/become
			[ "$(wc -l < /tmp/become)" -le 2 ] || touch /tmp/enough
			sleep "0.$((RANDOM % 10))"
			become "$1" "$(whole "$2")"
			sleep "$((RANDOM % 3)).$((RANDOM % 10))"
		done
		rm /tmp/stop
	) &
	job=$!
	torture seed="${SEED:-$RANDOM}" origin=/dev/mapper/od sectors="$(sectors /dev/o)" store=/dev/mapper/st \
		type="$type" generic="$4" faults=broken restarts=no rounds=6 stop=/tmp/stop until=/tmp/enough > /tmp/summary || rc=$?
	cat /tmp/summary
	kill $job 2> /dev/null
	wait $job
	cleanup
	rm -f /tmp/enough
	[ "$(wc -l < /tmp/become)" -gt 2 ] || { echo "it did not fail"; rc=1; }
	return $rc
}
size=$((16 << 11)) store_size=$((192 << 11))
for policy in "0" "1 preserve-on-error"; do
	ok "torture on a store that comes and goes ($policy)" \
		torture_with st /dev/s "0 $store_size error" "$policy"
	summary
	ok "and on an origin that does" torture_with od /dev/o "0 $size error" "$policy"
	summary
done
ok "a store that takes nothing, but can be read" torture_with st /dev/s \
	"0 $store_size flakey /dev/s 0 0 60 1 error_writes" 0
summary
ok "an origin that can be written, but not read" torture_with od /dev/o \
	"0 $size flakey /dev/o 0 0 60 1 error_reads" 0
summary

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
		type="$type" generic="$2" faults=broken restarts=no rounds=6 stop=/tmp/stop > /tmp/summary || rc=$?
	cat /tmp/summary
	kill $job 2> /dev/null
	wait $job
	cleanup
	grep -qE '[1-9][0-9]* (writes and [0-9]+ )?reads failed' /tmp/summary ||
		{ echo "nothing failed"; rc=1; }
	return $rc
}
for device in od st; do
	for policy in "0" "1 preserve-on-error"; do
		what="bad sectors of $device ($policy)"
		if [ -n "$dust" ]; then
			ok "$what" bad_sectors $device "$policy"
			summary
		elif [ -n "${DEBUG_KERNEL:-}" ]; then is "$what" "no dm-dust" "dm-dust"
		else skip "$what" "no dm-dust"; fi
	done
done

# Without a fault that stays, the mode should come back by itself.
diag "forced restarts: $(sed -n 's/.* restarts, \([0-9]*\) of them forced.*/\1/p' /tmp/summaries | xargs)"

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
# try_load [flapping]: counts how that ends, and looks for wrong content if it is loaded.  Then
# the store is away again.
try_load() {
	"${1:-:}" &
	if make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type" 2> /dev/null; then
		loaded=$((loaded + 1))
		if make_snap snap /dev/mapper/od 1 2> /dev/null; then
			check_pattern /dev/mapper/snap 0 4096 1 > /dev/null 2>> /tmp/wrong
			dmsetup remove snap
		fi
	else
		refused=$((refused + 1))
	fi
	wait
	become st "0 $(sectors /dev/s) error"
	! dmsetup info ms > /dev/null 2>&1 || dmsetup remove ms
}
places="0 64 128 256 264 272 512 1024 2304 2312 2368 3072 4352"
: > /tmp/wrong
refused=0 loaded=0
for at in $places; do
	become st "$(hole /dev/s "$at" $((at + 8)))"
	try_load
done
ok "a store with a bad block is refused ($refused times)" test $refused -gt 0
ok "or loaded ($loaded times)" test $loaded -gt 0
refused=0 loaded=0
for end in 8 128 256 2304 4352 131072; do
	become st "$(hole /dev/s 0 "$end" writes)"
	try_load
done
ok "one that is not written where it begins is refused ($refused times)" test $refused -gt 0
diag "and loaded $loaded times"
# It comes and goes during the load, until both have happened three times. How often is by chance: on
# a slow machine a load takes as long as all five.
flapping() {
	local _
	for _ in $(seq $((RANDOM % 5 + 1))); do
		become st "0 $(sectors /dev/s) error"
		sleep "0.0$((RANDOM % 10))"
		become st "$(whole /dev/s)"
		sleep "0.$((RANDOM % 3))"
	done
}
refused=0 loaded=0 tries=0
until [ $refused -ge 3 ] && [ $loaded -ge 3 ] || [ $tries -eq 60 ]; do
	tries=$((tries + 1))
	become st "$(whole /dev/s)"
	try_load flapping
done
ok "one that comes and goes meanwhile is loaded ($loaded times)" test $loaded -ge 3
ok "or refused ($refused times)" test $refused -ge 3
is "and nothing wrong is read" "$(grep -vE 'Input/output error|found ""' /tmp/wrong)" ""
become st "$(whole /dev/s)"
ok "with all blocks good it is loaded" make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
make_snap snap /dev/mapper/od 1
ok "and right" check_pattern /dev/mapper/snap 0 4096 1

# A bad origin.  After a crash nothing of it is wanted for a load; nor is anything lost.
dmsetup remove snap
become st "0 $(sectors /dev/s) error"
dmsetup remove ms
become st "$(whole /dev/s)"
become od "0 $(sectors /dev/o) error"
ok "after a crash it is loaded on a bad origin" make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
make_snap snap /dev/mapper/od 1
ok "the snapshot has what was copied for it" check_pattern /dev/mapper/snap 0 4096 1
read_at() { dd if="/dev/mapper/$1" of=/dev/null bs=4k count=1 skip="$2" iflag=direct status=none; }
fails_with "what the origin holds for it is EIO" EIO read_at snap 1024
fails_with "as in the origin" EIO read_at ms 1024
is "the mode is rw, and nothing lost" "$(mode) $(ms_status ms lost)" "rw 0"
become od "$(whole /dev/o)"
ok "when it is back, both are read" eval "read_at snap 1024 && read_at ms 1024"
dmsetup remove snap
dmsetup remove ms
# After a clean stop, samples of it must be what they were.
for bad in "0 $(sectors /dev/o) error" "0 $(sectors /dev/o) flakey /dev/o 0 0 600 1 error_reads"; do
	become od "$bad"
	dmesg_mark
	fails_with "after a clean stop it is not loaded on ${bad#* * }" EIO \
		make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
	like "with one line of ours" "$(our_lines | grep -c .) $(our_lines)" "^1 .*origin [0-9:]+ cannot be read"
done
become od "$(whole /dev/o)"
ok "with a good one it is" make_ms ms /dev/mapper/od /dev/mapper/st 32 0 "$type"
make_snap snap /dev/mapper/od 1
ok "and right" check_pattern /dev/mapper/snap 0 4096 1
is "with nothing lost" "$(mode) $(ms_status ms lost)" "rw 0"
cleanup
