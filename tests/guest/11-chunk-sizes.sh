#!/bin/bash
# The smallest, a usual, a big and the biggest chunk, each over an origin whose last
# chunk is a part of one: that one is copied to its real length.
. ./lib.sh
plan 40

for chunk in 8 32 2048 2097152; do
	size=16 store=32
	if [ $chunk -eq 2048 ]; then store=64; fi
	if [ $chunk -eq 2097152 ]; then size=1040 store=8192; fi
	make_nullblk o $size
	make_nullblk s $store
	# Three sectors less than the device has.
	all=$(($(sectors /dev/o) - 3))
	dmsetup create odd --table "0 $all linear /dev/o 0"
	tail=$((all % chunk)) first=$((all / chunk * chunk))
	write_pattern /dev/mapper/odd 0 64 1
	part=$((tail < 100 ? tail : 100))
	write_pattern /dev/mapper/odd $first $part 1
	write_pattern /dev/mapper/odd $((all - 1)) 1 1
	ok "$chunk: a table is loaded" make_ms ms /dev/mapper/odd /dev/s $chunk
	is "$chunk: a snapshot is cut" "$(take_snapshot ms)" 1
	ok "$chunk: and loaded" make_snap snap /dev/mapper/odd 1
	read=$(io_count /dev/o 3) wrote=$(io_count /dev/s 7)
	ok "$chunk: the last sector is written" write_pattern /dev/mapper/ms $((all - 1)) 1 2
	is "$chunk: which copies the rest of the device" $(($(io_count /dev/o 3) - read)) $tail
	# What else is written to the store is a few blocks of its log.
	like "$chunk: and no more" $((($(io_count /dev/s 7) - wrote - tail) / 8)) '^[1-9]?[0-9]$'
	ok "$chunk: the snapshot has it as it was" check_pattern /dev/mapper/snap $((all - 1)) 1 1
	if [ $chunk -lt 2097152 ]; then
		# The biggest one's first chunk would be a copy of 1 GiB.
		write_pattern /dev/mapper/ms 5 9 2
	fi
	ok "$chunk: the snapshot's first sectors are right" check_pattern /dev/mapper/snap 0 64 1
	write_pattern /dev/mapper/snap $((first + 1)) 1 3
	ok "$chunk: the snapshot's last chunk can be written" eval 'check_pattern /dev/mapper/snap $first 1 1 &&
		check_pattern /dev/mapper/snap $((first + 1)) 1 3 &&
		check_pattern /dev/mapper/snap $((first + 2)) $((part - 2)) 1'
	ok "$chunk: with no effect on the origin" check_pattern /dev/mapper/ms $first $((part - 1)) 1
	dmsetup remove snap
	dmsetup remove ms
	dmsetup remove odd
	remove_nullblk o
	remove_nullblk s
done
