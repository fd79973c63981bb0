#!/bin/bash
# What the system itself says of its start; the second time it also knows of the first, and the
# third is one with multisnap=off; in the fourth the root file system is put under while it is in use,
# and in the fifth the initramfs has done that.
export PATH=/usr/sbin:/usr/bin
cd /usr/local/lib/boot-test || exit
. ./lib.sh
stage=1
[ ! -e stage ] || stage=2
! grep -qw multisnap=off /proc/cmdline || stage=off
! grep -qw root=/dev/mapper/sys-root /proc/cmdline || stage=$([ $stage = off ] && echo under || echo again)
hibernates=$(grep -c ' resume=' /proc/cmdline)
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
	echo "1..$((stage == 1 ? 51 : 47 + hibernates * 6))"
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
	ok "and /kept with its snapshot" before kept.mount local-fs.target
	ok "the other one as well" before 'kept\x2dbefore.mount' local-fs.target
	local odd='multisnap@vg\x2dodd.service'
	[ "$stage" = 2 ] || within 10 systemctl is-failed "$odd" > /dev/null
	is "no unit failed, but of the volume that another system wrote" \
		"$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)" "$([ "$stage" = 2 ] || echo "$odd")"
	for name in root ms-home lv vg-kept; do
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

	# Logical volumes that are put under.
	is "/kept is on its own device" "$(source_of /kept) $(dmsetup table vg-kept | cut -d ' ' -f 3)" "/dev/mapper/vg-kept multisnapshot"
	is "and has what was last" "$(cat /kept/file)" "$([ "$stage" = 1 ] && echo two || echo three)"
	is "its snapshot is where LVM would have it" "$(dev_of /dev/vg/before)" "$(dev_mounted /kept-before)"
	is "by the device that it had" "$(source_of /kept-before)" /dev/mapper/vg-before
	is "with what was there" "$(cat /kept-before/file)" one
	is "nothing was lost" "$(journalctl -k -b --no-pager | grep -c 'was written while')" 0

	if [ "$stage" -eq 1 ]; then
		echo three > /kept/file
		is "one that was written by another system stays plain" "$(dmsetup table vg-odd | cut -d ' ' -f 3)" linear
		is "is not mounted" "$(source_of /odd)" ""
		is "and has no links" "$(links /dev/mapper/vg-odd)" ""
		like "its unit says what to do" "$(journalctl -b --no-pager -u "$odd")" \
			"vg-odd was written without multisnapshot, so 1 snapshot in .*multisnap under /dev/mapper/vg-odd /dev/mapper/vg-odd--msstore --lose-snapshots"
		ok "which puts it under" multisnap under /dev/mapper/vg-odd /dev/mapper/vg-odd--msstore --lose-snapshots
		is "what is lost is in the journal" "$(journalctl -k -b --no-pager | grep -c 'was written while')" 1
		ok "and starts the unit" within 10 systemctl is-active "$odd"
		ok "then it can be mounted" systemctl start odd.mount
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
	# Nobody waits for it.
	within 60 mountpoint -q /odd
	is "what was written by another system is mounted again" "$(source_of /odd) $(cat /odd/file)" "/dev/mapper/vg-odd three"
	local unit='multisnap@vg\x2dodd.service'
	systemctl stop odd.mount
	ok "a volume that nobody uses is deactivated" lvchange -q -q -an vg/odd
	ok "and its unit ends" within 10 is_not_active "$unit"
	ok "with all that is left it is activated" vgchange -q -q -ay vg
	ok "and put under again" within 10 systemctl is-active "$unit"
	is "with nothing lost" "$(dmsetup table vg-odd | cut -d ' ' -f 3) $(journalctl -k -b --no-pager | grep -c 'was written while')" "multisnapshot 0"
	ok "so it can be mounted" systemctl start odd.mount
	is "the root's snapshot is mounted, without what came later" "$(source_of /root-before) $(cat /etc/changed; compgen -G '/root-before/etc/change[d]')" "/dev/mapper/root-1 changed"
	[ "$hibernates" = 0 ] || tests_hibernation
}

