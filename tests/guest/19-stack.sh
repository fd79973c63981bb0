#!/bin/bash
# Several origins at once, and an origin that stands on a snapshot of another.
. ./lib.sh
plan 19

make_nullblk o 16
make_nullblk s 64
make_nullblk o2 16
make_nullblk s2 64
ok "one origin" make_ms ms /dev/o /dev/s 32
ok "and another" make_ms ms2 /dev/o2 /dev/s2 8
write_pattern /dev/mapper/ms 0 512 1
write_pattern /dev/mapper/ms2 0 512 2
is "each counts its own snapshots" "$(take_snapshot ms) $(take_snapshot ms) $(take_snapshot ms2)" "1 2 1"
make_snap a1 /dev/o 1
make_snap b1 /dev/o2 1
write_pattern /dev/mapper/ms 0 64 3 &
write_pattern /dev/mapper/ms2 32 64 4
wait $!
ok "the first one's snapshot" check_pattern /dev/mapper/a1 0 512 1
ok "the second one's" check_pattern /dev/mapper/b1 0 512 2
is "its copies" "$(ms_status ms2 copied)" 8
is "are its own" "$(ms_status ms copied)" 2

# a2 is an origin of its own; its store lies on the same disk as the lower one's.
make_snap a2 /dev/o 2
make_nullblk s3 64
ok "an origin stands on a snapshot" make_ms upper /dev/mapper/a2 /dev/s3 16
is "and is cut" "$(take_snapshot upper)" 1
ok "that snapshot is loaded" make_snap u1 /dev/mapper/a2 1
write_pattern /dev/mapper/upper 10 80 5
write_pattern /dev/mapper/ms 0 256 6
ok "the upper one's snapshot is what the lower was" check_pattern /dev/mapper/u1 0 512 1
ok "the upper one has its write" check_pattern /dev/mapper/upper 10 80 5
ok "and the lower one's old contents around it" check_pattern /dev/mapper/upper 90 422 1
is "a cut of both" "$(take_snapshot ms) $(take_snapshot upper)" "3 2"
ok "writes to all at once" fio --name=all --ioengine=libaio --direct=1 --rw=randwrite --bs=16k --iodepth=8 \
	--size=2m --verify=crc32c --name=a --filename=/dev/mapper/ms --name=b --filename=/dev/mapper/upper \
	--name=c --filename=/dev/mapper/u1 --output=/tmp/fio
ok "the first snapshot is still right" check_pattern /dev/mapper/a1 0 512 1
dmsetup remove u1
ok "the upper one goes" dmsetup remove upper
ok "the lower one too" eval "dmsetup remove a1 && dmsetup remove a2 && dmsetup remove ms"
ok "the other one does not care" check_pattern /dev/mapper/ms2 32 64 4
cleanup
