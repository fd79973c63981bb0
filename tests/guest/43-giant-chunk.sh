#!/bin/bash
# A chunk of 1 GiB, copied whole.  The disks are sparse files, and stay so.
# boot: --disk origin=2G,discard=unmap,detect-zeroes=unmap --disk store=8G,discard=unmap,detect-zeroes=unmap
. ./lib.sh
plan 12

chunk=2097152 o=/dev/disk/origin s=/dev/disk/store
# Where the content is looked at: both ends, the middle, and next to a round number.
places="0 1048571 1048576 $((chunk - 8))"
for at in $places $chunk; do write_pattern $o "$at" 8 1; done
ok "a table is loaded" make_ms ms $o $s $chunk
is "a snapshot is cut" "$(take_snapshot ms)" 1
read=$(io_count $o 3) wrote=$(io_count $s 7)
ok "a block in the middle is written" write_pattern /dev/mapper/ms 1048576 8 2
is "which copies the chunk, once" "$(ms_status ms copies) $(ms_status ms copied)" "1 1"
is "all of it is read" $(($(io_count $o 3) - read)) $chunk
# What else is written to the store is a few blocks of its log.
like "and written, and no more" $((($(io_count $s 7) - wrote - chunk) / 8)) '^[1-9]?[0-9]$'
ok "a table of the snapshot is loaded" make_snap snap $o 1
same() { local at; for at in $places $chunk; do check_pattern /dev/mapper/snap "$at" 8 1 || return; done; }
ok "the snapshot has it as it was" same
ok "the origin has what was written" check_pattern /dev/mapper/ms 1048576 8 2
dmsetup remove snap
dmsetup remove ms
ok "it is loaded again" make_ms ms $o $s $chunk
make_snap snap $o 1
ok "the snapshot has it as it was" same
ok "there is no room for a third chunk, and the origin goes on" write_pattern /dev/mapper/ms 3000000 8 3
cleanup