# The machine restarts in here, and its kernel goes on where it was. A start that does not meets the
# file, and says so.
tests_hibernation() {
	local swap=/dev/disk/by-id/virtio-swap boot checkpoints
	ok "there is room for an image" swapon $swap
	touch hibernated
	sync
	boot=$(cat /proc/sys/kernel/random/boot_id)
	checkpoints=$(checkpoints_of_root)
	echo reboot > /sys/power/disk
	echo 0 > /sys/power/image_size
	ok "the machine hibernates, and goes on" timeout 200 sh -c 'echo disk > /sys/power/state'
	is "as the kernel that it was" "$(cat /proc/sys/kernel/random/boot_id)" "$boot"
	is "while nobody has written to the root's store" "$(checkpoints_of_root)" "$checkpoints"
	forget_pages
	is "its snapshot is as it was" "$(cat /etc/changed; compgen -G '/root-before/etc/change[d]')" changed
	ok "and another one is cut" multisnap snapshot root
	rm hibernated
	swapoff $swap
}
checkpoints_of_root() { dd if=/dev/disk/by-id/virtio-root-store iflag=direct bs=4k skip=8 count=9 status=none | sha256sum; }

# Plain devices are used as they are, and nothing of ours is there.
tests_off() {
	echo "1..13"
	is "the root file system is on its plain device" "$(dev_mounted /)" "$(dev_of /dev/disk/by-id/virtio-root)"
	is "so is /home" "$(dev_mounted /home)" "$(dev_of /dev/disk/by-id/virtio-home)"
	is "and /lv" "$(source_of /lv)" /dev/mapper/vg-data
	for name in kept odd; do
		within 60 mountpoint -q /$name
		is "/$name is plain" "$(source_of /$name) $(dmsetup table vg-$name | cut -d ' ' -f 3)" "/dev/mapper/vg-$name linear"
		ok "and its store was left in good order" multisnap check "/dev/vg/$name-msstore"
	done
	is "no origin and no snapshot is there" "$(dmsetup table | grep multisnap)" ""
	is "no unit was asked for" "$(systemctl list-units --all --no-legend --plain 'multisnap@*')" ""
	is "no unit failed" "$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)" ""
	for place in / /home; do
		is "the link of $place by uuid is the plain device's" \
			"$(dev_of "/dev/disk/by-uuid/$(uuid $place)")" "$(dev_mounted $place)"
	done
	is "and so is /lv's by label" "$(dev_of /dev/disk/by-label/lv)" "$(dev_of /dev/mapper/vg-data)"
}

