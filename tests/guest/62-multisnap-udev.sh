#!/bin/bash
# multisnap where udev runs: names are its links, and a snapshot's file system gets none by uuid.
. ./lib.sh
plan 27

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

# --- one that is to be put under, with the rules of tools/boot ---------------------
cp bin/multisnap /usr/sbin/
cp boot/63-multisnap.rules boot/57-multisnap-dm.rules /usr/lib/udev/rules.d/
udevadm control --reload
make_nullblk q 16
make_nullblk t 16
uuid=44443333-3333-4444-5555-666677778888
plain() { dmsetup create vg-vol --table "0 32768 linear /dev/q 0" && udevadm settle; }
# told: whether units see it, and its link by uuid.
told() {
	udevadm settle
	udevadm info -q property -n mapper/vg-vol | sed -n 's/^SYSTEMD_READY=//p'
	udevadm info -q symlink -n mapper/vg-vol | tr ' ' '\n' | grep by-uuid
}
plain
mkfs.ext4 -q -U $uuid /dev/mapper/vg-vol
multisnap under /dev/mapper/vg-vol /dev/t --create --enable > /dev/null 2> /tmp/err || diag "$(cat /tmp/err)"
multisnap snapshot vg-vol > /dev/null
multisnap enable vg-vol 1 --device vg-old > /dev/null
ready=$'1\n'disk/by-uuid/$uuid
is "one that was put under is ready" "$(told)" "$ready"
multisnap stop vg-vol > /dev/null
plain
is "one that is to be is not, and has no links" "$(told)" 0
udevadm trigger --settle --action=add /dev/dm-0
udevadm trigger --settle --action=change /dev/dm-0
is "not even when it is looked at again" "$(told)" 0
multisnap system start vg-vol > /dev/null
is "until it is" "$(told)" "$ready"
is "its snapshot is where LVM would have it" "$(readlink -f /dev/vg/old)" "$(readlink -f /dev/mapper/vg-old)"
is "and has no link by uuid" "$(udevadm info -q symlink -n mapper/vg-old | grep -c by-uuid)" 0
multisnap snapshot vg-vol > /dev/null
is "it stays ready when a snapshot is made" "$(told)" "$ready"
multisnap deactivate vg-vol
multisnap out vg-vol --lose-snapshots 2> /dev/null
is "and when it is taken out" "$(told)" "$ready"
dmsetup remove vg-vol
plain
is "made again, it is held back" "$(told)" 0
multisnap disable vg-vol
is "until it is disabled" "$(told)" disk/by-uuid/$uuid
dmsetup remove vg-vol
udevadm settle
cleanup
