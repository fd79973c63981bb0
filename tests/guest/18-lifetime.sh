#!/bin/bash
# What outlives what: restarts, other paths to the same devices, a snapshot whose
# origin is gone, a file system that stays mounted.
# cpus: 2
. ./lib.sh
plan 48

make_small 16 64 32
write_pattern /dev/mapper/ms 0 1024 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 100 2
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 64 100 3
for id in 1 2; do make_snap s$id /dev/o $id; done
write_pattern /dev/mapper/s2 500 64 4
# same: the origin and both snapshots are what they were.
same() {
	check_pattern /dev/mapper/ms 0 64 2 && check_pattern /dev/mapper/ms 64 100 3 &&
		check_pattern /dev/mapper/ms 164 860 1 && check_pattern /dev/mapper/s1 0 1024 1 &&
		check_pattern /dev/mapper/s2 0 100 2 && check_pattern /dev/mapper/s2 100 400 1 &&
		check_pattern /dev/mapper/s2 500 64 4 && check_pattern /dev/mapper/s2 564 460 1
}
ok "all is right at first" same
down() { dmsetup remove s1 && dmsetup remove s2 && dmsetup remove ms; }
up() { make_ms ms "$1" "$2" 32 && make_snap s1 "$1" 1 && make_snap s2 "$1" 2; }
ok "all goes down" down
ok "and up again" up /dev/o /dev/s
ok "with the same contents" same

# Other device numbers for the same disks, then copies of them on other disks.
down
for name in o s; do dmsetup create other-$name --table "0 $(sectors /dev/$name) linear /dev/$name 0"; done
ok "it loads under other paths" up /dev/mapper/other-o /dev/mapper/other-s
ok "with the same contents" same
down
for name in o s; do
	dmsetup remove other-$name
	make_nullblk copy-$name $(($(sectors /dev/$name) / 2048))
	dd if=/dev/$name of=/dev/copy-$name bs=1M iflag=direct oflag=direct status=none
done
ok "it loads from copies of the disks" up /dev/copy-o /dev/copy-s
ok "with the same contents" same
down
up /dev/o /dev/s

# The origin goes while its snapshots stay.
exec 7< /dev/mapper/s1
ok "the origin is removed under an open snapshot" dmsetup remove ms
fails_with "which then says EIO to a read" EIO dd if=/dev/mapper/s1 of=/tmp/out bs=4k count=1 iflag=direct
fails_with "and to a write" EIO dd if=/dev/zero of=/dev/mapper/s2 bs=4k count=1 oflag=direct
ok "its status still answers" dmsetup status s1
fails_with "a snapshot cannot be made meanwhile" ENODEV make_snap s3 /dev/o 1
ok "the origin comes back" make_ms ms /dev/o /dev/s 32
ok "and with it the snapshots" same
exec 7<&-

# An origin and a store have one user each.
make_nullblk third 16
fails_with "a second device on one origin is refused" EBUSY make_ms twin /dev/o /dev/third 32
fails_with "and one on one store" EBUSY make_ms twin /dev/third /dev/s 32
fails_with "and one on both" EBUSY make_ms twin /dev/o /dev/s 32
# A snapshot may be mapped only once: two would not see each other's writes.
dmsetup remove s1
ok "the same snapshot loads again" make_snap s1 /dev/o 1
is "the origin's content is untouched by all that" "$(same && echo same)" same

