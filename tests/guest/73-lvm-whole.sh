#!/bin/bash
# What LVM does to whole disks, to a group and to a store while a volume is under multisnapshot, is
# mounted and has snapshots. What it does to the volume itself is in 64-lvm.sh, but for what is in no
# other: lvcreate -s and lvreduce; and what a signal leaves of multisnap-lvm lvcreate.
# timeout: 450
. ./lib.sh
. ./real-lvm.sh
. ./multisnap.sh
. ./document.sh
plan 47

kind() { dmsetup table "$1" | awk '{ print $3 }' | sort -u; }
state() { echo "$(kind "$1") $(dmsetup info -c --noheadings -o suspended,tables_loaded "$1")"; }
under='multisnapshot Active:Live'
finish_lvm() {
	local rc=$?
	umount /mnt/* 2> /dev/null
	for name in $(dmsetup ls 2> /dev/null | awk '$1 != "No" { print $1 }'); do
		case $(kind "$name") in multisnap*) dmsetup remove "$name" ;; esac
	done
	vgchange -qq -an vg group 2> /dev/null
	(exit "$rc")
	at_exit
}
trap finish_lvm EXIT

make_nullblk pva 96
make_nullblk pvb 96
modprobe -a dm-mirror dm-multisnapshot
vgcreate -qq vg /dev/pva /dev/pvb
lvcreate -qq -y -L 24M -n home vg /dev/pva
lvcreate -qq -y -L 8M -n other vg /dev/pva
write_pattern /dev/vg/other 0 1024 9
mkfs.ext4 -q /dev/vg/home
mkdir -p /mnt/home
mount /dev/vg/home /mnt/home
echo one > /mnt/home/file
# Warnings of LVM would be taken for those of the kernel.
multisnap-lvm lvcreate -s -L 32M vg/home > /tmp/out 2>&1
multisnap snapshot vg-home --name before > /dev/null
echo two > /mnt/home/file
dd if=/dev/urandom of=/mnt/home/big bs=1M count=6 conv=fsync status=none
# held [<group>]: what the snapshot and the file system hold.
held() {
	multisnap activate "${1:-vg}-home" before --read-only --device held > /dev/null && checksum /dev/mapper/held
	multisnap deactivate "${1:-vg}-home"
	cksum < /mnt/home/big
}
was=$(held)
on_a() { pvs --noheadings -o pv_used --units m /dev/pva 2> /dev/null | tr -d ' '; }
used=$(on_a)
# loaded: the devices with a table that is not live.
loaded() { dmsetup info -c --noheadings -o name,tables_loaded | sed -n 's/:Inactive$//p; s/:Both$//p' | sort | tr '\n' ' '; }
is "all is on one disk" "$used $(pvs --noheadings -o pv_used /dev/pvb 2> /dev/null | tr -d ' ')" "64.00m 0"

# --- the volume -----------------------------------------------------------------------

volumes() { lvs --noheadings -a -o lv_name,lv_size vg 2> /dev/null; }
all=$(volumes)
# unchanged <what>: volume, snapshot and what LVM knows are as they were, and no table waits.
unchanged() { is "$1" "$(state vg-home) $(held) $(volumes) $(loaded)" "$under $was $all "; }
rc=0
lvcreate -qq -y -s -n own -L 8M vg/home > /tmp/out 2>&1 || rc=$?
is "a snapshot of LVM's own is refused" "$((rc != 0)) $(state vg-home)" "1 $under"
ok "what it leaves of that, a plain volume, can be removed" lvremove -qq -f vg/own
unchanged "and nothing else has changed"
rc=0
lvreduce -qq -f -y -L 16M vg/home > /tmp/out 2>&1 || rc=$?
is "making the volume smaller is refused" "$((rc != 0))" 1
unchanged "and has changed nothing"

# --- a store that is not made ---------------------------------------------------------

# lvm <word>...: leaves status and output in $rc and $out.
lvm() {
	rc=0
	out=$(PATH=/tmp/ending:$PATH multisnap-lvm "$@" 2>&1) || rc=$?
}
stores() { lvs --noheadings -o lv_name,lv_tags vg 2> /dev/null | grep -c 'other-msstore *multisnap'; }
lvm lvcreate -s -L 4M -n a@b vg/other
like "a name that no snapshot can have is refused before" "$rc $out" "^2 multisnap-lvm: the name a@b has other letters"
lvcreate -qq -y -L 4M -n other-msstore vg
lvm lvcreate -s -L 4M -n first vg/other
like "and a store's that another volume has" "$rc $out" "^2 multisnap-lvm: vg/other-msstore is there already: say --snapshotstore"
lvremove -qq -f vg/other-msstore
# ends_at <command>: whoever calls that gets a signal meanwhile.
ends_at() {
	rm -rf /tmp/ending
	mkdir /tmp/ending
	printf '#!/bin/sh\nkill -TERM $PPID\nexec %s "$@"\n' "$(command -v "$1")" > "/tmp/ending/$1"
	chmod +x "/tmp/ending/$1"
}
ends_at lvcreate
lvm lvcreate -s -L 4M -n first vg/other
like "ended when LVM has made the store: that is told" "$rc $out" "^2 .*multisnap-lvm: a signal came: vg/other has no store; say it again"
is "and true" "$(lvs --noheadings vg/other-msstore 2> /dev/null) $(kind vg-other)" " linear"
ends_at multisnap
lvm lvcreate -s -L 4M -n first vg/other
like "ended when the volume is put under: it is" "$rc $out" "^2 .*multisnap-lvm: a signal came: vg/other-msstore is the store of vg/other, .*say it again"
is "with its tag, its file, and no snapshot" "$(stores) $(grep -c under /etc/multisnap/vg-other.conf) $(kind vg-other) $(ms_status vg-other ids)" \
	"1 1 multisnapshot -"
rm -r /tmp/ending
lvm lvcreate -s -n first vg/other
is "then it has one" "$rc $(ms_status vg-other ids)" "0 1"
lvm lvremove -f vg/other-msstore
is "and all is as before" "$rc $(stores) $(kind vg-other) $(ls /etc/multisnap)" "0 0 linear vg-home.conf"

# --- a whole disk ---------------------------------------------------------------------

rc=0
pvmove -i 1 /dev/pva > /tmp/out 2>&1 || rc=$?
like "a pvmove of all that is on a disk is refused" "$rc $(cat /tmp/out)" "^[1-9].*Failed to suspend logical volume vg/home"
is "and leaves no move behind" "$(lvs --noheadings -a -o lv_name vg 2> /dev/null | grep -c pvmove) $(on_a)" "0 $used"
is "the volume is as it was" "$(state vg-home)" "$under"
is "and what it and its snapshot hold" "$(held)" "$was"
ok "so is the volume that is not under" check_pattern /dev/vg/other 0 1024 9
is "but LVM leaves what it has loaded for the others" "$(loaded)" "vg-home--msstore vg-other vg-pvmove0 "
ms status vg-home
like "which status tells for the store" "$rc $out" "^1 .*table +vg-home--msstore has another one loaded.* dmsetup clear vg-home--msstore"
recipe lvm.rst pvmove
is "and not any more" "$(multisnap status vg-home --json | jq -c '.volumes[0].other_tables')" "[]"
is "the guide gets rid of that" "$(loaded)$(dmsetup ls | grep -c pvmove)" 0
ok "and moves what is not under" pvmove -qq -i 1 -n vg/other /dev/pva /dev/pvb
ok "as it was" check_pattern /dev/vg/other 0 1024 9
ok "and the store" pvmove -qq -i 1 -n vg/home-msstore /dev/pva /dev/pvb
is "which is there now" "$(lvs --noheadings -o devices vg/home-msstore 2> /dev/null | tr -d ' ') $(on_a)" "/dev/pvb(2) 24.00m"
is "and has the snapshot" "$(held)" "$was"

# --- the store --------------------------------------------------------------------------

ok "LVM makes a store smaller that is in use" lvreduce -qq -f -y -L 4M vg/home-msstore
ms status vg-home
like "which status tells" "$rc $out" "^1 vg-home.*cut short +the device of the store was made smaller than the store: .*at once"
is "also to programs" "$(multisnap status vg-home --json | jq -r '.volumes[0] | "\(.mode) \(.store_cut_short)"')" "rw true"
ms check /dev/vg/home-msstore --live
like "and check" "$rc $out" "^1 "
refused "grow makes nothing of it" "/dev/mapper/vg-home--msstore was made smaller than the store .*multisnap check" grow vg-home
multisnap activate vg-home before --read-only --device held > /dev/null
fails_with "what snapshots have behind its end cannot be read" EIO dd if=/dev/mapper/held of=/dev/null bs=1M iflag=direct
multisnap deactivate vg-home
ok "it is made as large again" lvextend -qq -L 32M vg/home-msstore
ms status vg-home
like "and status content" "$rc $out" "^0 vg-home.*mode +rw"
is "nothing is lost" "$(held) $(ms_status vg-home lost)" "$was 0"

# --- the group ------------------------------------------------------------------------

vgrename vg group > /tmp/out 2>&1
like "a group that is renamed names the volume that is not" "$(cat /tmp/out)" "Failed to suspend group/home"
is "whose device has its old name" "$(state vg-home) $(dmsetup ls | grep -c '^group-')" "$under 2"
is "nothing has changed besides" "$(held)" "$was"
umount /mnt/home
ok "it is stopped by that name" multisnap stop vg-home
ok "LVM makes it anew" lvchange -qq -ay group/home
ok "with the new name it is put under" multisnap under /dev/group/home /dev/mapper/group-home--msstore
mount /dev/mapper/group-home /mnt/home
is "and holds what it did" "$(held group)" "$was"
umount /mnt/home
ok "the store goes" multisnap-lvm lvremove -f group/home-msstore
ok "and the group" vgremove -qq -f group
for pv in a b; do pvremove -qq /dev/pv$pv; done
rm -rf /dev/vg /dev/group
cleanup
