#!/bin/bash
# Wrong tables: each gives its error, and one line of ours that says what is wrong.
# timeout: 600
. ./lib.sh
plan 87

# refused <what> <errno> <words in our line> <command>...
refused() {
	local what=$1 error=$2 words=$3 output rc=0 lines
	shift 3
	dmesg_mark
	output=$("$@" 2>&1) || rc=$?
	lines=$(our_lines)
	if [ $rc -ne 0 ] && [[ $output == *"$(error_text "$error")"* ]] &&
		[ "$(grep -c . <<< "$lines")" -eq 1 ] && [[ $lines =~ $words ]]; then
		result 0 "$what"
	else
		result 1 "$what"
		diag "wanted $error and one line like \"$words\""
		diag "status $rc: $output" "; the kernel: $(dmesg_since)"
	fi
}
# table <rest of an origin's line>
table() { dmsetup create ms --table "0 $size multisnapshot $1"; }
# snap <rest of a snapshot's line> [<sectors>]
snap() { dmsetup create snap --table "0 ${2:-$size} multisnap-snap $1"; }

make_nullblk o 16
make_nullblk s 32
make_nullblk big 32 blocksize=4096
make_nullblk tiny 1
size=$(sectors /dev/o)

for chunk in 0 1 7 12 24 4194304 -8 8k 08x 99999999999999999999; do
	refused "chunk size $chunk" EINVAL "chunk size '$chunk'" table "/dev/o /dev/s $chunk 0 btree 0"
done
refused "a store with bigger blocks than the origin" EINVAL "block" table "/dev/o /dev/big 8 0 btree 0"
refused "an unknown store type" EINVAL "'apple'.*btree.*bitmask" table "/dev/o /dev/s 8 0 apple 0"
refused "a generic argument that nobody knows" EINVAL "'apple'" table "/dev/o /dev/s 8 1 apple btree 0"
refused "a store argument that nobody knows" EINVAL "'apple'" table "/dev/o /dev/s 8 0 btree 1 apple"
for count in 1 9 -1 x 18446744073709551616; do
	refused "a count of $count generic arguments" EINVAL "." table "/dev/o /dev/s 8 $count btree 0"
	refused "a count of $count store arguments" EINVAL "'$count'" table "/dev/o /dev/s 8 0 btree $count"
done
refused "a count that takes in what follows" EINVAL "'btree'" table "/dev/o /dev/s 8 2 preserve-on-error btree 0"
for mark in -1 x 1.5 18446744073709551616; do
	refused "a low-water of $mark" EINVAL "low-water '$mark'" table "/dev/o /dev/s 8 2 low-water $mark btree 0"
done
refused "a low-water of nothing" EINVAL "low-water" table "/dev/o /dev/s 8 1 low-water btree 0"
for limit in 0 255 4194305 -1 x; do
	refused "a cache-limit of $limit" EINVAL "cache-limit '$limit' .* 256 to 4194304" \
		table "/dev/o /dev/s 8 0 btree 2 cache-limit $limit"
done
for threshold in 0 31 2097153 x; do
	refused "a cache-threshold of $threshold" EINVAL "cache-threshold '$threshold' .* 32 to 2097152" \
		table "/dev/o /dev/s 8 0 btree 2 cache-threshold $threshold"
done
refused "a threshold beyond half of the limit" EINVAL "513 .* 1024" \
	table "/dev/o /dev/s 8 0 btree 4 cache-threshold 513 cache-limit 1024"
refused "a threshold beyond half of the default" EINVAL "8193 .* 16384" \
	table "/dev/o /dev/s 8 0 btree 2 cache-threshold 8193"
