#!/bin/bash
# What is started with the machine: the files that "multisnap enable" writes, and what units, rules
# and hooks call. Whole systems that start so are in tests/boot.
. ./lib.sh
plan 95

. ./multisnap.sh
file() { grep -v '^#' "/etc/multisnap/$1.conf"; }
in_order() { multisnap check "$1" > /dev/null; echo $?; }

make_nullblk o 64
make_nullblk s 64
# The links that udev would make.
mkdir -p /dev/disk/by-id /mnt/a
for name in o s; do ln -s ../../$name /dev/disk/by-id/disk-$name; done

# --- enable -------------------------------------------------------------------

refused "what is not started is not enabled" "home is not started.*multisnap start" enable home
refused "nor disabled" "home is not started" disable home
ms create /dev/o /dev/disk/by-id/disk-s --name home --preserve-on-error --low-water 10% --enable
is "an origin is made, started and enabled" "$rc $err" "0 "
is "its file has names that stay, and how it is started" "$(file home)" \
	"origin = /dev/disk/by-id/disk-o
store = /dev/disk/by-id/disk-s
preserve-on-error = yes
low-water = 10%"
multisnap snapshot home --name first > /dev/null
multisnap snapshot home --name second > /dev/null
refused "a snapshot that is not there" "home has no snapshot third" enable home third
refused "one name for two" "one name to several devices" enable home 1 2 --device x
refused "a name that cannot be" "can be no name" enable home 1 --device a/b
prints "one is enabled" "home starts with the machine: /etc/multisnap/home.conf" enable home first --read-only
prints "and another one" '{"volume":"home","file":"/etc/multisnap/home.conf"}' enable home 2 --device old --json
is "they are in the file" "$(file home | grep ^snapshot)" $'snapshot = first read-only\nsnapshot = 2 device=old'
ms enable home first
is "with other words it is there once" "$(file home | grep ^snapshot)" $'snapshot = 2 device=old\nsnapshot = first'
refused "what is not in the file is not disabled" "has no line for snapshot second" disable home second
refused "one snapshot in two words" "snapshot 1 already, in the words first; .*disable home first" enable home 1
refused "not even in one line" "snapshot second already, in the words 2; " enable home 'sec*' second
is "then nothing is written" "$(file home | grep ^snapshot)" $'snapshot = 2 device=old\nsnapshot = first'
prints "the words of the file are" "" disable home 2
ms enable home 2 --device old
multisnap stop home > /dev/null
ln -s ../../o "/dev/disk/by-id/a b"
ln -s ../../o /dev/disk/by-id/lvm-pv-uuid-x
rm /dev/disk/by-id/disk-o
ms start "/dev/disk/by-id/a b" /dev/s --name blank --enable
is "no path with a blank is written, nor one by what is on the device" "$rc $(file blank | head -n 1)" "0 origin = /dev/o"
ln -s ../../o /dev/disk/by-id/disk-o
multisnap stop blank > /dev/null
multisnap disable blank
ms start "/dev/disk/by-id/a b" /dev/s --name blank --enable
is "another link is" "$rc $(file blank | head -n 1)" "0 origin = /dev/disk/by-id/disk-o"
multisnap stop blank > /dev/null
multisnap disable blank
rm "/dev/disk/by-id/a b" /dev/disk/by-id/lvm-pv-uuid-x
refused "what could not be read is not written" "blank.conf cannot be written: it is wrong in line 4: .* no share" \
	start /dev/o /dev/s --name blank --low-water 1O% --enable
is "nor is it started" "$(dmsetup ls --target multisnapshot) $(ls /etc/multisnap)" "No devices found home.conf"
dmsetup create o2 --table "0 65536 linear /dev/o 65536"
ms create /dev/mapper/o2 /dev/o --name home --enable
like "a file is not written over" "$rc $err" "^2 multisnap: /etc/multisnap/home.conf is there already; "
dmsetup remove o2

