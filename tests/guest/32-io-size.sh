#!/bin/bash
# Big requests stay big where nothing has to be decided by chunk.
. ./lib.sh
plan 9

# requests <device below> <field> <command>...: how many the device below got.
requests() {
	local device=$1 field=$2 before
	before=$(io_count "$device" "$field")
	shift 2
	"$@"
	echo $(($(io_count "$device" "$field") - before))
}
# A request of the size that every buffer fits.
read_all() { dd if="$1" of=/dev/null bs=256k count="${2:-16}" iflag=direct status=none; }
write_all() { dd if=/dev/zero of="$1" bs=256k count="${2:-16}" oflag=direct status=none; }
read_big() { dd if="$1" of=/dev/null bs=1M count=8 iflag=direct status=none; }
most() { test "$1" -le "$2"; }

# Of itself a null_blk takes no more than 127 KiB at once.
make_nullblk o 32 max_sectors=2048
make_nullblk s 64 max_sectors=2048
make_ms ms /dev/o /dev/s 8
is "writes with no snapshot are not cut" "$(requests /dev/o 5 write_all /dev/mapper/ms)" 16
take_snapshot ms > /dev/null
make_snap snap /dev/o 1
is "reads of the origin are not cut" "$(requests /dev/o 1 read_all /dev/mapper/ms)" 16
plain=$(requests /dev/o 1 read_big /dev/o)
big=$(requests /dev/o 1 read_big /dev/mapper/ms)
ok "1 MiB is read in $big requests where the device itself makes $plain" most "$big" $((plain + 16))
before=$(ms_status ms copied)
write_all /dev/mapper/ms 2
is "a write of 512 KiB copies its 128 chunks" $(($(ms_status ms copied) - before)) 128
is "a write with nothing to copy is not cut" "$(requests /dev/o 5 write_all /dev/mapper/ms 2)" 2
is "reads of the origin are still not cut" "$(requests /dev/o 1 read_all /dev/mapper/ms)" 16
# What is known of a snapshot's chunks from a first read is not asked for again, nor cut.
read_tail() { dd if=/dev/mapper/snap of=/dev/null bs=256k skip=4 count=16 iflag=direct status=none; }
read_head() { dd if=/dev/mapper/snap of=/dev/null bs=256k count=2 iflag=direct status=none; }
read_tail
read_head
is "reads of a snapshot are not cut where it shares the origin's chunks" "$(requests /dev/o 1 read_tail)" 16
is "nor where its own follow each other" "$(requests /dev/s 1 read_head)" 2
ok "no request is bigger than the device takes" dd if=/dev/mapper/snap of=/dev/null bs=4M count=4 iflag=direct
cleanup
