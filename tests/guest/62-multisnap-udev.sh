#!/bin/bash
# multisnap where udev runs: names are its links, and a snapshot's file system gets none by uuid.
. ./lib.sh
plan 17

unset DM_DISABLE_UDEV
/usr/lib/systemd/systemd-udevd --daemon || exit
udevadm control --reload
udevadm trigger && udevadm settle
end_udev() {
	local rc=$?
	udevadm settle
	udevadm control --exit
	rm -rf /run/udev
	(exit "$rc")
	at_exit
}
trap end_udev EXIT

make_nullblk o 64
make_nullblk s 64
udevadm settle
uuid=11112222-3333-4444-5555-666677778888
by_uuid() { readlink -f "/dev/disk/by-uuid/$uuid"; }
ok "an origin is started" multisnap create /dev/o /dev/s --name home
is "its name is a link" "$(readlink /dev/mapper/home)" ../dm-0
mkfs.ext4 -q -U $uuid /dev/mapper/home
udevadm settle
is "its file system has one by uuid" "$(by_uuid)" /dev/dm-0
mkdir -p /mnt/a
mount /dev/mapper/home /mnt/a
is "a snapshot" "$(multisnap snapshot home)" 1
is "has a device" "$(multisnap activate home 1)" /dev/mapper/home-1
is "whose name is a link" "$(readlink /dev/mapper/home-1)" ../dm-1
udevadm settle
is "the link by uuid is the origin's" "$(by_uuid)" /dev/dm-0
is "and the snapshot has none" "$(udevadm info -q symlink /dev/dm-1 | grep -c by-uuid)" 0
udevadm trigger --settle /dev/dm-1
is "not even when it is looked at again" "$(by_uuid)" /dev/dm-0
is "a second cut" "$(multisnap snapshot home)" 2
udevadm settle
is "leaves the origin its links" "$(by_uuid) $(readlink /dev/mapper/home)" "/dev/dm-0 ../dm-0"
is "a snapshot of the snapshot" "$(multisnap snapshot home --of 1)" 1.0
udevadm settle
is "makes it no links" "$(by_uuid) $(udevadm info -q symlink /dev/dm-1 | grep -c by-uuid)" "/dev/dm-0 0"
ok "the snapshot is deactivated" multisnap deactivate home
is "and its name gone" "$(ls /dev/mapper)" "control"$'\n'"home"
umount /mnt/a
ok "the origin is stopped" multisnap stop home
is "and no name is left" "$(ls /dev/mapper)" control
udevadm settle
cleanup
