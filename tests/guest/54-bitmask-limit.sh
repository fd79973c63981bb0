#!/bin/bash
# The bitmask store holds 64 snapshots; a deleted one's bit is another's only when no copy of then
# is under way any more, so that a new snapshot never sees what is old.
. ./lib.sh
plan 41

. ./held-back.sh
STORE_TYPE=bitmask

make_nullblk o 16
make_nullblk s 64
size=$(sectors /dev/o)
dmsetup create slow --table "0 $size linear /dev/o 0"
ok "a bitmask store is made" make_ms ms /dev/mapper/slow /dev/s 8
is "status names it" "$(ms_status ms type)" bitmask
like "and so does the table" "$(dmsetup table ms)" ' 8 0 bitmask 0$'
write_pattern /dev/mapper/ms 0 1024 1
is "64 snapshots are cut" "$(python3 snapshots.py ms 64)" "1 64"
dmesg_mark
fails_with "a 65th is refused" ENOSPC message ms create
is "with one line" "$(our_lines | wc -l)" 1
like "that says why, and what to do" "$(our_lines)" "bitmask store holds 64 snapshots: delete one or use btree"
dmesg_mark
fails_with "a snapshot of a snapshot is refused" EOPNOTSUPP message ms create_subsnap 3
like "with a line" "$(our_lines)" "snapshot 3 .*bitmask.*btree"
fails_with "one of what is not there as well" ENOENT message ms create_subsnap 99

# Every other one writes, then the origin: still one copy.
rc=0
for n in $(seq 2 8 64); do
	make_snap w /dev/mapper/slow "$n"
	write_pattern /dev/mapper/w 512 8 "$n"
	dmsetup remove w
done
copied=$(ms_status ms copied)
write_pattern /dev/mapper/ms 512 8 99
is "eight have written, and the origin's write is one copy" $(($(ms_status ms copied) - copied)) 1
for n in 1 2 10 58 64; do
	make_snap w /dev/mapper/slow "$n"
	if [ $((n % 8)) -eq 2 ]; then seed=$n; else seed=1; fi
	check_pattern /dev/mapper/w 512 8 $seed || rc=1
	dmsetup remove w
done
is "each has its own" $rc 0

# The copy's read takes six seconds; a snapshot that it is for is deleted meanwhile.
begin_held_back 0
delete_held_back 7 "1-6,8-64"
# What a power cut now would leave.
make_nullblk crash 64
make_nullblk old-o 16
for pair in s:crash o:old-o; do
	dd if=/dev/${pair%:*} of=/dev/${pair#*:} bs=1M iflag=direct oflag=direct status=none
done
sleep 1
is "its bit has not" "$(swept && echo swept)" ""
dmesg_mark
fails_with "so there is none for another" ENOSPC message ms create
like "as a line says" "$(our_lines)" "sweep"
end_held_back
is "and a new snapshot is cut" "$(take_snapshot ms)" 65
make_snap new /dev/mapper/slow 65
ok "it has what the origin has" check_pattern /dev/mapper/new 0 8 2
ok "and not what was before" check_pattern /dev/mapper/new 512 8 99
make_snap old /dev/mapper/slow 8
ok "another has what it had" check_pattern /dev/mapper/old 0 1024 1
write_pattern /dev/mapper/ms 0 8 3
write_pattern /dev/mapper/ms 512 8 3
ok "and has it after another write" check_pattern /dev/mapper/old 0 8 1
ok "as the new one" check_pattern /dev/mapper/new 0 8 2
for name in new old ms; do dmsetup remove $name; done

ok "all is loaded again" make_ms ms /dev/mapper/slow /dev/s 8
is "with all ids" "$(ms_status ms ids)" "1-6,8-65"
fails_with "and as full" ENOSPC message ms create
make_snap new /dev/mapper/slow 65
ok "the new one is right" check_pattern /dev/mapper/new 0 8 2
dmsetup remove new
dmsetup remove ms

# The copy has gone with the machine, and nothing has been recorded of it.
ok "after a power cut meanwhile it loads" make_ms ms /dev/old-o /dev/crash 8
is "without the deleted one" "$(ms_status ms ids)" "1-6,8-64"
ok "whose sweep comes to its end" within 60 swept
is "a new one gets the bit" "$(take_snapshot ms)" 65
make_snap new /dev/old-o 65
ok "and has what the origin has" check_pattern /dev/mapper/new 0 512 1
ok "not what the one before had" check_pattern /dev/mapper/new 512 8 99
write_pattern /dev/mapper/ms 0 8 4
write_pattern /dev/mapper/ms 512 8 4
ok "also when that is copied" check_pattern /dev/mapper/new 0 512 1
ok "all of it" check_pattern /dev/mapper/new 512 8 99
make_snap old /dev/old-o 8
ok "another has what it had" check_pattern /dev/mapper/old 0 1024 1
cleanup
