#!/bin/bash
# No other table takes the place of a live origin's, but multisnap-out, which has it written down
# first that the snapshots lose what the origin still holds.
. ./lib.sh
plan 39

make_small 16 64 32
size=$(sectors /dev/o)
linear="0 $size linear /dev/o 0"
out="0 $size multisnap-out /dev/o"
write_pattern /dev/mapper/ms 0 1024 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 64 2
make_snap s1 /dev/o 1
lost() { fails_with "$1" EIO dd if=/dev/mapper/s1 of=/tmp/o bs=4k count=1 skip=100 iflag=direct; }
kind() { dmsetup table "$1" | cut -d' ' -f3; }

fails_with "a plain table is refused" EINVAL dmsetup reload ms --table "$linear"
is "and none is loaded" "$(dmsetup info -c --noheadings -o tables_loaded ms)" Live
ok "nothing has changed" check_pattern /dev/mapper/s1 0 1024 1

# What multisnap-out takes.
dmesg_mark
fails_with "out without an origin" EINVAL dmsetup reload ms --table "0 $size multisnap-out"
fails_with "out with too much" EINVAL dmsetup reload ms --table "$out x"
fails_with "out with another length" EINVAL dmsetup reload ms --table "0 1024 multisnap-out /dev/o"
fails_with "out of an origin that is under nothing" ENODEV dmsetup create x --table "0 8 multisnap-out /dev/s"
fails_with "out for another device" EBUSY dmsetup create x --table "$out"
is "with one line each" "$(our_lines | wc -l)" 5
dmsetup remove x 2> /dev/null

# Loaded and dropped, it changes nothing.
ok "out is loaded" dmsetup reload ms --table "$out"
ok "and dropped" dmsetup clear ms
ok "nothing has changed" check_pattern /dev/mapper/s1 0 1024 1

# While it is in use: every write gets through, by one table or the other.
write_on() {
	local n
	for n in $(seq 30); do
		pattern 2048 8 "$n" | dd of=/dev/mapper/ms bs=4k iflag=fullblock oflag=direct seek=256 conv=notrunc status=none || return
	done
}
write_on & writer=$!
dmesg_mark
dmsetup reload ms --table "$out"
ok "it is taken out under a writer" dmsetup resume ms
is "the target is another" "$(kind ms)" multisnap-out
like "and one line tells of the loss" "$(our_lines)" "origin .* is not under multisnapshot any more: its snapshots have lost"
ends_well "the writer has met no error" "$writer"
ok "what it wrote last is on the origin" check_pattern /dev/o 2048 8 30
fails_with "a snapshot says EIO" EIO dd if=/dev/mapper/s1 of=/tmp/o bs=4k count=1 iflag=direct
ok "it is suspended and resumed" eval "dmsetup suspend ms && dmsetup resume ms"
dmsetup reload ms --table "$linear"
ok "a plain table follows" dmsetup resume ms
is "and is live" "$(kind ms)" linear
write_pattern /dev/mapper/ms 4096 64 3
dmsetup remove ms

# The loss is on disk, for every later load.
ok "the origin is put under again" make_ms ms /dev/o /dev/s 32
is "no id has gone" "$(ms_status ms ids)" 1
ok "what the store holds is right" check_pattern /dev/mapper/s1 0 64 1
lost "what the origin held is lost"
is "a new snapshot is whole" "$(take_snapshot ms > /dev/null; make_snap s2 /dev/o 2 &&
	check_pattern /dev/mapper/s2 4096 64 3 && check_pattern /dev/mapper/s2 2048 8 30 && echo whole)" whole

# Without snapshots nothing is said.
dmsetup remove s1; dmsetup remove s2
message ms delete 1; message ms delete 2
dmesg_mark
dmsetup reload ms --table "$out" && dmsetup resume ms
is "out without snapshots says nothing" "$(our_lines)" ""
ok "and back in by a reload" eval "dmsetup reload ms --table '$(ms_table /dev/o /dev/s 32)' && dmsetup resume ms"

# A table that says that the origin was written.
write_pattern /dev/mapper/ms 0 1024 5
is "a snapshot" "$(take_snapshot ms)" 3
dmsetup remove ms
dmesg_mark
ok "a table can say that the origin was written" make_ms ms /dev/o /dev/s 32 "1 origin-written"
like "which one line tells" "$(our_lines)" "was written .* origin-written"
is "it is said once" "$(dmsetup table ms | grep -c origin-written)" 0
make_snap s1 /dev/o 3
lost "what the origin held is lost"
dmsetup remove s1
is "and not what it holds from now on" "$(take_snapshot ms > /dev/null; make_snap s1 /dev/o 4 &&
	check_pattern /dev/mapper/s1 0 1024 5 && echo whole)" whole
dmsetup remove s1
dmsetup remove ms

# A store that takes nothing does not keep the origin.
dmsetup create st --table "0 $(sectors /dev/s) linear /dev/s 0"
make_ms ms /dev/o /dev/mapper/st 32
dmsetup reload st --table "0 $(sectors /dev/s) error"
dmsetup suspend --noflush --nolockfs st && dmsetup resume st
dmesg_mark
dmsetup reload ms --table "$out"
ok "it is taken out from a store that has failed" within 20 dmsetup resume ms
like "with a line that says what is in doubt" "$(our_lines)" "do not trust its snapshots"
ok "and goes on" write_pattern /dev/mapper/ms 0 64 6
dmsetup remove ms
dmsetup remove st

# One that could not be started is suspended, and has a way back.
dmsetup create st --table "0 $(sectors /dev/s) linear /dev/s 0"
dmsetup create dev --table "$linear"
dmsetup create below --table "$linear"
dmsetup reload dev --table "$(ms_table /dev/mapper/below /dev/mapper/st 32)"
dmsetup reload st --table "0 $(sectors /dev/s) error"
dmsetup suspend --noflush --nolockfs st && dmsetup resume st
fails_with "a store that fails in between keeps it from starting" EIO dmsetup resume dev
dmsetup reload dev --table "0 $size multisnap-out /dev/mapper/below"
dmsetup resume dev
dmsetup reload dev --table "$linear"
dmsetup resume dev
ok "by way of out it gets its own table back" check_pattern /dev/mapper/dev 0 64 6
cleanup
