#!/bin/bash
# Reads, copies and writes of one chunk at the same time, each held back in turn.
# cpus: 2
. ./lib.sh
plan 31

# held <device> <file>: a read of its first chunk by a process whose reads of /dev/o
# do not begin before release.
held() {
	(
		echo $BASHPID > /sys/fs/cgroup/slow/cgroup.procs
		exec dd if="$1" of="$2" bs=4k count=1 iflag=direct status=none
	) &
}
release() { echo "$(cat /sys/block/o/dev) rbps=max" > /sys/fs/cgroup/slow/io.max; }
# value <file or device>: the seed of its first sector.
value() { dd if="$1" bs=512 count=1 ${2:+iflag=$2} status=none | head -c 6; }

make_nullblk o 16
make_nullblk s 16
write_pattern /dev/o 0 64 1
make_ms ms /dev/o /dev/s 8
is "a snapshot is cut" "$(take_snapshot ms)" 1
make_snap snap /dev/o 1

# A snapshot's read is on its way to the origin's chunk, and has not got there: the
# origin's write must wait, though its copy is long done.  The block layer's throttle
# holds back the bios of one cgroup only, and so not the copy.
echo +io > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/slow
echo "$(cat /sys/block/o/dev) rbps=1" > /sys/fs/cgroup/slow/io.max
held /dev/mapper/snap /tmp/read
reader=$!
sleep 1
write_pattern /dev/mapper/ms 0 8 2 &
writer=$!
ok "the write's copy is made" within 5 eval '[ "$(ms_status ms copied)" = 1 ]'
sleep 0.5
ok "the read is held" kill -0 $reader
ok "the write waits for it" kill -0 $writer
is "and has changed nothing" "$(value /dev/o direct)" 000001
held /dev/mapper/snap /tmp/late
late=$!
held /dev/mapper/snap /tmp/late
late=$!
ok "a later read gets the copy at once" within 5 eval "! kill -0 $late"
is "and the old contents" "$(value /tmp/late)" 000001
release
ends_well "the held read ends" $reader
is "with the old contents" "$(value /tmp/read)" 000001
ends_well "the write ends" $writer
is "and is there" "$(value /dev/mapper/ms direct)" 000002
is "the snapshot is as it was" "$(value /dev/mapper/snap direct)" 000001
# Written back by somebody else, it is charged to who has written it, also what waits for a copy.
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/writer
is "another snapshot is cut" "$(take_snapshot ms)" 2
(
	echo $BASHPID > /sys/fs/cgroup/writer/cgroup.procs
	exec dd if=/dev/zero of=/dev/mapper/ms bs=4k seek=64 count=32 conv=notrunc status=none
)
blockdev --flushbufs /dev/mapper/ms
like "writes are charged to who has written" "$(grep "^$(cat /sys/block/o/dev) " /sys/fs/cgroup/writer/io.stat)" " wbytes=131072 "
rmdir /sys/fs/cgroup/writer
dmsetup remove snap
dmsetup remove ms
rmdir /sys/fs/cgroup/slow

# begun <pid>: the write of this shell's child is under way.
begun() { pgrep --parent "$1" --runstates D > /dev/null; }
# overtaken <how>: two writes of a chunk have begun, whose copy is held back.
overtaken() {
	copied=$(ms_status ms copied)
	write_pattern /dev/mapper/ms 0 8 4 &
	writer=$!
	within 5 begun $writer
	write_pattern /dev/mapper/ms 2 2 5 &
	second=$!
	within 5 begun $second
	is "$1: the origin keeps its contents until the copy is safe" "$(value /dev/o direct)" 000003
	ok "$1: the write waits" kill -0 $writer
	is "$1: a snapshot's read meanwhile is right" "$(value /dev/mapper/snap direct)" 000003
}
settled() {
	wait $writer $second
	ok "$1: the snapshot holds the chunk" check_pattern /dev/mapper/snap 0 8 3
	is "$1: both writes are done" "$(value /dev/mapper/ms direct)" 000004
	ok "$1: and in order" check_pattern /dev/mapper/ms 2 2 5
	is "$1: with one copy" $(($(ms_status ms copied) - copied)) 1
}
# become <table>: what the device in between does from now on.
become() {
	dmsetup suspend slow
	dmsetup load slow --table "$1"
	dmsetup resume slow
}

# The copy's read takes two seconds, or more on a slow machine.  A snapshot's read does as well.
# (Loading and removing an origin read samples of it, which is not what is timed here.)
size=$(sectors /dev/o)
dmsetup create slow --table "0 $size linear /dev/o 0"
make_ms ms /dev/mapper/slow /dev/s 8
write_pattern /dev/mapper/ms 0 64 3
make_snap snap /dev/mapper/slow "$(take_snapshot ms)"
become "0 $size delay /dev/o 0 $((2 * ${SLOW:-1}))000 /dev/o 0 0"
overtaken read
become "0 $size linear /dev/o 0"
settled read
dmsetup remove snap
dmsetup remove ms
dmsetup remove slow

# The copy's write gets nowhere until its device is resumed.
dmsetup create slow --table "0 $(sectors /dev/s) linear /dev/s 0"
make_ms ms /dev/o /dev/mapper/slow 8
for at in 0 8 16; do write_pattern /dev/mapper/ms $at 8 3; done
make_snap snap /dev/o "$(take_snapshot ms)"
check_pattern /dev/mapper/snap 0 24 3
dmsetup suspend --noflush --nolockfs slow
overtaken write
sleep 0.5
is "write: the origin still keeps its contents" "$(value /dev/o direct)" 000003
ok "write: reads of the origin go on" check_pattern /dev/mapper/ms 8 8 3
ok "write: and those of the snapshot" check_pattern /dev/mapper/snap 16 8 3
dmsetup resume slow
settled write
cleanup
