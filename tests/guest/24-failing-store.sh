#!/bin/bash
# A store whose device goes away and comes back: what is told, what is lost, and
# that nothing wrong is ever read.
. ./lib.sh
plan 47

away() { swap "0 $(sectors /dev/s) error"; }
back() { swap "0 $(sectors /dev/s) linear /dev/s 0"; }
swap() {
	dmsetup reload st --table "$1" && dmsetup suspend --noflush --nolockfs st && dmsetup resume st
}
mode_is() { [ "$(ms_status ms mode)" = "$1" ]; }
read_at() { dd if="/dev/mapper/$1" of=/tmp/out bs=4k count=1 skip="$2" iflag=direct status=none; }
origin_with_store_on_dm() { # <generic args>
	make_nullblk o 16
	make_nullblk s 64
	dmsetup create st --table "0 $(sectors /dev/s) linear /dev/s 0"
	make_ms ms /dev/o /dev/mapper/st 32 "$1"
	write_pattern /dev/mapper/ms 0 2048 1
	take_snapshot ms > /dev/null
	write_pattern /dev/mapper/ms 0 64 2
	make_snap snap /dev/o 1
}

# The origin goes on, and the loss is told.
origin_with_store_on_dm 0
dmesg_mark
ok "the store's device goes away" away
fall() {
	ok "an origin write goes on" write_pattern /dev/mapper/ms 640 16 3
	ok "the mode becomes fail" within 10 mode_is fail
}
counting ms fall
is "an event is raised" "$raised" 1
like "a line says so" "$(our_lines)" "failed with error"
ok "as do more" write_pattern /dev/mapper/ms 0 64 4
fails_with "the snapshot says EIO" EIO read_at snap 0
fails_with "to writes too" EIO dd if=/dev/zero of=/dev/mapper/snap bs=4k count=1 oflag=direct
fails_with "no snapshot can be cut" EIO message ms create
ok "the origin is read" check_pattern /dev/mapper/ms 640 16 3
return_of_it() {
	ok "the device comes back" back
	ok "and the mode is rw again" within 20 mode_is rw
}
counting ms return_of_it
is "which raises an event" "$raised" 1
like "a line says what was lost" "$(our_lines)" "have lost what the origin still held"
ok "what was in the store is right" check_pattern /dev/mapper/snap 0 64 1
fails_with "what was written meanwhile is lost" EIO read_at snap 80
fails_with "and so is what the origin held" EIO read_at snap 200
is "a new snapshot is cut" "$(take_snapshot ms)" 2
make_snap snap2 /dev/o 2
write_pattern /dev/mapper/ms 640 16 5
ok "and right after another write" check_pattern /dev/mapper/snap2 640 16 3
ok "also where it shares the origin" check_pattern /dev/mapper/snap2 1024 1024 1
dmsetup remove snap
dmsetup remove snap2
ok "all is removed" dmsetup remove ms
ok "and loaded again" make_ms ms /dev/o /dev/mapper/st 32
make_snap snap /dev/o 1
make_snap snap2 /dev/o 2
ok "the first snapshot's chunks are there" check_pattern /dev/mapper/snap 0 64 1
fails_with "its losses too" EIO read_at snap 200
ok "the second one is right" check_pattern /dev/mapper/snap2 640 16 3
cleanup

# With preserve-on-error nothing is lost.
origin_with_store_on_dm "1 preserve-on-error"
ok "the store's device goes away" away
fails_with "a write that needs a copy fails" EIO write_pattern /dev/mapper/ms 640 16 3
ok "one that needs none goes on" write_pattern /dev/mapper/ms 0 16 4
fall() {
	fails_with "a name cannot be given" EIO message ms name 1 gone
	ok "which makes the mode fail" within 10 mode_is fail
}
counting ms fall
is "with an event" "$raised" 1
fails_with "then the write fails still" EIO write_pattern /dev/mapper/ms 640 16 3
counting ms return_of_it
is "with an event" "$raised" 1
ok "the snapshot has lost nothing" check_pattern /dev/mapper/snap 0 2048 1
ok "writes go on" write_pattern /dev/mapper/ms 640 16 3
ok "with the old content kept" check_pattern /dev/mapper/snap 640 16 1

# Gone at removal: not clean, and nothing lost.
ok "the device goes away again" away
dmsetup remove snap
dmesg_mark
ok "the origin is removed all the same" within 60 dmsetup remove ms
like "and a line says that it was not clean" "$(our_lines)" "not closed cleanly"
dmesg_mark
fails_with "it cannot be loaded" EIO make_ms ms /dev/o /dev/mapper/st 32
like "with a line of ours" "$(our_lines)" "/dev/mapper/st|store"
back
ok "it is loaded from the device that is back" make_ms ms /dev/o /dev/mapper/st 32
make_snap snap /dev/o 1
ok "and the snapshot is right" check_pattern /dev/mapper/snap 0 2048 1
is "its mode is rw" "$(ms_status ms mode)" rw
ok "the origin is what it was" check_pattern /dev/mapper/ms 640 16 3
cleanup
