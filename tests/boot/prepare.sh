#!/bin/bash
# Sets the system up as somebody would who works on it: in a chroot of its root file system, for
# which that is "/".
set -eu -o pipefail
root=/mnt/root
mkdir -p $root /dev/disk/by-id
for name in root root-store home home-store pv; do
	ln -s "$(readlink -f "/dev/disk/$name")" "/dev/disk/by-id/virtio-$name"
done
modprobe dm-multisnapshot
mount -t ext4 /dev/disk/root $root
for dir in dev proc sys run; do mount --rbind /$dir $root/$dir; done
export DM_DISABLE_UDEV=1
in_root() { chroot $root "$@"; }
id=/dev/disk/by-id/virtio
uuid() { sed -n "s|^UUID=\([^ ]*\) $1 .*|\1|p" fstab; }

# /home, on disks, by uuid; two snapshots of it.
in_root multisnap create $id-home $id-home-store --name ms-home --preserve-on-error --enable
mkfs.ext4 -q -U "$(uuid /home)" -L home /dev/mapper/ms-home
mkdir /mnt/home
mount /dev/mapper/ms-home /mnt/home
echo one > /mnt/home/file
in_root multisnap snapshot ms-home --name before
in_root multisnap enable ms-home before --read-only
echo two > /mnt/home/file
in_root multisnap snapshot ms-home
in_root multisnap enable ms-home 2 --device home-old
echo three > /mnt/home/file
# One that nobody wants, and one that is wanted and gone.
in_root multisnap snapshot ms-home --name unwanted
in_root multisnap snapshot ms-home --name gone
in_root multisnap enable ms-home gone
in_root multisnap remove ms-home gone
umount /mnt/home
in_root multisnap stop ms-home

# /lv, on logical volumes, by label.
pvcreate -q $id-pv
vgcreate -q vg $id-pv
lvcreate -q -y -n data -L 40M vg
lvcreate -q -y -n store -L 40M vg
vgmknodes
in_root multisnap create /dev/vg/data /dev/vg/store --name lv --low-water 10%
in_root multisnap enable lv
mkfs.ext4 -q -L lv /dev/mapper/lv
in_root multisnap stop lv

# Logical volumes that are put under where they are, in LVM's words: /kept by LVM's names, /odd by label.
mkdir /mnt/lv
for name in kept odd; do
	lvcreate -q -y -n $name -L 16M vg
	vgmknodes
	mkfs.ext4 -q -L $name /dev/vg/$name
	mount /dev/vg/$name /mnt/lv
	echo one > /mnt/lv/file
	# LVM has a warning that looks like one of the kernel's.
	in_root multisnap-lvm lvcreate -s -L 12M -n "$([ $name = kept ] && echo before || echo first)" vg/$name 2>&1 |
		sed 's/WARNING: //'
	echo two > /mnt/lv/file
	umount /mnt/lv
	in_root multisnap stop vg-$name
done
# This one is used by another system, which knows nothing of us.
lvchange -q -ay vg/odd
mount /dev/vg/odd /mnt/lv
echo three > /mnt/lv/file
umount /mnt/lv
vgchange -q -an vg

# The root file system, while it runs, by the recipe of boot.rst. Its last two commands are for who
# makes the initramfs and starts the machine.
python3 ./document.py boot.rst root | sed "/^$/d; s|/dev/vg/root|$id-root|g" > $root/tmp/recipe
[ "$(tail -n 2 $root/tmp/recipe)" = $'update-initramfs -u\nreboot' ]
sed -i '$d' $root/tmp/recipe
sed -i '$d' $root/tmp/recipe
in_root bash -eux /tmp/recipe
for file in "$root"/etc/multisnap/*.conf; do echo "== $file"; cat "$file"; done
mountpoint -q $root
umount -R $root
