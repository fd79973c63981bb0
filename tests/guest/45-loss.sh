#!/bin/bash
# What snapshots lose, to the chunk: on a full store, and of what the origin cannot read.
. ./lib.sh
. ./become.sh
plan 34

losses() { python3 losses.py /dev/mapper/snap 32 "$1"; }
lost() { ms_status ms lost; }

# --- a full store ---
make_small 16 8 32
write_pattern /dev/mapper/ms 0 32768 1
take_snapshot ms > /dev/null
ok "the whole origin is written, with a store for half of it" write_pattern /dev/mapper/ms 0 32768 2
is "it is full" "$(ms_status ms mode)" full
ok "the origin is right" check_pattern /dev/mapper/ms 0 32768 2
copied=$(ms_status ms copied)
diag "$copied chunks were copied, $(lost) lost"
ok "a part was copied" test "$copied" -gt 256 -a "$copied" -lt 512
is "the rest was lost" "$(lost)" $((1024 - copied))
make_snap snap /dev/o 1
first=$(losses 1)
is "just those chunks give EIO, and all others are right" "$(wc -w <<< "$first")" $((1024 - copied))
dmsetup remove snap
# Of another one just what is written from then on.
take_snapshot ms > /dev/null
ok "five chunks are written again" eval 'for n in 3 90 91 700 1023; do write_pattern /dev/mapper/ms $((n * 32)) 8 3; done'
is "they are lost" "$(lost)" $((1024 - copied + 5))
make_snap snap /dev/o 2
is "to the new one" "$(losses 2)" "3 90 91 700 1023"
dmsetup remove snap
make_snap snap /dev/o 1
is "the old one has lost no more" "$(losses 1)" "$first"
dmsetup remove snap
dmsetup remove ms
make_ms ms /dev/o /dev/s 32
for n in 1 2; do
	make_snap snap /dev/o $n
	is "a restart changes nothing for snapshot $n" "$(losses $n)" \
		"$([ $n = 1 ] && echo "$first" || echo "3 90 91 700 1023")"
	dmsetup remove snap
done
cleanup

make_small 16 8 32 "1 preserve-on-error"
write_pattern /dev/mapper/ms 0 32768 1
take_snapshot ms > /dev/null
fails_with "with preserve-on-error the write fails" ENOSPC write_pattern /dev/mapper/ms 0 32768 2
is "nothing is lost" "$(ms_status ms mode) $(lost)" "full 0"
make_snap snap /dev/o 1
is "and all is right" "$(losses 1)" ""
ok "the origin has what it had where it was refused" check_pattern /dev/mapper/ms 32000 768 1
cleanup

# --- an origin that cannot be read ---
for policy in 0 "1 preserve-on-error"; do
	make_nullblk o 16
	make_nullblk s 32
	dmsetup create od --table "$(whole /dev/o)"
	make_ms ms /dev/mapper/od /dev/s 32 "$policy"
	write_pattern /dev/mapper/ms 0 32768 1
	take_snapshot ms > /dev/null
	# Chunk 5.
	become od "$(hole /dev/o 160 192 reads)"
	fails_with "$policy: a chunk of the origin cannot be read" EIO \
		dd if=/dev/mapper/ms of=/tmp/out bs=4k count=1 skip=20 iflag=direct
	ok "but a part of it written" write_pattern /dev/mapper/ms 168 8 2
	ok "as can others" write_pattern /dev/mapper/ms 128 8 2
	become od "$(whole /dev/o)"
	is "one chunk is lost, after one read that failed" "$(lost) $(ms_status ms read_errors)" "1 1"
	is "and the mode is what it was" "$(ms_status ms mode)" rw
	ok "the origin is right" eval 'check_pattern /dev/mapper/ms 160 8 1 && check_pattern /dev/mapper/ms 168 8 2'
	make_snap snap /dev/mapper/od 1
	is "it is that chunk, and all others are right" "$(losses 1)" 5
	ok "the next write of it needs nothing" write_pattern /dev/mapper/ms 160 32 3
	is "nor costs anything" "$(lost) $(losses 1)" "1 5"
	cleanup
done
