#!/bin/bash
# Tables that do not fit what runs: another mode, a shorter one, a snapshot whose
# origin came back with another store.
. ./lib.sh
plan 39

make_small 16 64 32
size=$(sectors /dev/o)
write_pattern /dev/mapper/ms 0 1024 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 64 2
read_ms() { dd if=/dev/mapper/ms of=/dev/null bs=4k count=1 iflag=direct status=none; }
write_ms() { dd if=/dev/zero of=/dev/mapper/ms bs=4k count=1 seek=100 oflag=direct status=none; }
reload() { dmsetup reload "$@" ms --table "$(ms_table /dev/o /dev/s 32)" && dmsetup resume ms; }

# Read-only over read-write, and back.
dmesg_mark
ok "a read-only table over a read-write one" reload --readonly
ok "reads go on" read_ms
fails_with "writes do not" EPERM write_ms
ok "back to read-write" reload
ok "writes go on" write_pattern /dev/mapper/ms 64 16 3
make_snap snap /dev/o 1
ok "the snapshot is as it was" check_pattern /dev/mapper/snap 0 1024 1
dmsetup remove snap

# Read-write over read-only: the store was opened to be read.
dmsetup remove ms
ok "the device is loaded read-only" dmsetup create --readonly ms --table "$(ms_table /dev/o /dev/s 32)"
is "its mode is ro" "$(ms_status ms mode)" ro
fails_with "no snapshot can be asked for" EROFS message ms create
dmesg_mark
fails_with "a read-write table is refused" EROFS dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32)"
is "with one line" "$(our_lines | wc -l)" 1
like "that says the way out" "$(our_lines)" "create it read-write"
ok "the read-only one goes on" read_ms
ok "as does the same table again" reload --readonly
make_snap_ro() { dmsetup create --readonly snap --table "0 $size multisnap-snap /dev/o 1"; }
ok "its snapshot is loaded" make_snap_ro
ok "and read" check_pattern /dev/mapper/snap 0 1024 1
dmsetup remove snap
dmsetup remove ms
make_ms ms /dev/o /dev/s 32

# A shorter table.
dmesg_mark
fails_with "a shorter table is refused while the device is live" EINVAL \
	dmsetup reload ms --table "0 $((size / 2)) multisnapshot /dev/o /dev/s 32 0 $STORE_TYPE 0"
like "with both numbers" "$(our_lines)" "$((size / 2)) .* $size"
is "the table is what it was" "$(dmsetup table ms | cut -d' ' -f2)" "$size"

# The origin comes back with another store, in which the same id is something else.
make_snap snap /dev/o 1
dmsetup remove ms
make_nullblk other 64
ok "the origin is loaded with another store" make_ms ms /dev/o /dev/other 32
is "in which the id exists too" "$(take_snapshot ms)" 1
fails_with "the snapshot of the first store says EIO" EIO \
	dd if=/dev/mapper/snap of=/tmp/out bs=4k count=1 iflag=direct
is "and that its origin is not there" "$(dmsetup status snap | cut -d' ' -f4)" no-origin
make_snap snap2 /dev/o 1
ok "that of the other one is read" dd if=/dev/mapper/snap2 of=/tmp/out bs=4k count=1 iflag=direct status=none
dmsetup remove snap2
ok "and deleted, though the same id of the first store is open" message ms delete 1
ok "the origin is removed with the first snapshot still there" within 20 dmsetup remove ms
ok "and comes back with the first store" make_ms ms /dev/o /dev/s 32
ok "in which the snapshot is right" check_pattern /dev/mapper/snap 100 900 1
dmsetup remove snap

# A create that cannot be is told once.
make_nullblk o2 16 cache_size=4
make_nullblk s2 64
dmsetup create od --table "0 $size linear /dev/o2 0"
make_ms ms2 /dev/mapper/od /dev/s2 32
swap() { dmsetup reload od --table "$1" && dmsetup suspend --noflush --nolockfs od && dmsetup resume od; }
dmsetup suspend ms2
swap "0 $size flakey /dev/o2 0 0 1000"
dmesg_mark
counting ms2 fails_with "a cut at once without the origin's flush" EIO message ms2 create
is "raises an event" "$raised" 1
like "is told in one line" "$(our_lines | grep -c .) $(our_lines)" "^1 .*snapshot 1 "
is "and in status" "$(ms_status ms2 last)" failed:5
dmsetup resume ms2
message ms2 create > /dev/null
dmesg_mark
counting ms2 ok "one in a suspend lets that go on" dmsetup suspend ms2
is "and raises an event" "$raised" 1
like "and is told in one line" "$(our_lines | grep -c .) $(our_lines)" "^1 .*snapshot 1 "
dmsetup resume ms2
swap "0 $size linear /dev/o2 0"
good() { is "the id is given to the next" "$(take_snapshot ms2)" 1; }
counting ms2 good
is "and a good one raises none" "$raised" 0
dmsetup remove ms2

dmsetup suspend ms
ok "a suspended device cuts at once" message ms create
dmsetup resume ms
is "and a resumed one does not" "$(message ms create > /dev/null; ms_status ms pending)" 3
message ms cancel
cleanup
