#!/bin/bash
# Metadata that is not in memory and cannot be read, for a moment or for longer:
# what an origin write does that needs it, and what a sweep does.
. ./lib.sh
plan 36

modprobe -q dm-flakey
swap() {
	dmsetup reload st --table "0 $(sectors /dev/s) $1" &&
		dmsetup suspend --noflush --nolockfs st && dmsetup resume st
}
away() { swap error; }
reads_fail() { swap "flakey /dev/s 0 0 600 1 error_reads"; }
back() { swap "linear /dev/s 0"; }
mode_is() { [ "$(ms_status ms mode)" = "$1" ]; }
more_errors() { [ "$(ms_status ms metadata_errors)" -gt "$1" ]; }
read_at() { dd if="/dev/mapper/$1" of=/tmp/out bs=4k count=1 skip="$2" iflag=direct status=none; }
# The nodes of the first chunks leave memory, since those of all others come in.  Only for a
# snapshot whose chunks have not been looked up yet.
forget() { dd if="/dev/mapper/$1" of=/dev/null bs=1M iflag=direct status=none; }
# Two snapshots; of the first one all chunks are in the store, more than can be remembered.
prepare() { # <generic args>
	make_nullblk o 200
	make_nullblk s 440
	dmsetup create st --table "0 $(sectors /dev/s) linear /dev/s 0"
	make_ms ms /dev/o /dev/mapper/st 8 "$1" "$STORE_TYPE" "2 cache-limit 256"
	take_snapshot ms > /dev/null
	dd if=/dev/zero of=/dev/mapper/ms bs=1M oflag=direct status=none
	write_pattern /dev/mapper/ms 0 64 1
	take_snapshot ms > /dev/null
	make_snap snap /dev/o 2
	forget snap
}

prepare 0
tree=$(ms_status ms metadata | cut -d/ -f1)
ok "the tree has more blocks than are kept in memory ($tree)" test "$tree" -gt 300
ok "the store's device goes away" away
(sleep 0.4; back) &
ok "a write waits for it to come back" write_pattern /dev/mapper/ms 0 8 2
wait $!
is "nothing has happened" "$(ms_status ms mode)" rw
ok "but that it was tried more than once" more_errors 0
ok "and the snapshot is right" check_pattern /dev/mapper/snap 0 64 1

# A node that has changed stays in memory: another one.
make_snap old /dev/o 1
forget old
dmesg_mark
ok "what is there cannot be read" reads_fail
errors=$(ms_status ms metadata_errors)
ok "a write goes on all the same" write_pattern /dev/mapper/ms 24000 8 3
ok "after some tries" more_errors $((errors + 2))
is "the mode is still rw" "$(ms_status ms mode)" rw
like "a line says what was lost" "$(our_lines)" "have lost what the origin still held"
fails_with "the chunk is" EIO read_at snap 3000
ok "it can be read again" back
ok "what was in the store is right" check_pattern /dev/mapper/snap 0 8 1
dmsetup remove old
fails_with "what was not is lost" EIO read_at snap 3001
is "a new snapshot is cut" "$(take_snapshot ms)" 3
make_snap snap3 /dev/o 3
write_pattern /dev/mapper/ms 24000 8 4
ok "and right after another write" check_pattern /dev/mapper/snap3 24000 8 3
dmsetup remove snap3
cleanup

prepare "1 preserve-on-error"
ok "the store's device goes away" away
fails_with "a write fails that needs to know more" EIO write_pattern /dev/mapper/ms 0 8 2
ok "after some tries" more_errors 2
is "the mode is still rw" "$(ms_status ms mode)" rw
ok "the device comes back" back
ok "the write goes on" write_pattern /dev/mapper/ms 0 8 2
ok "and the snapshot is right" check_pattern /dev/mapper/snap 0 64 1

# A sweep that cannot read.
make_snap old /dev/o 1
forget old
dmsetup remove old
free=$(ms_status ms space)
ok "the first snapshot is deleted" message ms delete 1
reads_fail
ok "an error of the sweep is counted" within 20 more_errors "$(ms_status ms metadata_errors)"
like "it is not at its end" "$(ms_status ms sweep)" '^[0-9]'
is "nor is anything else wrong" "$(ms_status ms mode)" rw
back
swept() { [ "$(ms_status ms sweep)" = - ]; }
ok "it goes on when that can be read again" within 60 swept
is "and gives back what nobody needs ($free before)" "$(ms_status ms space | cut -d/ -f1)" 1
ok "the second snapshot is right" check_pattern /dev/mapper/snap 0 64 1

# An outage for long, with no write that needs to know: nothing is lost.
away
sleep 3
ok "it is over" back
# A record that nobody waited for may have been written in between, which is healed.
within 20 mode_is rw
ok "and nothing was lost" check_pattern /dev/mapper/snap 0 64 1
dmsetup remove snap
ok "all is removed" dmsetup remove ms
ok "and loaded again" make_ms ms /dev/o /dev/mapper/st 8
make_snap snap /dev/o 2
ok "the snapshot is right still" check_pattern /dev/mapper/snap 0 64 1
cleanup
