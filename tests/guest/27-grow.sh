#!/bin/bash
# Origin and store grow while they are in use, by a reload; nothing shrinks.
. ./lib.sh
plan 47

# The devices are parts of larger ones, so that they can grow.
small=16392 # not whole chunks
large=32768
part() { # <name> <sectors>: new length of /dev/mapper/<name>d
	dmsetup reload "$1"d --table "0 $2 linear /dev/$1 0" && dmsetup resume "$1"d
}
reload() { dmsetup reload ms --table "$(table "$1")" && dmsetup resume ms; }
table() { ms_sectors=$1 ms_table /dev/mapper/od /dev/mapper/sd 32 "1 preserve-on-error"; }
total() { ms_status ms space | cut -d/ -f2; }
make_nullblk o 16
make_nullblk s 64
make_nullblk crash 64
dmsetup create od --table "0 $small linear /dev/o 0"
dmsetup create sd --table "0 12288 linear /dev/s 0"
dmsetup create ms --table "$(table $small)"
write_pattern /dev/mapper/ms 0 $small 1
is "a snapshot of the small origin" "$(take_snapshot ms)" 1

# The origin.
fails_with "a table longer than the device is refused" EINVAL dmsetup reload ms --table "$(table $large)"
part o $large
ok "the origin's device has grown: the longer table is taken" reload $large
is "the device is longer" "$(sectors /dev/mapper/ms)" $large
# What a power cut now would leave, with the growth in the log alone.
dd if=/dev/mapper/sd of=/dev/crash bs=1M iflag=direct oflag=direct status=none
dmesg_mark
fails_with "a shorter table is refused" EINVAL dmsetup reload ms --table "$(table $small)"
like "with both lengths" "$(our_lines)" "$small .* $large"
ok "what was the end is written" write_pattern /dev/mapper/ms 16384 64 2
ok "and so is the new part" write_pattern /dev/mapper/ms 20000 64 2
fails_with "the snapshot has not grown" EINVAL env snap_sectors=$large bash -c '. ./lib.sh; trap - EXIT
	make_snap snap /dev/mapper/od 1'
snap_sectors=$small make_snap snap /dev/mapper/od 1
ok "and is right up to its end" check_pattern /dev/mapper/snap 0 $small 1
is "one chunk was copied" "$(ms_status ms copied)" 1
dmsetup remove snap
# A write that need not wait is one whose chunk is known to be preserved.
now() { python3 nowait.py /dev/mapper/ms "$1"; }
ok "a second write to the old end need not wait" now 16384
ok "nor one to the new part" now 20000
is "a snapshot of the large origin" "$(take_snapshot ms)" 2
fails_with "has stopped that" EAGAIN now 20000
ok "the new part is written again" write_pattern /dev/mapper/ms 20000 64 3
ok "and need not wait then" now 20000
write_pattern /dev/mapper/ms 20000 64 3
make_snap snap /dev/mapper/od 2
ok "the second snapshot has the new part" check_pattern /dev/mapper/snap 20008 56 2
dmsetup remove snap
dmsetup remove ms
dmesg_mark
fails_with "a shorter table is refused at load" EINVAL dmsetup create ms --table "$(table $small)"
like "with both lengths" "$(our_lines)" "$large sectors.* $small"
dmsetup create crash --table "0 12288 linear /dev/crash 0"
from_crash() { ms_sectors=$1 make_ms ms /dev/mapper/od /dev/mapper/crash 32; }
dmesg_mark
fails_with "the same after a power cut" EINVAL from_crash $small
is "with one line" "$(our_lines | wc -l)" 1
like "and both lengths" "$(our_lines)" "$large sectors.* $small"
ok "which lost nothing of the growth" from_crash $large
is "the snapshot is there" "$(ms_status ms ids)" 1
dmsetup remove ms
dmsetup remove crash
ok "the store loads again" dmsetup create ms --table "$(table $large)"

# The store.
before=$(total)
counting ms fails_with "the store gets full" ENOSPC write_pattern /dev/mapper/ms 0 16384 4
is "as the mode says" "$(ms_status ms mode)" full
is "and an event" "$raised" 1
fails_with "a reload alone does not help" ENOSPC eval "reload $large && write_pattern /dev/mapper/ms 0 16384 4"
part s 65536
counting ms ok "the store's device has grown: the same table is taken" reload $large
is "the mode is rw" "$(ms_status ms mode)" rw
is "with an event" "$raised" 1
like "there are more chunks" "$(total) $before" "^[0-9]{4} [0-9]{3}$"
ok "writes go on" write_pattern /dev/mapper/ms 0 16384 4
is "with no word of loss" "$(ms_status ms lost)" 0
snap_sectors=$small make_snap snap /dev/mapper/od 1
ok "the first snapshot is right" check_pattern /dev/mapper/snap 0 $small 1
make_snap snap2 /dev/mapper/od 2
ok "the second one too" check_pattern /dev/mapper/snap2 20008 56 2
dmsetup remove snap
dmsetup remove snap2
ok "all is removed" dmsetup remove ms
part s 12288
dmesg_mark
fails_with "a store that has shrunk is refused" EINVAL dmsetup create ms --table "$(table $large)"
like "with both sizes" "$(our_lines)" "65536 .* 12288"
is "in one line" "$(our_lines | wc -l)" 1
part s 65536
ok "in its full size it loads" dmsetup create ms --table "$(table $large)"
snap_sectors=$small make_snap snap /dev/mapper/od 1
ok "with the snapshot" check_pattern /dev/mapper/snap 0 $small 1
dmsetup remove snap

# Both at once, and with the origin in use.
dmsetup remove ms
cleanup
make_nullblk o 16
make_nullblk s 64
dmsetup create od --table "0 $small linear /dev/o 0"
dmsetup create sd --table "0 12288 linear /dev/s 0"
dmsetup create ms --table "$(table $small)"
write_pattern /dev/mapper/ms 0 $small 1
take_snapshot ms > /dev/null
part o $large
part s 65536
before=$(total)
write_pattern /dev/mapper/ms 0 8192 2 4096 &
job=$!
ok "both have grown, under writes" reload $large
ends_well "which go on" $job
like "both are seen" "$(sectors /dev/mapper/ms) $(total) $before" "^$large [0-9]{4} [0-9]{3}$"
cleanup
