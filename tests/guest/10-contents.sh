#!/bin/bash
# What the origin and every snapshot hold after writes of each kind, in the orders
# of the design's worked examples, and how many copies that took.
. ./lib.sh
plan 69

chunk=8
# cost <command>...: runs it; says what it read of the origin, and the copies made.
cost() {
	local read jobs copied
	read=$(io_count /dev/o 3) jobs=$(ms_status ms copies) copied=$(ms_status ms copied)
	"$@" || return
	echo "$(($(io_count /dev/o 3) - read)) read, $(($(ms_status ms copies) - jobs)) jobs," \
		"$(($(ms_status ms copied) - copied)) chunks"
}
# put <volume> <first sector> <sectors> <seed> [<bytes per write>]
put() { write_pattern "/dev/mapper/$1" "${@:2}"; }
# holds <volume> <first sector> <sectors> <seed>
holds() { ok "$1 holds writing $4 at $2+$3" check_pattern "/dev/mapper/$1" "${@:2}"; }

make_nullblk o 16
make_nullblk s 32
write_pattern /dev/o 0 1024 1
ok "a table is loaded" make_ms ms /dev/o /dev/s $chunk
is "the origin is as it was" "$(cost check_pattern /dev/mapper/ms 0 1024 1)" "1024 read, 0 jobs, 0 chunks"
is "a write with no snapshot costs nothing" "$(cost put ms 512 64 2)" "0 read, 0 jobs, 0 chunks"
for id in 1 2 3; do
	is "snapshot $id is cut" "$(take_snapshot ms)" $id
	ok "and loaded" make_snap s$id /dev/o $id
	holds s$id 0 512 1
	holds s$id 512 64 2
done

# Chunk 0: nobody has written.
is "three snapshots, one write: one copy" "$(cost put ms 0 8 10)" "8 read, 1 jobs, 1 chunks"
is "the next write there: none" "$(cost put ms 2 3 11)" "0 read, 0 jobs, 0 chunks"
for id in 1 2 3; do holds s$id 0 8 1; done
holds ms 0 2 10
holds ms 2 3 11
holds ms 5 3 10

# Chunk 1: the one in the middle was written first.
is "a whole chunk of a snapshot is written with no copy" "$(cost put s2 8 8 12)" "0 read, 0 jobs, 0 chunks"
holds s1 8 8 1
# Two gaps between records of ranges, or one mask.
[ "$STORE_TYPE" = btree ] && copies=2 || copies=1
is "then the origin: one read, $copies copies" "$(cost put ms 8 8 13)" "8 read, 1 jobs, $copies chunks"
holds s1 8 8 1
holds s2 8 8 12
holds s3 8 8 1
holds ms 8 8 13

# Chunk 2: the newest was written first.
is "a part of a chunk of a snapshot is written after a copy" "$(cost put s3 17 3 14)" "8 read, 1 jobs, 1 chunks"
is "then the origin: one copy for the two older" "$(cost put ms 16 8 15)" "8 read, 1 jobs, 1 chunks"
is "then once more: none" "$(cost put ms 16 8 16)" "0 read, 0 jobs, 0 chunks"
holds s1 16 8 1
holds s2 16 8 1
holds s3 16 1 1
holds s3 17 3 14
holds s3 20 4 1

# A chunk that is the snapshot's alone, and one it shares with others.
is "a chunk of one's own is written in place" "$(cost put s3 18 1 17)" "0 read, 0 jobs, 0 chunks"
holds s3 17 1 14
holds s3 18 1 17
is "a shared chunk is copied, not from the origin" "$(cost put s2 3 2 18)" "0 read, 1 jobs, 1 chunks"
is "and then it is one's own" "$(cost put s2 6 1 19)" "0 read, 0 jobs, 0 chunks"
is "a shared chunk written as a whole is not copied" "$(cost put s3 0 8 20)" "0 read, 0 jobs, 0 chunks"
holds s1 0 8 1
holds s2 0 3 1
holds s2 3 2 18
holds s2 5 1 1
holds s2 6 1 19
holds s3 0 8 20
holds ms 0 2 10

# Writes over many chunks that begin and end within one.
like "a write across fourteen chunks" "$(cost put ms 37 100 21)" "^112 read, .* 14 chunks$"
for id in 1 2 3; do holds s$id 24 488 1; done
holds ms 24 13 1
holds ms 37 100 21
holds ms 137 375 1
is "a snapshot's write across chunks of every kind copies the last one" \
	"$(cost put s1 1 198 22)" "8 read, 1 jobs, 1 chunks"
holds s1 0 1 1
holds s1 1 198 22
holds s1 199 313 1
holds s2 24 488 1
holds ms 37 100 21

# A younger snapshot keeps what is new to it, and nothing older.
is "another snapshot" "$(take_snapshot ms)" 4
ok "is loaded" make_snap s4 /dev/o 4
is "the next write is copied for it alone" "$(cost put ms 40 4 23)" "8 read, 1 jobs, 1 chunks"
holds s4 37 100 21
holds s3 24 488 1
cleanup