rc=0
multisnap start /dev/o /dev/s --name full --enable > /dev/full 2> /tmp/err || rc=$?
is "the file is there though nothing could be told" "$rc $(cd /etc/multisnap && echo *)" "2 full.conf home.conf"
multisnap disable full
multisnap stop full > /dev/null

# --- start --------------------------------------------------------------------

ms system start home
is "it is started as the file says" "$rc $err" "0 "
like "with the options" "$(dmsetup table home)" " 3 preserve-on-error low-water [0-9]* btree"
is "and its snapshots" "$(dmsetup ls --target multisnap-snap | cut -f 1 | sort | tr '\n' ' ')" "home-1 old "
prints "again is nothing" "" system start home
cp /etc/multisnap/home.conf /tmp/home.conf
sed -i 's|^store = .*|store = /dev/null|' /etc/multisnap/home.conf
refused "to a file for another store nothing is added" "home.conf names /dev/null as the store, not /dev/s; .*disable home" enable home 1
sed -i 's|^origin = .*|origin = /dev/s|' /etc/multisnap/home.conf
refused "nor to one for another origin" "home.conf names /dev/s as the origin, not /dev/o; .*disable home" enable home
cp /tmp/home.conf /etc/multisnap/
multisnap deactivate home 1
prints "what is missing is made" "" system start home
is "and is there" "$(dmsetup info -c --noheadings -o name home-1)" home-1
multisnap deactivate home
multisnap remove home second > /dev/null
ms system start home
like "a snapshot that is gone is told" "$rc $err" "^0 multisnap: home has no snapshot 2; .*disable home 2"
is "and the rest is done" "$(dmsetup ls --target multisnap-snap | cut -f 1)" home-1
cp /etc/multisnap/home.conf /tmp/kept
multisnap deactivate home
sed -i '/^snapshot/d' /etc/multisnap/home.conf
printf 'snapshot = %s\n' '*' 'first device=mine' 1 >> /etc/multisnap/home.conf
prints "a snapshot that is meant by several lines gets one device" "" system start home
is "by the first that means nothing else" "$(dmsetup ls --target multisnap-snap | cut -f 1)" mine
mv /tmp/kept /etc/multisnap/home.conf
multisnap deactivate home
multisnap activate home 1 > /dev/null

# --- stop ---------------------------------------------------------------------

prints "it is stopped" "home is stopped, and so is one of its snapshots" system stop home
prints "again is nothing" "" system stop home
is "the store is in good order" "$(in_order /dev/s)" 0
ms system start-present
is "all whose devices are there are started" "$rc $err $(dmsetup ls --target multisnapshot | cut -f 1)" "0  home"
is "without snapshots" "$(dmsetup ls --target multisnap-snap)" ""
mkfs.ext4 -q /dev/mapper/home
mount /dev/mapper/home /mnt/a
refused "one that is mounted is not stopped" "is mounted at /mnt/a" system stop home --wait 1
( sleep 2; umount /mnt/a ) &
prints "unless that ends in time" "home is stopped" system stop home --wait 30
wait
rm /dev/disk/by-id/disk-s
prints "without its store it is not among those" "" system start-present
refused "nor started" "there is no /dev/disk/by-id/disk-s; it is started when" system start home
( sleep 2; ln -s ../../s /dev/disk/by-id/disk-s ) &
ms system start home --wait 30
is "unless that appears in time" "$rc $err" "0 multisnap: home has no snapshot 2; see which there are: multisnap list home; want it no more: multisnap disable home 2"
wait

# --- the end of the machine ---------------------------------------------------

