#!/bin/bash
# Snapshots of snapshots, and deletion: contents, space that comes back, refusals.
. ./lib.sh
plan 62

space_used() { ms_status ms space | cut -d/ -f1; }
swept() { [ "$(ms_status ms sweep)" = - ]; }
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

# Cuts while the parent is written: no write is torn by one.
writer() { while [ ! -e /tmp/stop ]; do
	dd if=/dev/zero of=/dev/mapper/s1 bs=16k count=32 seek=16 oflag=direct status=none || return
done; }
rm -f /tmp/stop
writer &
job=$!
rc=0
for n in 2 3 4 5; do [ "$(cut_sub 1)" = "1.$n" ] || rc=1; done
touch /tmp/stop
is "snapshots of a busy snapshot are cut" $rc 0
ends_well "its writes go on" $job
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

# Every second of many: one origin write is still one copy, and each keeps what it had.
for n in $(seq 3 42); do
	write_pattern /dev/mapper/ms $((n * 32)) 32 "$n"
	take_snapshot ms > /dev/null
done
for n in $(seq 3 2 41); do message ms delete "$n" || echo "$n: $?"; done
is "every second one is deleted" "$(ms_status ms snapshots)" 21
before=$(ms_status ms copied)
write_pattern /dev/mapper/ms 3200 32 99
is "a write to what all share is one copy" $(($(ms_status ms copied) - before)) 1
ok "the sweep comes to its end" within 60 swept
rc=0
for n in 2 10 20 42; do
	make_snap s$n /dev/o $n
	[ $n -eq 2 ] || check_pattern /dev/mapper/s$n $((n * 32)) 32 $n || rc=1
	check_pattern /dev/mapper/s$n 3200 32 1 || rc=1
	dmsetup remove s$n
done
is "those that are left are right" $rc 0

# A sweep goes on after a restart.
for n in $(seq 2 2 40); do message ms delete "$n"; done
dmsetup remove ms
make_ms ms /dev/o /dev/s 32
is "a deleted snapshot does not come back" "$(ms_status ms ids)" 42
ok "and the sweep comes to its end" within 60 swept
make_snap s42 /dev/o 42
ok "the one that is left is right" check_pattern /dev/mapper/s42 1344 32 42
dmsetup remove s42
ok "it is deleted too" message ms delete 42
ok "and swept" within 60 swept
is "with all its space" "$(space_used)" "$(ms_status ms metadata_chunks)"
cleanup

# A full store: deletion works, and makes it usable.
make_small 16 10 32
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
fill() { for at in $(seq 0 2048 30720); do write_pattern /dev/mapper/ms "$at" 2048 "$1" || return; done; }
ok "the origin goes on when the store is full" fill 2
is "the mode is full" "$(ms_status ms mode)" full
ok "the snapshot is deleted" message ms delete 1
ok "the sweep comes to its end" within 60 swept
ok "the mode is rw again" within 10 test "$(ms_status ms mode)" = rw
is "a new snapshot is cut" "$(take_snapshot ms)" 2
write_pattern /dev/mapper/ms 0 512 3
make_snap s2 /dev/o 2
ok "and right" check_pattern /dev/mapper/s2 0 4096 2
dmsetup remove s2

# While copies for it are under way.
write_pattern /dev/mapper/ms 8192 512 3 &
job=$!
ok "a snapshot is deleted under load" message ms delete 2
ends_well "no write fails" $job
ok "the sweep comes to its end" within 60 swept
is "with all its space" "$(space_used)" "$(ms_status ms metadata_chunks)"
cleanup
