#!/bin/bash
# What is put into an initramfs of initramfs-tools, and what its script makes of the root file
# system that the kernel's command line names. A system that starts with it is in tests/boot.
. ./lib.sh
plan 41

make_nullblk o 64
make_nullblk s 64
make_nullblk other 64
mine=aaaaaaaa-1111-4111-8111-111111111111
cp bin/multisnap /usr/sbin/
cp boot/63-multisnap.rules boot/57-multisnap-dm.rules /usr/lib/udev/rules.d/
mkdir -p /conf /etc/multisnap
mkfs.ext4 -q -U $mine -L before /dev/o
dmsetup create vg-o --table "0 131072 linear /dev/o 0"
mkfs.ext4 -q -L else /dev/other
other=$(blkid -s UUID -o value /dev/other)
multisnap create /dev/mapper/vg-o /dev/s --name root --enable > /dev/null 2>&1
conf=/etc/multisnap/root.conf
# What was read of the plain device before a change stays in its cache.
is "a root file system has a label" "$(blkid -c /dev/null -s LABEL -o value /dev/mapper/vg-o)" before
e2label /dev/mapper/root system

# hook: leaves what it makes below /tmp/tree, the modules that it wants, and its warnings in $said.
hook() {
	rm -rf /tmp/tree /tmp/modules
	mkdir -p /tmp/tree/usr/{bin,sbin,lib}
	run_hook
}
run_hook() {
	rc=0
	said=$(env DESTDIR=/tmp/tree version="$(uname -r)" verbose=n __MODULES_TO_ADD=/tmp/modules \
		sh boot/initramfs-tools/hook 2>&1 > /dev/null) || rc=$?
}
# asked <root=> [<kernel's command line>]: what the script says in place of it.
asked() {
	rm -f /conf/param.conf
	echo "root=$1 ro ${2:-}" > /tmp/cmdline
	mount --bind /tmp/cmdline /proc/cmdline
	env ROOT="$1" sh boot/initramfs-tools/local-top > /tmp/said 2>&1
	umount /proc/cmdline
	cat /conf/param.conf 2> /dev/null
}

hook
is "an origin that is not for it is not in it" "$(find /tmp/tree -name 'multisnap*')" ""
echo "initramfs = yes" >> $conf
# Nor is one that cannot be read a reason to leave it out.
ln -s nowhere /etc/multisnap/dangling.conf
hook
rm /etc/multisnap/dangling.conf
ok "one that is, is" cmp $conf /tmp/tree/etc/multisnap/root.conf
ok "and the command" test -x /tmp/tree/usr/sbin/multisnap
is "the rules" "$(find /tmp/tree -name '*multisnap*.rules' | wc -l)" 2
ok "and the module" grep -qx dm-multisnapshot /tmp/modules
is "it has no root file system" "$(find /tmp/tree -name '*.root')" ""
is "nothing is warned of" "$said" ""

for missing in etc usr/sbin usr/lib/udev/rules.d; do
	rm -rf /tmp/tree/$missing
	touch /tmp/tree/$missing
	run_hook
	like "an initramfs without room for $missing is none" "$rc $said" "^[1-9].* multisnap: "
	hook
done
is "with room it is one" "$rc" 0

sed -i 's/^initramfs = yes/initramfs = root/' $conf
hook
is "a root file system is written down by its names" "$(cat /tmp/tree/etc/multisnap/root.root)" \
	"$(printf '%s\n' /dev/mapper/vg-o UUID=$mine LABEL=system)"
is "nothing is warned of" "$said" ""

# A snapshot's device can have the name of the origin's.
multisnap stop root > /dev/null
multisnap start /dev/mapper/vg-o /dev/s --name elsewhere > /dev/null
multisnap snapshot elsewhere > /dev/null
multisnap activate elsewhere 1 --device root > /dev/null
e2label /dev/mapper/root snapshot
hook
like "a snapshot of that name is not taken for it" "$(cat /tmp/tree/etc/multisnap/root.root)" "LABEL=(before|system)$"
multisnap deactivate elsewhere
multisnap remove elsewhere 1 > /dev/null
multisnap stop elsewhere > /dev/null
multisnap start /dev/mapper/vg-o /dev/s --name root > /dev/null
hook

# On a machine that starts: the plain device and the other one are there.
multisnap stop root > /dev/null
cp /tmp/tree/etc/multisnap/root.root /etc/multisnap/
is "by its uuid it is the mapped device" "$(asked UUID=$mine)" ROOT=/dev/mapper/root
is "which is started" "$(dmsetup table root | cut -d ' ' -f 3)" multisnapshot
multisnap stop root > /dev/null
is "so it is by its label" "$(asked LABEL=system)" ROOT=/dev/mapper/root
is "and by the plain device that is in its file" "$(asked /dev/mapper/vg-o)" ROOT=/dev/mapper/root
is "another file system is left alone" "$(asked "UUID=$other")" ""
is "also by its label" "$(asked LABEL=else)" ""
is "and a device of which nothing is known" "$(asked UUID=12345678-1111-4111-8111-111111111111)" ""
is "the mapped device is what it is" "$(asked /dev/mapper/root)" ""
multisnap stop root > /dev/null
is "multisnap=off leaves all as it is" "$(asked UUID=$mine multisnap=off)$(dmsetup ls --target multisnapshot)" ""
is "a word like that does not" "$(asked UUID=$mine multisnap=offline)" ROOT=/dev/mapper/root
multisnap stop root > /dev/null