multisnap deactivate home
mount /dev/mapper/home /mnt/a
ms system shutdown
like "what is mounted to be written is left" "$rc $err" "^0 multisnap: home was not stopped in good order: .*mounted to be written"
is "as it is" "$(dmsetup table home | cut -d ' ' -f 3)" multisnapshot
mount -o remount,ro /mnt/a
prints "what is mounted to be read" "" system shutdown
is "gets a table that passes no write" "$(dmsetup table home | cut -d ' ' -f 3)" multisnap-out
is "that cannot be written" "$(blockdev --getro /dev/mapper/home)" 1
is "the store is in good order" "$(in_order /dev/s)" 0
ok "what is mounted can still be read" ls /mnt/a/lost+found
umount /mnt/a
dmsetup remove home
ms system start-present
prints "what nobody uses" "" system shutdown
is "is removed" "$(dmsetup ls) $(in_order /dev/s)" "No devices found 0"

# --- udev ---------------------------------------------------------------------

# asked <device> <links>: what its rule is told.
asked() {
	env DEVNAME="$1" DEVLINKS="$2" MAJOR="$(($(stat -Lc 0x%t "$1")))" MINOR="$(($(stat -Lc 0x%T "$1")))" \
		multisnap system udev
}
is "an origin is hidden" "$(asked /dev/o "")" $'MULTISNAP_UNIT=multisnap@home.service\nMULTISNAP_ROLE=origin'
is "a store is not" "$(asked /dev/s "")" "MULTISNAP_UNIT=multisnap@home.service"
rm /dev/disk/by-id/disk-s
is "nor is one whose link is not made yet" "$(asked /dev/s "/dev/x /dev/disk/by-id/disk-s")" "MULTISNAP_UNIT=multisnap@home.service"
ln -s ../../s /dev/disk/by-id/disk-s
mount -o ro,noload /dev/o /mnt/a
is "nor is an origin that is mounted as it is" "$(asked /dev/o "")" "MULTISNAP_UNIT=multisnap@home.service"
refused "which is not started" "is mounted at /mnt/a" system start home
umount /mnt/a
make_nullblk p 8
is "nobody else is told anything" "$(asked /dev/p "")" ""
echo "colour = red" >> /etc/multisnap/home.conf
refused "a file that is wrong is told with its line" "line 8: there is no key .colour" system start home
is "its origin is hidden all the same" "$(asked /dev/o "")" $'MULTISNAP_UNIT=multisnap@home.service\nMULTISNAP_ROLE=origin'
echo "under = maybe" >> /etc/multisnap/home.conf
is "or held back" "$(asked /dev/o "" | tail -n 1)" "MULTISNAP_ROLE=held"
prints "and can be disabled" "" disable home
is "then there is none" "$(ls /etc/multisnap)" ""
rm -r /dev/disk/by-id

# --- put under ------------------------------------------------------------------

