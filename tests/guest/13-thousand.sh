#!/bin/bash
# A thousand snapshots cost an origin's write no more than one does.
. ./lib.sh
plan 16

chunk=32
make_small 16 32 $chunk
write_pattern /dev/mapper/ms 0 256 1
begin=$SECONDS
is "a thousand snapshots are cut in one suspension" "$(python3 snapshots.py ms 1000)" "1 1000"
took=$((SECONDS - begin))
ok "in sensible time (${took}s)" test $took -lt $((60 * ${SLOW:-1}))
is "status counts them" "$(ms_status ms snapshots)" 1000
is "and names them" "$(ms_status ms ids)" 1-1000

# put <sector>: writes there, and says what moved: sectors read and written.
put() {
	local or ow sw
	or=$(io_count /dev/o 3) ow=$(io_count /dev/o 7) sw=$(io_count /dev/s 7)
	write_pattern /dev/mapper/ms "$1" 8 2
	moved=$(($(io_count /dev/s 7) - sw))
	is "sector $1: the origin is read and written $2" \
		"$(($(io_count /dev/o 3) - or)) $(($(io_count /dev/o 7) - ow))" "$3"
}
put 0 "once" "$chunk 8"
# One chunk, and the log's blocks.
like "and the store gets one chunk and a block or two ($moved sectors)" "$moved" "^($((chunk + 8))|$((chunk + 16)))$"
put 8 "with no further copy" "0 8"
is "and the store gets nothing" "$moved" 0
for id in 1 500 1000; do
	ok "snapshot $id is loaded" make_snap s$id /dev/o $id
	ok "and is what it was" check_pattern /dev/mapper/s$id 0 256 1
done
for id in 1 500 1000; do dmsetup remove s$id; done
dmsetup remove ms
begin=$SECONDS
make_ms ms /dev/o /dev/s $chunk
is "all are there after a restart ($((SECONDS - begin))s)" "$(ms_status ms ids)" 1-1000
put 64 "once after it" "$chunk 8"
cleanup