# A kernel that was hibernated goes on before anything is started, also if its swap must be waited for.
mkdir -p /scripts/local-premount
cat > /scripts/local-premount/resume <<'END'
sh boot/initramfs-tools/local-block
echo "$resume $(dmsetup ls --target multisnapshot)" > /tmp/at-resume
END
chmod +x /scripts/local-premount/resume
sed -i '1i #!/bin/sh' /scripts/local-premount/resume
resume=/dev/swap
export resume
is "after that the origin is started, and no image is looked for again" "$(asked UUID=$mine | tr '\n' ' ')" "resume= ROOT=/dev/mapper/root "
is "but not before" "$(cat /tmp/at-resume)" "/dev/swap "
multisnap stop root > /dev/null
ok "later it is when it comes" sh boot/initramfs-tools/local-block
is "and is there" "$(dmsetup ls --target multisnapshot | cut -f 1)" root
multisnap stop root > /dev/null
unset resume
rm -r /scripts

# Where the disks are not here, fstab says what is on them.
sed -i 's|^origin = .*|origin = /dev/disk/by-id/elsewhere|' $conf
printf '# root\nUUID=%s /home ext4 defaults 0 2\nLABEL=system / ext4 defaults 0 1\n' "$mine" > /etc/fstab
hook
is "fstab is read" "$(cat /tmp/tree/etc/multisnap/root.root)" $'/dev/disk/by-id/elsewhere\nLABEL=system'
is "and that is enough" "$said" ""
echo "/dev/x / ext4 defaults 0 1" > /etc/fstab
hook
like "a root file system without a name is told" "$said" "W: multisnap: UUID and label .* on root are not known"
file=$(modinfo -n dm-multisnapshot)
mv "$file" /tmp/
depmod
hook
mv "/tmp/${file##*/}" "$file"
depmod
like "and so is a missing module" "$said" "W: multisnap: [^ ]+ has no module dm-multisnapshot"
rm /etc/multisnap/root.root
is "then nothing is taken for it" "$(asked UUID=$mine)" ""
rm $conf

# --- one that is to be put under ----------------------------------------------------

# It has the name that is waited for before it is; the script before the mount sees to it.
dd if=/dev/zero of=/dev/s bs=128k count=1 oflag=direct status=none
multisnap under /dev/mapper/vg-o /dev/s --create --enable > /dev/null
multisnap snapshot vg-o > /dev/null
multisnap stop vg-o > /dev/null
dmsetup create vg-o --table "0 131072 linear /dev/o 0"
conf=/etc/multisnap/vg-o.conf
echo "initramfs = root" >> $conf
hook
is "it is written down by its names" "$(cat /tmp/tree/etc/multisnap/vg-o.root)" \
	"$(printf '%s\n' /dev/mapper/vg-o UUID=$mine LABEL=system)"
mkdir -p /scripts
# The real one has a shell; this one mends it the first time.
cat > /scripts/functions <<'END'
panic() { echo "panic: $*"; [ ! -e /dev/elsewhere ] || mv /dev/elsewhere /dev/s; }
END
# before_mount: what the script says, and what the device is then.
before_mount() {
	timeout 60 sh boot/initramfs-tools/local-premount 2>&1
	dmsetup table vg-o | cut -d ' ' -f 3
}
is "before it is mounted it is put under" "$(before_mount)" $'vg-o is under multisnapshot\nmultisnapshot'
is "if it is, nothing is said" "$(before_mount)" multisnapshot
multisnap stop vg-o > /dev/null
dmsetup create vg-o --table "0 131072 linear /dev/o 0"
mv /dev/s /dev/elsewhere
sed -i 's/--wait 30/--wait 1/' boot/initramfs-tools/local-premount
like "if it cannot be, nobody goes on before it is" "$(before_mount)" \
	"vg-o cannot be put under .*start with multisnap=off.*there is no /dev/s; .*panic: multisnap: .*vg-o is under multisnapshot.multisnapshot"
multisnap stop vg-o > /dev/null
dmsetup create vg-o --table "0 131072 linear /dev/o 0"
echo "root=x multisnap=off" > /tmp/cmdline
mount --bind /tmp/cmdline /proc/cmdline
is "multisnap=off goes on" "$(before_mount)" linear
umount /proc/cmdline
like "one that does not start any more is in the initramfs still, which is told" "$(multisnap disable "$(basename $conf .conf)" 2>&1)" \
	"^multisnap: the initramfs may have .*, and wait for it .* .update-initramfs -u.$"
is "it has no file" "$(ls /etc/multisnap)" ""
dmsetup remove vg-o
cleanup
