#!/bin/bash
# What a flush and a forced write reach, over devices with and without a write cache.
. ./lib.sh
plan 24

flushes() { io_count "$1" 16; }
# moved <device> <command>...: how many flushes the device got from it.
moved() {
	local device=$1 before
	before=$(flushes "$device")
	shift
	"$@" > /dev/null || return
	echo $(($(flushes "$device") - before))
}
synced() { dd if=/dev/zero of="$1" bs=4k count=1 seek="${2:-0}" conv=fsync,notrunc status=none; }
forced() { dd if=/dev/zero of="$1" bs=4k count=1 seek="${2:-0}" oflag=direct,dsync conv=notrunc status=none; }
queue() { cat "/sys/block/$(block_name "$1")/queue/$2"; }

make_nullblk o 16 cache_size=4
make_nullblk s 16 cache_size=4
make_ms ms /dev/o /dev/s 8
like "a sync of the origin flushes it" "$(moved /dev/o synced /dev/mapper/ms)" '^[1-9]'
is "and not the store, as nothing is to commit" "$(moved /dev/s synced /dev/mapper/ms)" 0
like "a cut flushes the origin" "$(moved /dev/o take_snapshot ms)" '^[1-9]'
like "and the store" "$(moved /dev/s take_snapshot ms)" '^[1-9]'
make_snap snap /dev/o 2
flushed=$(moved /dev/s dd if=/dev/zero of=/dev/mapper/ms bs=4k count=8 oflag=direct status=none)
like "a copy is committed behind a flush of the store" "$flushed" '^[1-9]'
like "a sync of a snapshot flushes the store" "$(moved /dev/s synced /dev/mapper/snap 16)" '^[1-9]'
like "and does so with nothing new to write" "$(moved /dev/s sync -d /dev/mapper/snap)" '^[01]$'
before=$(ms_status ms commits)
dd if=/dev/zero of=/dev/mapper/snap bs=4k count=50 seek=100 oflag=direct status=none
# An idle store commits once a second.
ok "a snapshot's writes end without a commit each" test $(($(ms_status ms commits) - before)) -lt 10
like "a forced write of a snapshot is committed" "$(moved /dev/s forced /dev/mapper/snap 24)" '^[1-9]'
before=$(ms_status ms commits)
forced /dev/mapper/snap 24
is "a forced write in place needs no commit" "$(ms_status ms commits)" "$before"
is "both devices tell of a cache: the origin" "$(queue /dev/mapper/ms write_cache)" "write back"
is "and the snapshot" "$(queue /dev/mapper/snap write_cache)" "write back"
cleanup

make_nullblk o 16
make_nullblk s 16
make_ms ms /dev/o /dev/s 8
is "an origin with no cache has none" "$(queue /dev/mapper/ms write_cache)" "write through"
take_snapshot ms > /dev/null
make_snap snap /dev/o 1
is "a snapshot has one all the same" "$(queue /dev/mapper/snap write_cache)" "write back"
before=$(ms_status ms commits)
ok "a sync of it succeeds" synced /dev/mapper/snap
ok "and is a commit" test "$(ms_status ms commits)" -gt "$before"
before=$(ms_status ms commits)
ok "a forced write succeeds" forced /dev/mapper/snap 4
ok "and is a commit" test "$(ms_status ms commits)" -gt "$before"
is "the devices were asked for no flush" "$(flushes /dev/o) $(flushes /dev/s)" "0 0"
before=$(ms_status ms commits)
ok "a sync of the origin succeeds" synced /dev/mapper/ms 8
is "with a commit for its copy" "$(ms_status ms commits)" $((before + 1))
cleanup

# Only one side has a cache.
make_nullblk o 16
make_nullblk s 16 cache_size=4
make_ms ms /dev/o /dev/s 8
take_snapshot ms > /dev/null
make_snap snap /dev/o 1
like "a store alone with a cache: a sync of the snapshot reaches it" "$(moved /dev/s synced /dev/mapper/snap)" '^[1-9]'
like "and a copy's commit" "$(moved /dev/s synced /dev/mapper/ms 8)" '^[1-9]'
is "the origin gets none" "$(flushes /dev/o)" 0
cleanup
