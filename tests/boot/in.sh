#!/bin/bash
# What the system itself says of its start; the second time it also knows of the first, and the
# third is one with multisnap=off.
export PATH=/usr/sbin:/usr/bin
cd /usr/local/lib/boot-test || exit
. ./lib.sh
stage=1
[ ! -e stage ] || stage=2
! grep -qw multisnap=off /proc/cmdline || stage=off
# Whoever wrote before may not have ended his line.
say() { printf '\n%s\n' "$*" > /dev/console; }
[ "$stage" = 2 ] || say "guest: start"

source_of() { findmnt -no SOURCE "$1"; }
dev_of() { stat -Lc %Hr:%Lr "$1"; }
dev_mounted() { findmnt -no MAJ:MIN "$1" | tr -d ' '; }
# before <unit> <unit>: became active before the other did.
since() { systemctl show -P ActiveEnterTimestampMonotonic "$1"; }
before() { [ "$(since "$1")" -gt 0 ] && [ "$(since "$1")" -le "$(since "$2")" ]; }
links() { udevadm info -q symlink "$1" | tr ' ' '\n' | grep -E 'by-(uuid|label)/'; }
uuid() { sed -n "s|^UUID=\([^ ]*\) $1 .*|\1|p" /etc/fstab; }

tests() {
	echo "1..$((stage == 1 ? 34 : 31))"
	is "the root file system is on its origin" "$(source_of /)" /dev/mapper/root
	is "which is of the target" "$(dmsetup table root | cut -d ' ' -f 3)" multisnapshot
	is "/home is on its origin" "$(source_of /home)" /dev/mapper/ms-home
	is "and has what was last" "$(cat /home/file)" three
	is "the snapshot by name is mounted" "$(source_of /before) $(cat /before/file)" "/dev/mapper/ms-home-1 one"
	is "it is read-only" "$(blockdev --getro /dev/mapper/ms-home-1)" 1
	is "the one by id is" "$(source_of /old) $(cat /old/file)" "/dev/mapper/home-old two"
	is "it is not read-only" "$(blockdev --getro /dev/mapper/home-old)" 0
	is "what nobody wants is not there" "$(compgen -G '/dev/mapper/ms-home-[23]')" ""
	is "/lv is on its origin" "$(source_of /lv)" /dev/mapper/lv
	is "which is loaded as it was" "$(dmsetup table lv | grep -c 'low-water')" 1
	is "and /home's as was said" "$(dmsetup table ms-home | grep -c 'preserve-on-error')" 1
	ok "/home was mounted before local-fs" before home.mount local-fs.target
	ok "so was the snapshot" before before.mount local-fs.target
	ok "and /lv" before lv.mount local-fs.target
	is "no unit failed" "$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)" ""
	for name in root ms-home lv; do
		is "the unit of $name is active" "$(systemctl is-active "multisnap@$(systemd-escape "$name").service")" active
	done
	is "a snapshot that is gone is told, while it is wanted" \
		"$(journalctl -b -u 'multisnap@ms\x2dhome.service' | grep -c 'has no snapshot gone;.*disable ms-home gone')" $((2 - stage))

	# Links.
	for place in / /home; do
		is "the link of $place by uuid is the mapped device's" \
			"$(dev_of "/dev/disk/by-uuid/$(uuid $place)")" "$(dev_of "$(source_of $place)")"
	done
	is "and so is /lv's by label" "$(dev_of /dev/disk/by-label/lv)" "$(dev_of /dev/mapper/lv)"
	for plain in /dev/disk/by-id/virtio-root /dev/disk/by-id/virtio-home /dev/vg/data; do
		is "$plain has none" "$(links $plain)" ""
	done
	for name in ms-home-1 home-old; do
		is "nor has $name" "$(links /dev/mapper/$name)" ""
	done
	udevadm trigger --settle --action=change /dev/disk/by-id/virtio-home /dev/mapper/home-old
	dmsetup suspend home-old
	dmsetup resume home-old
	udevadm settle
	is "not even when they change, and nobody says whose they are" "$(links /dev/disk/by-id/virtio-home)$(links /dev/mapper/home-old)" ""
	is "/home is still mounted" "$(source_of /home)" /dev/mapper/ms-home

	if [ "$stage" -eq 1 ]; then
		ok "a snapshot of the root file system is cut" multisnap snapshot root --name first
		ok "it is wanted" multisnap enable root first --read-only
		echo "/dev/mapper/root-1 /root-before ext4 ro,noload 0 0" >> /etc/fstab
		echo changed > /etc/changed
		ok "one of /home is not any more" multisnap disable ms-home gone
		ok "what is enabled twice is so once" multisnap enable lv
		touch stage
	else
		tests_later
	fi
}
tests_later() {
	is "the root's snapshot is mounted, without what came later" "$(source_of /root-before) $(cat /etc/changed; compgen -G '/root-before/etc/change[d]')" "/dev/mapper/root-1 changed"
}

# Plain devices are used as they are, and nothing of ours is there.
tests_off() {
	echo "1..9"
	is "the root file system is on its plain device" "$(dev_mounted /)" "$(dev_of /dev/disk/by-id/virtio-root)"
	is "so is /home" "$(dev_mounted /home)" "$(dev_of /dev/disk/by-id/virtio-home)"
	is "and /lv" "$(source_of /lv)" /dev/mapper/vg-data
	is "no origin and no snapshot is there" "$(dmsetup table | grep multisnap)" ""
	is "no unit was asked for" "$(systemctl list-units --all --no-legend --plain 'multisnap@*')" ""
	is "no unit failed" "$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)" ""
	for place in / /home; do
		is "the link of $place by uuid is the plain device's" \
			"$(dev_of "/dev/disk/by-uuid/$(uuid $place)")" "$(dev_mounted $place)"
	done
	is "and so is /lv's by label" "$(dev_of /dev/disk/by-label/lv)" "$(dev_of /dev/mapper/vg-data)"
}

if [ "$stage" = off ]; then
	rm -f tap-* journal-*
	tests_off > tap-off 2>&1
else
	tests > tap-$stage 2>&1
fi
grep -q '^not ok' tap-* && journalctl -b --no-pager > journal-$stage
if [ "$stage" = 1 ]; then
	systemctl reboot --no-block
else
	rc=0
	! grep -q '^not ok' tap-* || rc=1
	cat tap-* > tap
	# Snapshots have no devices at the next start.
	sed -i '/^.dev.mapper/s/ ext4 / ext4 nofail,/' /etc/fstab
	tar -cf - tap journal-* 2> /dev/null | dd of=/dev/disk/by-id/virtio-guest-out bs=64k conv=fsync,notrunc status=none
	say "guest: the payload ended with status $rc"
	say "guest: end"
	systemctl poweroff --no-block
fi