make_nullblk q 16
make_nullblk t 16
plain() { dmsetup create vol --table "0 32768 linear /dev/q 0"; }
# asked_of_vol <links>: what udev's rule is told of it.
asked_of_vol() { DM_NAME=vol asked /dev/mapper/vol ""; }
kind() { dmsetup table vol | cut -d ' ' -f 3; }
state() { echo "$(kind) $(dmsetup ls | grep -c msorigin)"; }
plain
mkfs.ext4 -q /dev/mapper/vol
write_pattern /dev/mapper/vol 8192 128 1
ms under /dev/mapper/vol /dev/t --create --enable
like "a device is put under and enabled" "$rc $err" "^0 "
is "its file says so" "$(file vol)" $'origin = /dev/mapper/vol\nstore = /dev/t\nunder = yes'
multisnap snapshot vol --name first > /dev/null
prints "so does enable, with a snapshot" "vol starts with the machine: /etc/multisnap/vol.conf" enable vol first --device old
write_pattern /dev/mapper/vol 8192 64 2
is "udev lets it be used" "$(asked_of_vol)" $'MULTISNAP_UNIT=multisnap@vol.service\nMULTISNAP_ROLE=ready'
prints "it is stopped" "vol is stopped" system stop vol
is "which leaves nothing" "$(dmsetup ls)" "No devices found"
refused "what is not there is not put under" "there is no /dev/mapper/vol; it is started when that appears; .*lvchange -ay" system start vol
plain
is "udev holds it back" "$(asked_of_vol)" $'MULTISNAP_UNIT=multisnap@vol.service\nMULTISNAP_ROLE=held'
prints "it is put under" "vol is under multisnapshot" system start vol
is "and ready" "$(state) $(asked_of_vol | tail -n 1)" "multisnapshot 1 MULTISNAP_ROLE=ready"
ok "its snapshot has its device, and what it shares" check_pattern /dev/mapper/old 8192 128 1
prints "again is nothing" "" system start vol
prints "nor is it for an initramfs" "" system put-under
# Its device goes without us, and leaves others, which keep the store.
dmsetup remove vol
is "its snapshot's device is left" "$(dmsetup ls | cut -f 1 | sort | tr '\n' ' ')" "old vol-msorigin "
plain
prints "which does not keep it from being put under" "vol is under multisnapshot" system start vol
ok "with the snapshot" check_pattern /dev/mapper/old 8192 128 1
dmsetup remove vol
prints "if it does not come again, it is stopped" "" system stop vol
is "and nothing is left" "$(dmsetup ls)" "No devices found"
plain
multisnap system start vol > /dev/null
# What a power cut leaves.
dd if=/dev/t of=/tmp/t bs=1M iflag=direct status=none
multisnap stop vol > /dev/null
dd if=/tmp/t of=/dev/t bs=1M oflag=direct status=none
plain
is "a store with a log" "$(in_order /dev/t)" 3
prints "does not keep it from being put under" "vol is under multisnapshot" system start vol
ok "and nothing is lost" check_pattern /dev/mapper/old 8192 128 1
multisnap stop vol > /dev/null
# Written by another system: there is nothing but its content that tells.
plain
dd if=/dev/zero of=/dev/mapper/vol bs=4k seek=1 count=1 oflag=direct status=none
dmsetup remove vol
plain
mv /dev/t /dev/elsewhere
refused "without its store it is not put under" "there is no /dev/t; " system start vol
mv /dev/elsewhere /dev/t
refused "nor if its content says that it was written" \
	"/dev/mapper/vol was written without multisnapshot, so 1 snapshot in /dev/t .*multisnap under /dev/mapper/vol /dev/t --lose-snapshots" \
	system start vol
is "it stays plain, and is held back" "$(state) $(asked_of_vol | tail -n 1)" "linear 0 MULTISNAP_ROLE=held"
ms system put-under
like "then nothing is mounted by an initramfs" "$rc $err" "^2 .*start with multisnap=off.*was written without multisnapshot"
mount -o ro,noload /dev/mapper/vol /mnt/a
is "while it is mounted it is not taken away" "$(asked_of_vol | tail -n 1)" MULTISNAP_ROLE=ready
umount /mnt/a
# What the line says.
multisnap under /dev/mapper/vol /dev/t --lose-snapshots 2> /dev/null > /dev/null
is "what the line says puts it under" "$(state) $(asked_of_vol | tail -n 1)" "multisnapshot 1 MULTISNAP_ROLE=ready"
multisnap system start vol > /dev/null
ok "with its snapshot, and what that has of its own" check_pattern /dev/mapper/old 8192 64 1
fails_with "but not what it shared" EIO dd if=/dev/mapper/old of=/tmp/out bs=4k iflag=direct skip=2000 count=1
multisnap deactivate vol
ms out vol --lose-snapshots
like "taken out, it is told that it comes back" "$rc $err" "^0 multisnap: vol is put under again .*multisnap disable vol$"
dmsetup rename vol other
sed -i 's|^origin = .*|origin = /dev/mapper/other|' /etc/multisnap/vol.conf
refused "one by another name is not put under" "puts /dev/mapper/other under, which has another name .*multisnap disable vol; .*--enable" system start vol
multisnap disable vol
dmsetup remove other
cleanup
