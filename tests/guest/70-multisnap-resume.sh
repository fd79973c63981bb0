#!/bin/bash
# multisnap where a table is made live and then cannot be started, since the store takes no writes:
# the device goes on as it was, what uses it too, and the line says why.
. ./lib.sh
. ./multisnap.sh
plan 33

modprobe -a dm-flakey dm-multisnapshot
state() { dmsetup info -c --noheadings -o suspended,tables_loaded "$1"; }
kind() { dmsetup table "$1" | cut -d ' ' -f 3; }
# become <device> <table>
become() {
	dmsetup suspend --noflush --nolockfs "$1"
	dmsetup reload "$1" --table "$2" && dmsetup resume "$1"
}
store_fails() { become sd "0 65536 flakey /dev/s 0 0 3600 1 error_writes"; }
store_works() { become sd "0 65536 linear /dev/s 0"; }
is_rw() { [ "$(ms_status home mode)" = rw ]; }

make_nullblk o 48
make_nullblk s 32
dmsetup create home --table "0 32768 linear /dev/o 0"
dmsetup create sd --table "0 65536 linear /dev/s 0"
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/home
mkdir -p /mnt/a
mount /dev/mapper/home /mnt/a
touch /tmp/writer
writer() {
	local n=0
	while [ -e /tmp/writer ]; do
		n=$((n + 1))
		echo "number $n" > /mnt/a/file && sync /mnt/a/file || return
		echo $n > /tmp/written.new && mv /tmp/written.new /tmp/written
		sleep 0.1
	done
}
echo 0 > /tmp/written
writer & writer=$!
goes_on() {
	local was
	was=$(cat /tmp/written)
	within 30 eval "[ \"\$(cat /tmp/written)\" -gt $((was + 2)) ]"
}

# --- under ------------------------------------------------------------------------

works "a device is put under while it is written" under /dev/mapper/home /dev/mapper/sd --create
prints "with a snapshot" 1 snapshot home
works "and taken out" out home --lose-snapshots
store_fails
before=$(checksum /dev/s)
refused "it is not put under if the loss cannot be recorded" \
	"home cannot be put under multisnapshot: store .* cannot be (read or )?written: error -5; " \
	under /dev/mapper/home /dev/mapper/sd --lose-snapshots
is "it has its own table, and goes on" "$(kind home) $(state home)" "linear Active:Live"
is "nothing is left" "$(dmsetup ls | grep -c msorigin)" 0
ok "nor does the writer wait" goes_on
is "and the store is as it was" "$(checksum /dev/s)" "$before"
store_works
ms under /dev/mapper/home /dev/mapper/sd --lose-snapshots
is "when the store works, it is" "$rc $(kind home) $(state home)" "0 multisnapshot Active:Live"
ok "the writer goes on" goes_on
prints "and there are snapshots" 2 snapshot home

# --- grow -------------------------------------------------------------------------

become home-msorigin "0 65536 linear /dev/o 0"
store_fails
refused "a snapshot cannot be recorded" "home (has no snapshot 3|cannot make a snapshot): .*; " snapshot home
is "so that the store is known to have failed" "$(ms_status home mode)" fail
refused "then what cannot be recorded does not grow" "home cannot grow: the new sizes cannot be recorded: error -5; " grow home
is "the device goes on as it was" "$(state home) $(sectors /dev/mapper/home)" "Active:Live 32768"
ok "so does the writer" goes_on
store_works
ok "when the store works, all does" within 40 is_rw
# The command lies on the device, as on one that the system runs from, and none of its pages is in
# memory.
cp "$(command -v multisnap)" /mnt/a/
sync
echo 3 > /proc/sys/vm/drop_caches
like "then it grows, by a command that lies there" "$(timeout 120 /mnt/a/multisnap grow home 2>&1)" \
	"^origin: 32 MiB, was 16 MiB"
is "as the device shows" "$(sectors /dev/mapper/home)" 65536
works "a snapshot can be made" snapshot home
rm /tmp/writer
ends_well "the writer has met no error" "$writer"
umount /mnt/a
ok "the file system is in order" e2fsck -fn /dev/mapper/home

# Nobody writes now, so that the growth itself is what meets the failure: its record may be on the
# device or not.
become home-msorigin "0 98304 linear /dev/o 0"
sleep 3
is "the store is idle, and works" "$(ms_status home mode)" rw
store_fails
refused "what may be recorded or not has grown, and that is said" \
	"home has grown to 48 MiB, but its store takes no writes, .*: multisnap status home" grow home
is "and the device goes on" "$(state home) $(sectors /dev/mapper/home) $(ms_status home mode)" \
	"Active:Live 98304 fail"
ok "also what is new of it" write_pattern /dev/mapper/home 65536 8192 3
store_works
ok "when the store works, all does" within 40 is_rw
works "and a snapshot can be made" snapshot home
works "it is taken out" out home --lose-snapshots
rc=0
multisnap check /dev/mapper/sd > /tmp/check || rc=$?
# A store that was left behind so has no clean mark.
is "and the store is sound" "$rc" 3

# --- start ------------------------------------------------------------------------

write_pattern /dev/mapper/home 0 8192 1
store_fails
refused "an origin that was written is not started, if that cannot be recorded" \
	"ms-home cannot be started: store .* cannot be (read or )?written: error -5; " start /dev/mapper/home /dev/mapper/sd
is "which leaves no device" "$(dmsetup ls | awk '{ print $1 }' | sort | xargs)" "home sd"
store_works
ms start /dev/mapper/home /dev/mapper/sd
is "when the store works, it is" "$rc $(state ms-home)" "0 Active:Live"
cleanup
