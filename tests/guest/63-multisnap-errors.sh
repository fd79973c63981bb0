#!/bin/bash
# What multisnap says when a store, a module or somebody else stands in its way, and that all goes
# on after that.
. ./lib.sh
plan 55

. ./multisnap.sh
make_nullblk o 16
make_nullblk s 16

# --- the module ---------------------------------------------------------------

file=/lib/modules/$(uname -r)/updates/dm-multisnapshot.ko
mv "$file" /tmp/
depmod
refused "without the module nothing is made" "multisnapshot is not known to this kernel; .*modprobe dm-multisnapshot" create /dev/o /dev/s
is "not even the store" "$(is_zero /dev/s 0 256 && echo zero)" zero
works "but a store can be, if that is wanted" create /dev/o /dev/s --no-start
like "and the line says what comes next" "$out" "^/dev/s is a store: multisnap start /dev/o /dev/s$"
mv /tmp/dm-multisnapshot.ko "$file"
depmod

# --- devices ------------------------------------------------------------------

dmsetup create user --table "0 32768 linear /dev/o 0"
refused "an origin that is part of another device" "/dev/o is part of /dev/mapper/user; .*lsblk /dev/mapper/user" start /dev/o /dev/s
dmsetup remove user
dmsetup create user --table "0 32768 linear /dev/s 0"
refused "a store that is" "/dev/s is part of /dev/mapper/user" start /dev/o /dev/s
refused "a name that is taken" "user is the name of a device already; say another name: --name" start /dev/o /dev/mapper/user --name user
dmsetup remove user
refused "what the module refuses is told in its words" \
	"ms-o cannot be started: cache-limit '1' is not a number from 256" start /dev/o /dev/s --cache-limit 4K
is "and leaves no device" "$(dmsetup ls)" "No devices found"
refused "no such share" "--low-water .*is no share: say 10%" start /dev/o /dev/s --low-water 200%
works "all that can be said" start /dev/o /dev/s --name v --low-water 1M --discard-copy --cache-limit 8M --cache-threshold 1M
like "is in the table" "$(dmsetup table v)" " 32 3 discard-copy low-water 64 btree 4 cache-threshold 256 cache-limit 2048$"
works "it is stopped" stop v
dd if=/dev/urandom of=/dev/s bs=4k seek=8 count=1 oflag=direct status=none
dd if=/dev/urandom of=/dev/s bs=4k seek=16 count=1 oflag=direct status=none
refused_with 1 "a damaged store is" "/dev/s is damaged: .*multisnap check /dev/s" start /dev/o /dev/s
is "with its own status" "$rc" 1
dd if=/dev/urandom of=/dev/s bs=4k count=1 oflag=direct status=none
refused "what is no store" "/dev/s holds something that is not known" start /dev/o /dev/s
dd if=/dev/zero of=/dev/s bs=128k count=1 oflag=direct status=none

# --- what is written over -----------------------------------------------------

make_nullblk t 16
works "a store" create /dev/o /dev/s --name v
works "with a snapshot" snapshot v
write_pattern /dev/mapper/v 0 64 1
works "that is stopped" stop v
multisnap dump /dev/s > /tmp/dump
for other in o s; do
	refused "its content is not written to /dev/$other" "/dev/$other is /dev/$other, which is only read" \
		cat /dev/s 1 --origin /dev/o -o /dev/$other --force --live
done
mkfs.ext4 -q /dev/t
before=$(checksum /dev/t)
refused "nor over a file system" "/dev/t holds an ext2, ext3 or ext4 file system; .*--force" cat /dev/s 1 --origin /dev/o -o /dev/t
# Nothing is at the start, where a store begins.
dd if=/dev/t of=/tmp/head bs=1M count=1 status=none
dd if=/dev/zero of=/dev/t bs=1M count=1 oflag=direct status=none
printf 'EFI PART' | dd of=/dev/t bs=512 seek=32767 conv=notrunc status=none
sync
for word in repair "restore /tmp/dump"; do
	rest=(/dev/s /dev/t)
	[ "$word" = repair ] || rest=(/dev/t --data /dev/s)
	# shellcheck disable=SC2086
	refused "$word looks at its end, too" "/dev/t holds the second half of a GPT" $word "${rest[@]}"