# The store knows its origin, once stopped cleanly.
down
dd if=/dev/urandom of=/dev/third bs=1M oflag=direct status=none 2> /dev/null
fails_with "another disk of that size is refused" EINVAL make_ms ms /dev/third /dev/s 32
ok "the right one is not" up /dev/o /dev/s
ok "and has its contents" same
down
write_pattern /dev/o 0 64 99
ok "an origin that was written behind our back loads" make_ms ms /dev/o /dev/s 32
is "no id has gone" "$(ms_status ms ids)" 1-2
make_snap s1 /dev/o 1
ok "what the store holds is still right" check_pattern /dev/mapper/s1 0 64 1
fails_with "what it does not hold is lost" EIO dd if=/dev/mapper/s1 of=/tmp/out bs=4k count=1 skip=1000 iflag=direct
dmsetup remove s1
dmsetup remove ms
make_ms ms /dev/o /dev/s 32
make_snap s1 /dev/o 1
fails_with "and stays so" EIO dd if=/dev/mapper/s1 of=/tmp/out bs=4k count=1 skip=1000 iflag=direct
is "a new snapshot is whole" "$(take_snapshot ms > /dev/null; make_snap s3 /dev/o 3 && check_pattern /dev/mapper/s3 164 800 1 && echo whole)" whole
cleanup

# Another table takes its place; "multisnap check" tells how the store was left: 0 is in good
# order, 3 is not.
make_small 16 64 32
write_pattern /dev/mapper/ms 0 64 1
left() {
	dmsetup reload ms "$@" --table "0 $(sectors /dev/o) multisnap-out /dev/o" && dmsetup resume ms
	multisnap check /dev/s > /dev/null
	echo $?
	dmsetup remove ms
}
is "one that can be written leaves no clean mark" "$(left)" 3
make_ms ms /dev/o /dev/s 32
is "a read-only one does" "$(left --readonly)" 0
cleanup

# An origin that ends within 4 KiB: one place of 64 is none.
make_nullblk o 16
make_nullblk s 64
dmsetup create odd --table "0 32763 linear /dev/o 0"
write_pattern /dev/mapper/odd 0 32000 1
make_ms ms /dev/mapper/odd /dev/s 32
take_snapshot ms > /dev/null
dmsetup remove ms
write_pattern /dev/mapper/odd 0 32763 2
dmesg_mark
fails_with "another origin of an odd size is refused" EINVAL make_ms ms /dev/mapper/odd /dev/s 32
like "and no snapshot loses by that" "$(our_lines)" "another origin than .* none of 63 samples agree"
write_pattern /dev/mapper/odd 0 64 1
ok "one that was written loads" make_ms ms /dev/mapper/odd /dev/s 32
like "and it is told how much of it" "$(our_lines)" "was written .*\([0-9]+ of 63 samples differ\)"
cleanup

# Sizes.
make_small 16 64 32
dmsetup remove ms
make_nullblk half 8
fails_with "a shorter origin is refused" EINVAL env ms_sectors=16384 bash -c '. ./lib.sh; trap - EXIT
	make_ms ms /dev/o /dev/s 32'
dd if=/dev/s of=/dev/half bs=1M count=8 iflag=direct oflag=direct status=none
fails_with "a store smaller than it says is refused" EINVAL make_ms ms /dev/o /dev/half 32
cleanup

# A file system that stays mounted through cuts and a reload.
make_small 64 128 32
mkfs.ext4 -q /dev/mapper/ms
mkdir -p /mnt/a /mnt/b
mount /dev/mapper/ms /mnt/a
echo one > /mnt/a/file
is "a snapshot of a mounted file system" "$(take_snapshot ms)" 1
echo two > /mnt/a/file
dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32)"
ok "a reload below it" dmsetup resume ms
make_snap snap /dev/o 1
ok "the snapshot is mounted" mount /dev/mapper/snap /mnt/b
is "and has the old file" "$(cat /mnt/b/file)" one
echo three > /mnt/b/file
sync -f /mnt/b
is "it can be written" "$(cat /mnt/b/file)" three
sync -f /mnt/a
echo 3 > /proc/sys/vm/drop_caches
is "with no effect on the origin" "$(cat /mnt/a/file)" two
fails_with "a mounted origin is not removed" EBUSY dmsetup remove ms
umount /mnt/a /mnt/b
ok "the origin's file system is sound" e2fsck -fn /dev/mapper/ms
ok "and the snapshot's" e2fsck -fn /dev/mapper/snap
ok "a snapshot is removed before" dmsetup remove snap
ok "or after its origin" dmsetup remove ms
cleanup