# The device that the system itself runs from: nothing that is called lies in memory, and somebody
# writes all the time.
tests_under() {
	local store=/dev/mapper/sys-spare writer id
	echo "1..22"
	is "the root file system is on a logical volume" "$(source_of /) $(kind)" "/dev/mapper/sys-root linear"
	touch /var/tmp/writes
	write_on &
	writer=$!
	for id in 1 2; do
		forget_pages
		[ "$id" = 1 ] || ok "and under again" timeout 120 multisnap under /dev/mapper/sys-root $store --lose-snapshots
		[ "$id" = 2 ] || ok "it is put under, in LVM's words, while the system runs from it" \
			timeout 120 multisnap-lvm lvcreate -s -L 32M --snapshotstore spare sys/root
		is "and is live" "$(kind) $(state)" "multisnapshot Active:Live"
		echo "before $id" > /etc/under
		forget_pages
		is "a snapshot is cut" "$(timeout 120 multisnap snapshot sys-root)" $id
		echo after > /etc/under
		mount -o ro,noload "$(multisnap activate sys-root $id --read-only)" /mnt
		is "which has what was there" "$(cat /mnt/etc/under)" "before $id"
		umount /mnt
		[ "$id" = 1 ] || break
		forget_pages
		ok "it is taken out" timeout 120 multisnap out sys-root --lose-snapshots
		is "and is as it was" "$(kind) $(state) $(dmsetup ls | grep -c msorigin)" "linear Active:Live 0"
	done
	forget_pages
	ok "a grow is nothing" timeout 120 multisnap grow sys-root
	is "the root file system is on the same device" "$(source_of /)" /dev/mapper/sys-root
	is "which has the link by uuid" "$(dev_of "/dev/disk/by-uuid/$(uuid /)")" "$(dev_of /dev/mapper/sys-root)"
	id=$(cat /var/tmp/written)
	ok "what is written all the time goes on" within 10 goes_beyond "$id"
	rm /var/tmp/writes
	wait "$writer"
	is "and has met no error" "$?" 0
	is "nor has the file system" "$(journalctl -k -b --no-pager | grep -cE 'EXT4-fs (error|warning)|Buffer I/O error|blocked for more than')" 0
	is "it can be written" "$(findmnt -no OPTIONS / | cut -d , -f 1)" rw
	is "no unit failed" "$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)" ""
	is "and systemd is as it should be" "$(systemctl is-active -- -.mount)" active
	ok "it is enabled" multisnap enable sys-root 2 --device sys-old --read-only
	is "to be put under early" "$(grep -v '^#' /etc/multisnap/sys-root.conf | tr '\n' ' ')" \
		"origin = /dev/mapper/sys-root store = $store under = yes initramfs = root snapshot = 2 read-only device=sys-old "
	multisnap disable root
}
# It was shut down in good order then.
tests_again() {
	local kept='multisnap@vg\x2dkept.service'
	echo "1..11"
	is "the root file system is on its device" "$(source_of /)" /dev/mapper/sys-root
	is "which is under" "$(kind) $(state)" "multisnapshot Active:Live"
	is "and has what was last" "$(cat /etc/under)" after
	mount -o ro,noload /dev/mapper/sys-old /mnt
	is "its snapshot has what was there" "$(cat /mnt/etc/under)" "before 2"
	umount /mnt
	is "nothing was lost" "$(journalctl -k -b --no-pager | grep -c ': sys-root .*was written while')" 0
	is "it has the link by uuid" "$(dev_of "/dev/disk/by-uuid/$(uuid /)")" "$(dev_of /dev/mapper/sys-root)"
	is "its unit is active" "$(systemctl is-active 'multisnap@sys\x2droot.service')" active
	is "it can be written" "$(findmnt -no OPTIONS / | cut -d , -f 1)" rw
	ok "and cut" multisnap snapshot sys-root
	within 10 systemctl is-failed "$kept" > /dev/null
	# /home was written as well, and its snapshots may have lost what they are mounted by.
	is "no unit failed, but of the volumes that were written with multisnap=off" \
		"$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1 | grep -vE '^(before|old)\.mount$')" "$kept"
	is "which is not mounted" "$(source_of /kept)" ""
}
kind() { dmsetup table sys-root | cut -d ' ' -f 3; }
state() { dmsetup info -c --noheadings -o suspended,tables_loaded sys-root; }
forget_pages() { sync; echo 3 > /proc/sys/vm/drop_caches; }
write_on() {
	local n=0
	while [ -e /var/tmp/writes ]; do
		n=$((n + 1))
		echo $n > /var/tmp/written && sync /var/tmp/written || return
		sleep 0.1
	done
}
is_not_active() { ! systemctl is-active "$1"; }
goes_beyond() { [ "$(cat /var/tmp/written)" -gt "$1" ]; }
# within <seconds> <command>...
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

if [[ $stage = [a-z]* ]]; then
	rm -f tap-* journal-*
	"tests_$stage" > "tap-$stage" 2>&1
elif [ -e hibernated ]; then
	echo "not ok - the kernel that was hibernated goes on" > tap-anew
else
	tests > "tap-$stage" 2>&1
fi
grep -q '^not ok' tap-* && journalctl -b --no-pager > "journal-$stage"
if [ "$stage" = 1 ]; then
	systemctl reboot --no-block
else
	rc=0
	! grep -q '^not ok' tap-* || rc=1
	cat tap-* > tap
	# Snapshots have no devices at the next start, and /kept none in the last.
	sed -i -E '/^.dev.(mapper|vg)\//s/ ext4 / ext4 nofail,/' /etc/fstab
	tar -cf - tap journal-* 2> /dev/null | dd of=/dev/disk/by-id/virtio-guest-out bs=64k conv=fsync,notrunc status=none
	say "guest: the payload ended with status $rc"
	say "guest: end"
	systemctl poweroff --no-block
fi