done
dd if=/tmp/head of=/dev/t bs=1M oflag=direct status=none
dd if=/dev/zero of=/dev/t bs=512 seek=32767 count=1 oflag=direct status=none
is "it is as it was" "$(checksum /dev/t)" "$before"
works "unless that is wanted" cat /dev/s 1 --origin /dev/o -o /dev/t --force
ok "the snapshot is there" is_zero /dev/t 0 64
for word in repair "restore /tmp/dump"; do
	rest=(/dev/s /dev/s)
	[ "$word" = repair ] || rest=(/dev/s --data /dev/s)
	# shellcheck disable=SC2086
	refused "$word does not write to the store itself" "/dev/s is /dev/s, which is only read" $word "${rest[@]}"
done
dd if=/dev/zero of=/dev/s bs=128k count=1 oflag=direct status=none
refused "also if it looks empty" "/dev/s is /dev/s, which is only read" restore /tmp/dump /dev/s --data /dev/s

# --- a bitmask store ----------------------------------------------------------

works "a bitmask store is made" create /dev/o /dev/s --store bitmask --name v
dmsetup suspend v
for _ in $(seq 64); do message v create > /tmp/id; done
dmsetup resume v
refused "it has no room for 65" "bitmask store holds 64 snapshots.*multisnap list v" snapshot v
is "and nothing is left over" "$(dmsetup info -c --noheadings -o suspended,tables_loaded v)" Active:Live
refused "nor snapshots of snapshots" "bitmask store, which has no snapshots of snapshots" snapshot v --of 1
works "room is made" remove v 1-10
works "and used" snapshot v

# --- a store that fails -------------------------------------------------------

works "it is stopped" stop v
dd if=/dev/zero of=/dev/s bs=128k count=1 oflag=direct status=none
dmsetup create sd --table "0 32768 linear /dev/s 0"
works "a store that can fail" create /dev/o /dev/mapper/sd --name v --preserve-on-error
works "a snapshot" snapshot v
dmsetup suspend sd
dmsetup reload sd --table "0 32768 error"
dmsetup resume sd
refused "a snapshot that cannot be recorded is told" "v has no snapshot 2: .*error -5.*multisnap status v" snapshot v
is "and leaves nothing behind" "$(dmsetup info -c --noheadings -o suspended,tables_loaded v)" Active:Live
ms status v
like "status tells, and has its own status" "$rc $out" "^1 v.*mode +fail, the store does not work"
refused "no other one can be made" "cannot make a snapshot: .*multisnap status v" snapshot v
refused "nor removed" "cannot remove snapshot 1, the 1 of 1" remove v 1
refused "nor renamed" "cannot rename snapshot 1" rename v 1 one
dmsetup suspend sd
dmsetup reload sd --table "0 32768 linear /dev/s 0"
dmsetup resume sd
is_rw() { [ "$(ms_status v mode)" = rw ]; }
ok "when it works again" within 30 is_rw
works "so do these" snapshot v

# --- and all goes on ----------------------------------------------------------

mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/v
mkdir -p /mnt/now /mnt/old
mount /dev/mapper/v /mnt/now
echo old > /mnt/now/lost-file
start=$(date +%s)
for age in 40 20 1; do
	date -s "@$((start - age * 86400))" > /tmp/date
	multisnap snapshot v > /tmp/id
done
date -s "@$start" > /tmp/date
rm /mnt/now/lost-file
mount -o ro "$(multisnap activate v "$(cat /tmp/id)" --read-only)" /mnt/old
ok "a file as it was" grep -q old /mnt/old/lost-file
umount /mnt/old
works "is had, and the snapshot put away" deactivate v "/dev/mapper/v-$(cat /tmp/id)"
works "what is older than four weeks is removed" remove v --older-than 4w
left() { multisnap list v --json | jq '.volumes[0].snapshots | length'; }
is "the rest is there" "$(left)" 4
works "a rolling rule" prune v --keep-last 2 --keep-daily 2
# The last two are those that were made last, whatever the clock said.
is "keeps what it says" "$(left)" 2
umount /mnt/now
works "all is put away" stop v
rc=0
multisnap check /dev/mapper/sd > /tmp/check || rc=$?
is "and in order" "$rc" 0
cleanup
