#!/bin/bash
# Snapshots of snapshots, and their deletion: contents, space that comes back, refusals.
. ./lib.sh
. ./held-back.sh
plan 61

space_used() { ms_status ms space | cut -d/ -f1; }
cut_sub() { dmsetup suspend ms && message ms create_subsnap "$@" && dmsetup resume ms; }

make_small 16 64 32
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 256 2
make_snap s1 /dev/o 1
write_pattern /dev/mapper/s1 128 64 3

# A snapshot of a snapshot.
is "a suspended origin cuts one at once" "$(cut_sub 1 child)" 1.0
is "it is listed" "$(ms_status ms ids)" "1.0,1"
is "with its name" "$(message ms list 0 10 | awk '$1 == "1.0" { print $4 }')" child
make_snap s1.0 /dev/o 1.0
same_child() {
	check_pattern /dev/mapper/s1.0 0 128 1 && check_pattern /dev/mapper/s1.0 128 64 3 &&
		check_pattern /dev/mapper/s1.0 192 1800 1
}
ok "it has what its parent had" same_child
write_pattern /dev/mapper/s1 128 64 4
write_pattern /dev/mapper/s1 1000 32 4
write_pattern /dev/mapper/ms 1000 64 5
ok "writes of parent and origin do not show in it" same_child
write_pattern /dev/mapper/s1.0 1024 32 6
write_pattern /dev/mapper/s1.0 0 32 6
ok "its own do" check_pattern /dev/mapper/s1.0 1024 32 6
ok "and not in the parent" check_pattern /dev/mapper/s1 1032 32 1
ok "which has its own" check_pattern /dev/mapper/s1 128 64 4
ok "as has the origin" check_pattern /dev/mapper/ms 1000 64 5
is "another waits for a suspend" "$(message ms create_subsnap 1)" 1.1
is "as status says" "$(ms_status ms pending)" 1.1
dmsetup suspend ms && dmsetup resume ms
make_snap s1.1 /dev/o 1.1
ok "it has what the parent has then" check_pattern /dev/mapper/s1.1 128 64 4
fails_with "there is no snapshot of it" EINVAL message ms create_subsnap 1.0
fails_with "nor of what does not exist" ENOENT message ms create_subsnap 7

# Cuts while the parent is written, in one place after the other: what a snapshot has of them is
# of one moment, that of the cut.
python3 two-blocks.py write /dev/mapper/s1 &
job=$!
reached() { [ "$(python3 two-blocks.py read /dev/mapper/s1)" -ge "$1" ]; }
within 20 reached 1
rc=0 bad=0
for n in 2 3 4 5; do
	seen=$(python3 two-blocks.py read /dev/mapper/s1)
	[ "$(cut_sub 1)" = "1.$n" ] || rc=1
	make_snap child /dev/o "1.$n"
	python3 two-blocks.py check /dev/mapper/child "$seen" || bad=1
	[ "$n" -eq 5 ] || dmsetup remove child
done
is "snapshots of a busy snapshot are cut" $rc 0
is "each has what was written before, and nothing torn" $bad 0
then=$(python3 two-blocks.py read /dev/mapper/child)
ok "the writes go on" within 20 reached $((then + 3))
is "and do not show" "$(python3 two-blocks.py read /dev/mapper/child)" "$then"
ok "all the time" kill $job
wait $job
dmsetup remove child
for id in 1 1.0 1.1; do dmsetup remove s$id; done
dmsetup remove ms
ok "all is loaded again" make_ms ms /dev/o /dev/s 32
make_snap s1.0 /dev/o 1.0
make_snap s1 /dev/o 1
is "with all ids" "$(ms_status ms ids)" "1.0-1.5,1"
ok "the child is right" check_pattern /dev/mapper/s1.0 128 64 3
ok "and has its own" check_pattern /dev/mapper/s1.0 1024 32 6
ok "and the parent" check_pattern /dev/mapper/s1 128 64 4

# Refusals.
dmesg_mark
fails_with "an open snapshot is not deleted" EBUSY message ms delete 1
is "with one line" "$(our_lines | wc -l)" 1
like "that says what to do" "$(our_lines)" "remove its device"
fails_with "one that does not exist is not" ENOENT message ms delete 9
fails_with "nor what is no id" EINVAL message ms delete x
fails_with "nor nothing" EINVAL message ms delete
fails_with "nor two at once" EINVAL message ms delete 1 2

# Deletion of the parent leaves its snapshots.
dmsetup remove s1
ok "the parent is deleted" message ms delete 1
is "and gone" "$(ms_status ms ids)" "1.0-1.5"
fails_with "it cannot be loaded" ENOENT make_snap s1 /dev/o 1
fails_with "or deleted again" ENOENT message ms delete 1
ok "its snapshot is right" check_pattern /dev/mapper/s1.0 192 800 1
for n in 1 2 3 4 5; do message ms delete 1.$n; done
ok "the sweep comes to its end" within 60 swept
ok "what is left is right" check_pattern /dev/mapper/s1.0 128 64 3
ok "everywhere" check_pattern /dev/mapper/s1.0 0 32 6
dmsetup remove s1.0
ok "the last one is deleted" message ms delete 1.0
is "none is left" "$(ms_status ms snapshots)" 0
ok "the sweep comes to its end" within 60 swept
metadata=$(ms_status ms metadata_chunks)
is "all space is free again" "$(space_used)" "$metadata"
is "the number is not given again" "$(take_snapshot ms)" 2
cleanup

# A deletion with copies held back: one for that snapshot alone, one for another too.
make_nullblk o 16
make_nullblk s 32
make_nullblk crash 32
dmsetup create slow --table "0 $(sectors /dev/o) linear /dev/o 0"
make_ms ms /dev/mapper/slow /dev/s 8
write_pattern /dev/mapper/ms 0 1024 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 512 8 99
take_snapshot ms > /dev/null
begin_held_back 0 512
delete_held_back 2 1
# What a power cut now would leave.
dd if=/dev/s of=/dev/crash bs=1M iflag=direct oflag=direct status=none
end_held_back
is "the space is back but for what the other one needs" "$(space_used)" $(($(ms_status ms metadata_chunks) + 2))
make_snap s1 /dev/mapper/slow 1
ok "which is right" check_pattern /dev/mapper/s1 0 1024 1
dmsetup remove s1
dmsetup remove ms
ok "after a power cut meanwhile the store loads" make_ms ms /dev/mapper/slow /dev/crash 8
is "without the deleted one" "$(ms_status ms ids)" 1
ok "whose sweep comes to its end" within 30 swept
dmsetup remove ms
ok "all is loaded again" make_ms ms /dev/mapper/slow /dev/s 8
is "without it too" "$(ms_status ms ids)" 1
make_snap s1 /dev/mapper/slow 1
ok "with the other one right" check_pattern /dev/mapper/s1 0 1024 1
dmsetup remove s1
is "the number is not given again" "$(take_snapshot ms)" 3
cleanup