refused "a store argument of nothing" EINVAL "missing" table "/dev/o /dev/s 8 0 btree 1 cache-limit"
refused "sync-snapshots with no list" EINVAL "missing" table "/dev/o /dev/s 8 1 sync-snapshots btree 0"
refused "with a list that is too short" EINVAL "'2'" table "/dev/o /dev/s 8 1 sync-snapshots btree 0 2 1"
refused "with one that is too long" EINVAL "'2'" table "/dev/o /dev/s 8 1 sync-snapshots btree 0 1 1 2"
refused "with what is no id" EINVAL "'1.x'" table "/dev/o /dev/s 8 1 sync-snapshots btree 0 1 1.x"
refused "with an id twice" EINVAL "snapshot 1 " table "/dev/o /dev/s 8 1 sync-snapshots btree 0 2 1 1"
refused "a word too many" EINVAL "'extra'" table "/dev/o /dev/s 8 0 btree 0 extra"
refused "no store arguments" EINVAL "missing" table "/dev/o /dev/s 8 0 btree"
refused "no store type" EINVAL "missing" table "/dev/o /dev/s 8 0"
refused "no generic arguments" EINVAL "missing" table "/dev/o /dev/s 8"
refused "no chunk size" EINVAL "missing" table "/dev/o /dev/s"
refused "no store" EINVAL "missing" table "/dev/o"
refused "nothing at all" EINVAL "missing" table ""
refused "no such origin" ENOENT "/dev/none" table "/dev/none /dev/s 8 0 btree 0"
refused "no such store" ENOENT "/dev/none" table "/dev/o /dev/none 8 0 btree 0"
refused "a store that is no block device" ENOTBLK "/dev/null" table "/dev/o /dev/null 8 0 btree 0"
refused "one device for both" EINVAL "same|both" table "/dev/o /dev/o 8 0 btree 0"
dmsetup create alias --table "0 $size linear /dev/o 0"
refused "a store too small for a chunk" ENOSPC "too small" table "/dev/o /dev/tiny 2048 0 btree 0"
refused "a table longer than the origin" EINVAL "." dmsetup create ms --table \
	"0 $((size + 8)) multisnapshot /dev/o /dev/s 8 0 btree 0"
# The dm core says that itself.
fails_with "a table that does not begin at 0" EINVAL dmsetup create ms --table "0 8 linear /dev/o 0
8 $((size - 8)) multisnapshot /dev/o /dev/s 8 0 btree 0"
for device in s tiny big; do
	is "/dev/$device was left alone" "$(is_zero /dev/$device 0 2048 && echo zero)" zero
done
is "no device is left" "$(dmsetup ls)" "$(printf 'alias\t(%s)' "$(cat "/sys/block/$(block_name /dev/mapper/alias)/dev")")"
dmsetup remove alias

ok "the right line is taken" table "/dev/o /dev/s 8 0 btree 0"
take_snapshot ms > /dev/null
refused "a snapshot of no origin" ENODEV "origin" snap "/dev/s 1"
refused "a snapshot of no device" ENOENT "/dev/none" snap "/dev/none 1"
for id in 0 2; do refused "the id $id, which is not there" ENOENT "snapshot $id" snap "/dev/o $id"; done
for id in x 1.x 1. .1 -1 1.2.3 4294967296; do
	refused "the id $id" EINVAL "'$id'" snap "/dev/o $id"
done
refused "a sub-snapshot that is not there" ENOENT "1.0" snap "/dev/o 1.0"
refused "no id" EINVAL "missing" snap "/dev/o"
refused "two ids" EINVAL "'2'" snap "/dev/o 1 2"
refused "a shorter snapshot" EINVAL "$((size - 8)).*$size|$size.*$((size - 8))" snap "/dev/o 1" $((size - 8))
refused "a longer snapshot" EINVAL "$((size + 8)).*$size|$size.*$((size + 8))" snap "/dev/o 1" $((size + 8))
ok "the right one is taken" snap "/dev/o 1"
dmsetup remove snap
dmsetup remove ms

refused "another chunk size than the store's" EINVAL "/dev/s|chunk size 8.* 16" table "/dev/o /dev/s 16 0 btree 0"
refused "another type than the store's" EINVAL "store [0-9:]+ has type btree, .*bitmask" table "/dev/o /dev/s 8 0 bitmask 0"
refused "a shorter origin" EINVAL "$size.*$((size - 8))" dmsetup create ms --table \
	"0 $((size - 8)) multisnapshot /dev/o /dev/s 8 0 btree 0"
refused "the id 0 in a list" EINVAL "snapshot 0 " table "/dev/o /dev/s 8 1 sync-snapshots btree 0 2 0 1"
cleanup
