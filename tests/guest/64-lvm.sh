#!/bin/bash
# Logical volumes of a real LVM: put under multisnapshot and taken out while a file system on
# them is mounted and written; what LVM does to one that is under; and its words for all of it.
# timeout: 400
# on request: it takes five minutes.
. ./lib.sh
. ./real-lvm.sh
. ./multisnap.sh
plan 144

lvm() { multisnap-lvm "$@"; }
kind() { dmsetup table "$1" | awk '{ print $3 }' | sort -u; }
state() { echo "$(kind "$1") $(dmsetup info -c --noheadings -o suspended,tables_loaded "$1")"; }
under='multisnapshot Active:Live'
lv_size() { lvs --noheadings --nosuffix --units s -o lv_size "$1" | tr -d ' '; }
finish_lvm() {
	local rc=$?
	[ ! -e /tmp/writer ] || { rm -f /tmp/writer; wait; }
	umount /mnt/* 2> /dev/null
	for name in $(dmsetup ls 2> /dev/null | awk '$1 != "No" { print $1 }'); do
		case $(kind "$name") in multisnap*) dmsetup remove "$name" ;; esac
	done
	vgchange -qq -an vg 2> /dev/null
	(exit "$rc")
	at_exit
}
trap finish_lvm EXIT

for pv in a b c; do make_nullblk pv$pv 96; done
modprobe -a dm-mirror dm-multisnapshot
ok "a volume group on three disks" vgcreate -qq vg /dev/pva /dev/pvb /dev/pvc
# More than one disk holds: a table of two targets.
lvcreate -qq -y -L 120M -n home vg
lvcreate -qq -y -L 16M -n small vg
is "with a volume on two of them" "$(dmsetup table vg-home | wc -l)" 2
mkfs.ext4 -q /dev/vg/home
mkdir -p /mnt/home /mnt/snap
mount /dev/vg/home /mnt/home
echo one > /mnt/home/file

# A writer that notes what it was told to be on the disk.
touch /tmp/writer
writer() {
	local n=0
	while [ -e /tmp/writer ]; do
		n=$((n + 1))
		echo "number $n" > "/mnt/home/n$((n % 50))" && sync "/mnt/home/n$((n % 50))" || return
		echo $n > /tmp/written
		sleep 0.1
	done
}
written() { cat /tmp/written; }
goes_on() {
	local was
	was=$(written)
	within 20 eval "[ \"\$(cat /tmp/written)\" -gt $((was + 2)) ]"
}
writer & writer=$!
within 10 test -s /tmp/written

# --- the three forms -----------------------------------------------------------
like "a snapshot needs a store" "$(lvm lvcreate -s -n before vg/home 2>&1)" "has no store yet: .*-L"
like "and -s" "$(lvm lvcreate -L 1G vg/home 2>&1)" "say -s"
ok "-L makes the store" lvm lvcreate -s -L 32M vg/home
is "as a volume of the group" "$(lv_size vg/home-msstore)" 65536
is "the origin is under" "$(state vg-home)" "$under"
conf() { grep -v '^#' "/etc/multisnap/$1.conf" | tr '\n' ' '; }
is "also when the machine starts" "$(conf vg-home)" \
	"origin = /dev/mapper/vg-home store = /dev/mapper/vg-home--msstore under = yes "
is "its origin has the two targets" "$(kind vg-home-msorigin) $(dmsetup table vg-home-msorigin | wc -l)" "linear 2"
like "which LVM takes for a part of it" "$(dmsetup info -c --noheadings -o uuid vg-home-msorigin)" '^LVM-.{64}-msorigin$'
is "so that only the table is new to it" "$(lvs 2>&1 | sed -n 's/.*WARNING: //p')" \
	"Cannot find matching striped segment for vg/home."
like "the device has LVM's still" "$(dmsetup info -c --noheadings -o uuid vg-home)" '^LVM-'
ok "the file system is written as before" goes_on
like "a second store is refused" "$(lvm lvcreate -s -L 32M vg/home 2>&1)" "has a store already"
ln -s ../mapper/gone /dev/vg/before
ok "-n makes a snapshot" lvm lvcreate -s -n before vg/home
like "which has a device" "$(dmsetup info -c --noheadings -o uuid vg-before)" '^MSNAP-[0-9a-f]{32}-1$'
like "also when the machine starts" "$(conf vg-home)" "snapshot = 1 device=vg-before $"
echo two > /mnt/home/file
sync /mnt/home/file
ok "where LVM would have it" mount -o ro,noload /dev/vg/before /mnt/snap
is "with what was" "$(cat /mnt/snap/file)" one
umount /mnt/snap
like "the same name is refused" "$(lvm lvcreate -s -n before vg/home 2>&1)" "vg/before is there already"
like "and one that reads like an id" "$(lvm lvcreate -s -n 20261128 vg/home 2>&1)" "20261128 reads like an id: begin it"
like "and that of a volume" "$(lvm lvcreate -s -n small vg/home 2>&1)" "is a logical volume"
ok "-L with -n does both" lvm lvcreate -s -L12M --snapshotstore smallstore -n first vg/small
is "the store has its name" "$(lv_size vg/smallstore)" 24576
like "-L is ignored by the next" "$(lvm lvcreate -s -L 1G -n second vg/small 2>&1)" "-L|1G is ignored"
list=$(lvm lvs)
like "the list has a store with its use" "$list" "home-msstore +vg +32.00m +home +[0-9.]+"
like "and snapshots" "$list" "first +vg +16.00m +small +1 +2"
is "of one volume if asked" "$(lvm lvs vg/smallstore | grep -c small)" 3
like "or of one snapshot" "$(lvm lvs --noheadings /dev/vg/first)" "^ +first +vg +16.00m +small +1 +20[0-9-]+ [0-9:]+$"
is "and of some columns" "$(lvm lvs --noheadings -o lv_name,origin vg/smallstore | tr -s ' \n' ' ')" " smallstore small first small second small "
rc=0
lvm lvs vg nothing vg/none > /tmp/out 2> /tmp/err || rc=$?
is "what is not there is no success, and keeps nothing back" "$rc $(grep -c 'first' /tmp/out)" "2 1"
like "and named" "$(cat /tmp/err)" "nothing.*there is no logical volume vg/none, nor a snapshot; .*multisnap-lvm lvs vg"
like "a wrong column is named" "$(lvm lvs -o lv_nam vg 2>&1)" "does not know the column lv_nam: say some of lv_name,"
like "and an option that is not known" "$(lvm lvs --units k 2>&1)" "does not know --units; lvs takes -o"

# --- what LVM does to one that is under ------------------------------------------
part() { dd if=/dev/mapper/vg-before bs=1M count=4 iflag=direct status=none | cksum; }
sum=$(part)
same() { [ "$(state vg-home)" = "$under" ] && [ "$(part)" = "$sum" ]; }
refused() { # <what> <command>...
	local what=$1 rc=0
	shift
	"$@" > /tmp/out 2>&1 || rc=$?
	is "$what is refused" "$((rc != 0))" 1
	ok "and nothing has changed" same
}
size=$(lv_size vg/home)
refused "lvchange --refresh" lvchange --refresh vg/home
refused "lvextend" lvextend -qq -L +8M vg/home
is "the volume is as large as it was" "$(lv_size vg/home)" "$size"
refused "pvmove" pvmove -i 1 -n vg/home /dev/pva /dev/pvc
pvmove --abort > /tmp/out 2>&1
is "and leaves none behind" "$(lvs --noheadings -a -o lv_name vg | grep -c pvmove)" 0
ok "and nothing has changed" same
refused "lvrename" lvrename -qq vg/home vg/house
ok "vgchange -ay changes nothing" vgchange -qq -ay vg
ok "indeed" same
refused "vgchange --refresh" vgchange -qq --refresh vg
refused "lvchange -an of one in use" lvchange -qq -an vg/home
refused "lvremove of one in use" lvremove -qq -f vg/home
ok "the writer goes on" goes_on
ok "a store is an ordinary volume, and grows" lvextend -qq -L +8M vg/home-msstore
like "which multisnap notes" "$(multisnap grow vg-home)" "store: .* was"
is "a further snapshot" "$(multisnap snapshot /dev/vg/home)" 2

# --- out and in again, mounted ----------------------------------------------------
like "out is refused with snapshots" "$(multisnap out vg-home 2>&1)" "has 2 snapshots, which would lose .*--lose-snapshots"
ok "and nothing has changed" same
write_file() { dd if=/dev/urandom of=/mnt/home/big bs=1M count=4 conv=fsync status=none; }
write_file
ok "out it is" multisnap out vg-home --lose-snapshots
is "with its own table" "$(state vg-home) $(dmsetup table vg-home | wc -l)" "linear Active:Live 2"
is "and nothing left" "$(dmsetup ls | grep -c 'msorigin\|vg-before')" 1
ok "the writer goes on" goes_on
ok "LVM's refresh works" lvchange --refresh vg/home
ok "and lvextend" lvextend -qq -L +8M vg/home
ok "and pvmove" pvmove -qq -i 1 -n vg/home /dev/pvb /dev/pvc
sum=$(dd if=/mnt/home/big bs=1M status=none | cksum)
dmesg_mark
is "in again: what the snapshots lost in going out they cannot lose again" \
	"$(multisnap under /dev/vg/home /dev/vg/home-msstore 2>&1)" \
	"/dev/mapper/vg-home is under multisnapshot: make snapshots of it with multisnap snapshot vg-home"
is "so it is" "$(state vg-home)" "$under"
is "the snapshots exist" "$(ms_status vg-home ids)" 1-2
multisnap activate vg-home 1 --device vg-before > /dev/null
fails_with "what they shared is lost" EIO dd if=/dev/mapper/vg-before of=/tmp/out bs=4k iflag=direct skip=20000 count=1
multisnap deactivate vg-home
# The command itself lies on the volume, as on one that the system runs from, and none of its pages is
# in memory.
cp "$(command -v multisnap)" /mnt/home/
# from_there <word>...: runs it.
from_there() {
	sync
	echo 3 > /proc/sys/vm/drop_caches
	timeout 120 /mnt/home/multisnap "$@" 2>&1
}
ok "out it is again, by a command that lies there" from_there out vg-home --lose-snapshots
is "with its own table" "$(state vg-home)" "linear Active:Live"
is "and in" "$(from_there under /dev/vg/home /dev/vg/home-msstore)" \
	"/dev/mapper/vg-home is under multisnapshot: make snapshots of it with multisnap snapshot vg-home"
is "a snapshot of now" "$(multisnap snapshot vg-home --name now)" 3
write_file
mount -o ro,noload "$(multisnap activate vg-home now)" /mnt/snap
is "has what is there now" "$(dd if=/mnt/snap/big bs=1M status=none | cksum)" "$sum"
umount /mnt/snap
ok "the writer goes on" goes_on
rm /tmp/writer
ends_well "and has met no error" "$writer"
n=$(written)
is "what it wrote is there" "$(cat "/mnt/home/n$((n % 50))")" "number $n"

# not_under <what> <why>: it is refused, and nothing has changed.
not_under() {
	ms under /dev/vg/small /dev/mapper/vg-smallstore
	like "$1 is not put under" "$rc $err" "^2 multisnap: /dev/vg/small $2.*; .*multisnap cat.*--lose-snapshots$"
	is "and has not changed" "$(state vg-small) $(dmsetup ls | grep -c vg-small-msorigin)" "linear Active:Live 0"
}

# --- not in use -----------------------------------------------------------------
multisnap deactivate vg-small
write_pattern /dev/vg/small 0 1024 1
is "a snapshot of the small one" "$(multisnap snapshot vg-small --name third)" 3
write_pattern /dev/vg/small 0 64 2
ok "it is stopped" multisnap stop vg-small
is "which leaves nothing" "$(dmsetup ls | grep -c '^vg-small[^s]')" 0
ok "then LVM makes it larger" lvextend -qq -L +4M vg/small
ok "and activates it" lvchange -qq -ay vg/small
dmesg_mark
ok "it is put under" multisnap under /dev/vg/small /dev/mapper/vg-smallstore
is "and nothing is lost" "$(our_lines)" ""
is "it is larger" "$(sectors /dev/vg/small) $(dmsetup table vg-small | cut -d' ' -f2)" "40960 40960"
snap_sectors=32768
multisnap activate vg-small third > /dev/null
ok "and the snapshot right" check_pattern /dev/mapper/vg-small-3 0 1024 1
multisnap deactivate vg-small
# Its device goes without us; a write behind our back is noticed.
lvchange -qq -an vg/small
is "LVM deactivates it, and what it stands on" "$(dmsetup ls | grep -c '^vg-small')" 0
lvchange -qq -ay vg/small vg/smallstore
write_pattern /dev/vg/small 0 64 9
multisnap under /dev/vg/small /dev/mapper/vg-smallstore --lose-snapshots > /tmp/out 2>&1 || diag "$(cat /tmp/out)"
is "what it held is lost after a write without us" "$(ms_status vg-small ids) $(our_lines | grep -c 'was written while')" "1-3 1"

# Its device goes without LVM, and leaves the second one.
multisnap snapshot vg-small > /dev/null
dmsetup remove vg-small
is "dmsetup leaves the second device" "$(dmsetup ls | grep -c '^vg-small[^s]')" 1
lvchange -qq -ay vg/small
ok "which is made anew" multisnap under /dev/vg/small /dev/mapper/vg-smallstore
is "with nothing lost" "$(multisnap activate vg-small 4 > /dev/null && check_pattern /dev/mapper/vg-small-4 0 64 9 && echo right)" right
multisnap deactivate vg-small

# What is said of it; only the fourth has not lost all before.
lvchange -qq -an vg/small
lvchange -qq -ay vg/small vg/smallstore
exec 7< /dev/vg/small
not_under "one that is in use" "is in use without multisnapshot, so 1 snapshot in /dev/mapper/vg-smallstore would lose what"
like "nor is a new snapshot made" "$(lvm lvcreate -s -n next vg/small 2>&1)" "1 snapshot in .* would lose .*--lose-snapshots"
exec 7<&-
write_pattern /dev/vg/small 2048 64 10
not_under "one that was written" "was written without multisnapshot, so 1 snapshot in "
lvchange -qq -an vg/small
lvchange -qq -ay vg/small
echo 0 > "/sys/block/$(block_name /dev/vg/small)/queue/iostats"
not_under "one that does not count" "does not count its writes .queue/iostats., and may have been written without multisnapshot, so 1 "
dmesg_mark
ms under /dev/vg/small /dev/mapper/vg-smallstore --lose-snapshots
like "said, it is done, and told" "$rc $err" "^0 multisnap: vg-small does not count its writes .*without multisnapshot: 1 snapshot made before"
is "by the module, too" "$(our_lines | grep -c 'lost what')" 1

lvcreate -qq -y -L 40M -n other vg
ok "a store is a part of the origin, of another type and with other chunks" \
	lvm lvcreate -s -l 50%ORIGIN --storetype bitmask -c 64K -n old /dev/vg/other
is "as it was said" "$(lv_size vg/other-msstore) $(dmsetup table vg-other | cut -d ' ' -f 6) $(dmsetup table vg-other | grep -c bitmask)" \
	"40960 128 1"
ok "it goes" lvm lvremove -f vg/other-msstore
lvremove -qq -f vg/other

# --- removed ----------------------------------------------------------------------
like "a store with snapshots is kept" "$(lvm lvremove vg/smallstore 2>&1)" "holds snapshots .* say -f"
like "also with -y" "$(lvm lvremove -y vg/smallstore 2>&1)" "holds snapshots .* say -f"
multisnap activate vg-small 4 > /dev/null
exec 7< /dev/mapper/vg-small-4
rc=0
lvm lvremove -f vg/smallstore > /tmp/out 2>&1 || rc=$?
is "not even by force, while one of them is in use" "$rc" 2
is "and all is as it was" "$(state vg-small) $(ms_status vg-small ids)" "multisnapshot Active:Live 1-4"
like "also its file" "$(conf vg-small)" "under = yes snapshot = 1 device=vg-first snapshot = 2 device=vg-second $"
exec 7<&-
multisnap deactivate vg-small
ok "a snapshot is removed by name" lvm lvremove vg/first
like "and from the file" "$(conf vg-small)" "under = yes snapshot = 2 device=vg-second $"
like "and gone" "$(lvm lvremove vg/first 2>&1)" "there is no snapshot vg/first"
multisnap activate vg-small 2 --device vg-second > /dev/null
ln -sfn ../mapper/vg-second /dev/vg/second
multisnap rename vg-small 2 deux
like "also one that was renamed" "$(lvm lvremove vg/deux 2>&1)" "snapshot 2, vg/deux, is removed"
is "with its device and its link" "$(dmsetup ls | grep -c vg-second) $(find /dev/vg -name second)" "0 "
multisnap snapshot vg-small --name other > /dev/null
multisnap activate vg-small other > /dev/null
ok "and one that is active by another device" lvm lvremove vg/other
is "which goes" "$(dmsetup ls | grep -c 'vg-small-[0-9]')" 0
# By the names that the package gives it.
mkdir /tmp/names
for word in lvcreate lvs lvremove; do ln -s "$(command -v multisnap-lvm)" /tmp/names/multisnap-$word; done
like "a script with one word changed makes a snapshot" "$(/tmp/names/multisnap-lvcreate -s -L 4M -n fifth -y vg/small 2>&1)" \
	"snapshot 6 of vg/small is /dev/mapper/vg-fifth"
like "lists it" "$(/tmp/names/multisnap-lvs --noheadings vg/fifth)" "^ +fifth +vg +20.00m +small +6 "
like "and removes it" "$(/tmp/names/multisnap-lvremove -f vg/fifth 2>&1)" "snapshot 6, vg/fifth, is removed"
# Another store takes the place of the one with the tag.
multisnap stop vg-small > /dev/null
lvchange -qq -ay vg/small
lvcreate -qq -y -L 8M -n next vg
dd if=/dev/zero of=/dev/vg/next bs=1M count=8 oflag=direct status=none
multisnap disable vg-small
dmsetup table vg-small | dmsetup reload vg-small
ms under /dev/vg/small /dev/mapper/vg-next --create
like "a table that was left is not made live" "$rc $err" "^2 .*has another table loaded; drop that first: dmsetup clear vg-small"
dmsetup clear vg-small
ok "a volume gets another store" multisnap under /dev/vg/small /dev/mapper/vg-next --create --enable
like "the old one is not removed without force" "$(lvm lvremove vg/smallstore 2>&1)" "not the store of an origin that is under .* say -f"
ok "and with it" lvm lvremove -f vg/smallstore
is "the new one and its file have nothing to do with that" "$(state vg-small) $(conf vg-small | grep -c 'store = /dev/mapper/vg-next')" "$under 1"
like "it makes snapshots" "$(lvm lvcreate -s -n sixth vg/small 2>&1)" "snapshot 1 of vg/small is /dev/mapper/vg-sixth"
is "and has the tag" "$(lvs --noheadings -o lv_tags vg/next | tr -d ' ' | cut -d . -f 1-3)" multisnap.store.of
echo "store = /dev/mapper/vg-nex." > /etc/multisnap/like.conf
ok "a store is removed by force" lvm lvremove -f vg/next
is "with its file, and no other" "$(cd /etc/multisnap && echo *)" "like.conf vg-home.conf"
rm /etc/multisnap/like.conf
is "and its origin is plain" "$(state vg-small)" "linear Active:Live"

# --- said again ---------------------------------------------------------------------
lvcreate -qq -y -L 8M -n again vg
# LVM has cleared its first block only.
like "what is left of a store that was there is not written over" "$(multisnap under /dev/vg/small /dev/vg/again --create 2>&1)" \
	"/dev/vg/again holds what is left of a store .*; or, if nobody needs that, erase it: "
dd if=/dev/zero of=/dev/vg/again bs=128k count=1 oflag=direct status=none
dmsetup create vg-small-msorigin --table "0 8 zero"
like "what is in the way is told after the store is made" "$(multisnap under /dev/vg/small /dev/vg/again --create 2>&1)" \
	"vg-small-msorigin has the name that is needed"
dmsetup remove vg-small-msorigin
like "another kind of store is not made of it" "$(multisnap under /dev/vg/small /dev/vg/again --create --chunk-size 64K 2>&1)" \
	"holds a store of snapshots"
ok "the same one can be said again" multisnap under /dev/vg/small /dev/vg/again --create
is "and is under" "$(state vg-small) $(dmsetup table vg-small | cut -d ' ' -f 6)" "$under 32"
multisnap snapshot vg-small > /dev/null
multisnap stop vg-small > /dev/null
lvchange -qq -ay vg/small
like "with a snapshot it is not taken for new" "$(multisnap under /dev/vg/small /dev/vg/again --create 2>&1)" \
	"holds a store of snapshots"
mkdir /tmp/bin
ln -s /bin/true /tmp/bin/lvcreate
lvremove -qq -f vg/again
rc=0
PATH=/tmp/bin:$PATH multisnap-lvm lvcreate -s -L 4M --snapshotstore ghost vg/small > /tmp/out 2>&1 || rc=$?
is "a store that LVM does not make is none" "$rc $(compgen -G "/dev/mapper/*ghost")" "2 "
like "how it is said" "$(lvm --help)" "lvs .-o .*VG . VG/STORE..*--lose-snapshots"
is "by each command" "$(lvm lvs --help)" "$(lvm --help)"
umount /mnt/home
ok "one that does not start with the machine any more" multisnap disable vg-home
ok "is removed as well" lvm lvremove -f vg/home-msstore
is "and its origin is plain" "$(state vg-home)" "linear Active:Live"
ok "its file system is sound" e2fsck -fn /dev/vg/home
is "no link to a snapshot is left" "$(find /dev/vg -xtype l)" ""
ok "the group goes" vgremove -qq -f vg
for pv in a b c; do pvremove -qq /dev/pv$pv; done
cleanup
