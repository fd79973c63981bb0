#!/bin/bash
# Discards and writes of zeroes: what is passed down, what a snapshot gives back, limits.
# boot: --disk zo=32M,discard=unmap --disk zs=64M,discard=unmap
. ./lib.sh
plan 81

queue() { cat "/sys/block/$(block_name "$1")/queue/$2"; }
discarded() { io_count "$1" 14; }
space_used() { ms_status ms space | cut -d/ -f1; }
used_is() { [ "$(space_used)" = "$1" ]; }
mib=$((1 << 20))

# --- the origin --------------------------------------------------------------

make_nullblk o 32
make_nullblk s 64
make_ms ms /dev/o /dev/s 32
for limit in discard_granularity discard_max_bytes write_zeroes_max_bytes; do
	is "$limit of the origin is the device's" "$(queue /dev/mapper/ms $limit)" "$(queue /dev/o $limit)"
done
write_pattern /dev/mapper/ms 0 16384 1
before=$(discarded /dev/o)
ok "a discard without snapshots" blkdiscard -o $((7 * mib)) -l $mib /dev/mapper/ms
is "is passed down" $(($(discarded /dev/o) - before)) 2048
ok "all of it" is_zero /dev/mapper/ms 14336 2048
write_pattern /dev/mapper/ms 14336 2048 1

take_snapshot ms > /dev/null
make_snap s1 /dev/o 1
before=$(discarded /dev/o) used=$(space_used)
ok "a discard of what a snapshot needs" blkdiscard -o 0 -l $((4 * mib)) /dev/mapper/ms
is "is not passed down" $(($(discarded /dev/o) - before)) 0
is "and copies nothing" "$(ms_status ms copies) $(space_used)" "0 $used"
ok "the origin keeps its content" check_pattern /dev/mapper/ms 0 8192 1
write_pattern /dev/mapper/ms 0 2048 2
before=$(discarded /dev/o) requests=$(io_count /dev/o 12)
ok "a discard of more than what was preserved" blkdiscard -o 0 -l $((4 * mib)) /dev/mapper/ms
is "is passed down where it was" $(($(discarded /dev/o) - before)) 2048
is "not cut into chunks there" $(($(io_count /dev/o 12) - requests)) 1
ok "the origin is empty there" is_zero /dev/mapper/ms 0 2048
ok "and as it was behind" check_pattern /dev/mapper/ms 2048 6144 1
ok "the snapshot is right" check_pattern /dev/mapper/s1 0 16384 1
before=$(discarded /dev/o)
ok "a discard that begins and ends within chunks" blkdiscard -o 4096 -l 32768 /dev/mapper/ms
is "is passed down as it is" $(($(discarded /dev/o) - before)) 64

# With discard-copy.
ok "discard-copy can be switched on" \
	dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32 "1 discard-copy")"
dmsetup suspend ms && dmsetup resume ms
like "the table shows it" "$(dmsetup table ms)" " 32 1 discard-copy $STORE_TYPE 0$"
before=$(discarded /dev/o) copied=$(ms_status ms copied)
ok "a discard of what a snapshot needs" blkdiscard -o $((4 * mib)) -l $((2 * mib)) /dev/mapper/ms
is "is passed down" $(($(discarded /dev/o) - before)) 4096
is "and every chunk was preserved" $(($(ms_status ms copied) - copied)) 128
ok "the origin is empty there" is_zero /dev/mapper/ms 8192 4096
ok "the snapshot is right" check_pattern /dev/mapper/s1 0 16384 1
both="2 preserve-on-error discard-copy"
dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32 "$both")" && dmsetup suspend ms && dmsetup resume ms
like "with both words" "$(dmsetup table ms)" " 32 $both $STORE_TYPE 0$"
dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32)" && dmsetup suspend ms && dmsetup resume ms
copied=$(ms_status ms copied)
ok "switched off" blkdiscard -o $((6 * mib)) -l $mib /dev/mapper/ms
is "it copies nothing" $(($(ms_status ms copied) - copied)) 0

# Suspends with discards on their way.
storm() {
	while [ ! -e /tmp/stop ]; do
		blkdiscard -o 0 -l $((16 * mib)) /dev/mapper/ms || return
		write_pattern /dev/mapper/ms 20000 64 3 || return
	done
}
rm -f /tmp/stop
storm &
job=$!
rc=0
for _ in 1 2 3 4; do
	dmsetup suspend ms && dmsetup resume ms && dmsetup suspend --noflush ms && dmsetup resume ms || rc=1
	take_snapshot ms > /dev/null || rc=1
done
touch /tmp/stop
is "suspends and creates with discards on their way" $rc 0
ends_well "no discard fails" $job
ok "the snapshot is right" check_pattern /dev/mapper/s1 0 16384 1
cleanup

# A full store: no error, and nothing is lost for the sake of a discard.
make_nullblk o 16
make_nullblk s 6
make_ms ms /dev/o /dev/s 32 "1 discard-copy"
write_pattern /dev/mapper/ms 0 32768 1
take_snapshot ms > /dev/null
ok "a discard that the store has no room for" blkdiscard /dev/mapper/ms
is "costs nothing" "$(ms_status ms lost)" 0
is "though the store is full" "$(ms_status ms mode)" full
make_snap s1 /dev/o 1
ok "the snapshot is right" check_pattern /dev/mapper/s1 0 32768 1
cleanup

# A file system that is trimmed.
make_nullblk o 64 blocksize=4096
make_nullblk s 64 blocksize=4096
make_ms ms /dev/o /dev/s 32
ok "mkfs discards" mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/ms
mkdir -p /tmp/now /tmp/then
mount /dev/mapper/ms /tmp/now
for n in 1 2 3 4 5; do pattern 0 8000 "$n" > "/tmp/now/file$n"; done
sum=$(cd /tmp/now && cat file* | cksum)
take_snapshot ms > /dev/null
rm /tmp/now/file[1-4]
sync
used=$(space_used)
before=$(discarded /dev/o)
ok "a trim of a file system with a snapshot" fstrim /tmp/now
sync
most() { test "$1" -le "$2"; }
ok "takes next to no space" most $(($(space_used) - used)) 32
pattern 0 20000 9 > /tmp/now/other
sync
rm /tmp/now/other
sync
fstrim /tmp/now
ok "what was written since is passed down" most 10000 $(($(discarded /dev/o) - before))
make_snap s1 /dev/o 1
ok "the snapshot's file system is clean" e2fsck -fp /dev/mapper/s1
mount /dev/mapper/s1 /tmp/then
is "and its files are what they were" "$(cd /tmp/then && cat file* | cksum)" "$sum"
ok "it can be trimmed itself" fstrim /tmp/then
umount /tmp/then /tmp/now
ok "the origin's file system is clean" e2fsck -fp /dev/mapper/ms
cleanup

# A device without discards.
make_nullblk o 16 discard=0
make_nullblk s 32 discard=0
make_ms ms /dev/o /dev/s 32
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
is "an origin without discards announces none" "$(queue /dev/mapper/ms discard_max_bytes)" 0
fails_with "and has none" EOPNOTSUPP blkdiscard /dev/mapper/ms
like "it punches no holes" "$(fallocate -p -o 0 -l $mib /dev/mapper/ms 2>&1)" unsupported
ok "zeroes are written instead" blkdiscard -z -o 0 -l $mib /dev/mapper/ms
ok "and read" is_zero /dev/mapper/ms 0 2048
make_snap s1 /dev/o 1
ok "the snapshot is right" check_pattern /dev/mapper/s1 0 4096 1
write_pattern /dev/mapper/s1 0 64 2
ok "it has discards of its own" blkdiscard -o 0 -l 32768 /dev/mapper/s1
ok "with effect" is_zero /dev/mapper/s1 0 64
dmsetup remove s1
dmsetup remove ms
dmsetup create ms --readonly --table "$(ms_table /dev/o /dev/s 32)"
dmsetup create s1 --readonly --table "0 $(sectors /dev/o) multisnap-snap /dev/o 1"
ok "a read-only snapshot is not discarded" bash -c '! blkdiscard /dev/mapper/s1'
ok "nor a read-only origin zeroed" bash -c '! blkdiscard -z /dev/mapper/ms'
ok "all is as it was" check_pattern /dev/mapper/s1 64 4032 1
cleanup

# --- snapshots, on devices that write zeroes too -----------------------------

o=/dev/disk/zo s=/dev/disk/zs
make_ms ms $o $s 32
is "write_zeroes_max_bytes of the origin is the device's" \
	"$(queue /dev/mapper/ms write_zeroes_max_bytes)" "$(queue $o write_zeroes_max_bytes)"
write_pattern /dev/mapper/ms 0 16384 1
take_snapshot ms > /dev/null
take_snapshot ms > /dev/null
make_snap s1 $o 1
is "a snapshot discards by the chunk" "$(queue /dev/mapper/s1 discard_granularity)" 16384
is "a thousand of them at once" "$(queue /dev/mapper/s1 discard_max_bytes)" $((1024 * 16384))
is "from its start" "$(cat "/sys/block/$(block_name /dev/mapper/s1)/discard_alignment")" 0
copied=$(ms_status ms copied)
ok "the origin takes a write of zeroes" fallocate -p -o 0 -l $mib /dev/mapper/ms
is "with copies" $(($(ms_status ms copied) - copied)) 64
ok "it is zero" is_zero /dev/mapper/ms 0 2048
ok "and the snapshot is right" check_pattern /dev/mapper/s1 0 16384 1

used=$(space_used)
write_pattern /dev/mapper/s1 2048 2048 3
is "a snapshot's writes take space" $(($(space_used) - used)) 64
ok "its discard" blkdiscard -o $mib -l $mib /dev/mapper/s1
ok "gives it back" within 10 used_is "$used"
ok "and leaves zeroes" is_zero /dev/mapper/s1 2048 2048
ok "a discard of what it shares with another" blkdiscard -o 0 -l $mib /dev/mapper/s1
ok "changes nothing" check_pattern /dev/mapper/s1 0 2048 1
ok "nor does one of what it shares with the origin" blkdiscard -o $((4 * mib)) -l $mib /dev/mapper/s1
ok "change anything" check_pattern /dev/mapper/s1 4096 8192 1
is "in the store" "$(space_used)" "$used"
swept() { [ "$(ms_status ms sweep)" = - ]; }
ok "the other one is deleted" message ms delete 2
ok "and swept" within 60 swept
used=$(space_used)
ok "zeroes in whole chunks" blkdiscard -z -o $((2 * mib)) -l $mib /dev/mapper/s1
is "take no space" "$(space_used)" "$used"
copied=$(ms_status ms copied)
write_pattern /dev/mapper/ms 4096 2048 4
is "and the origin's write there needs no copy" $(($(ms_status ms copied) - copied)) 0
ok "zeroes in a part of a chunk" blkdiscard -z -o $((3 * mib + 4096)) -l 4096 /dev/mapper/s1
parts() {
	check_pattern /dev/mapper/s1 6144 8 1 && is_zero /dev/mapper/s1 6152 8 &&
		check_pattern /dev/mapper/s1 6160 8000 1
}
ok "are there only" parts
ok "a discard of a part has no effect" blkdiscard -o $((3 * mib + 8192)) -l 4096 /dev/mapper/s1
dmsetup remove s1
dmsetup remove ms
make_ms ms $o $s 32
make_snap s1 $o 1
whole() { is_zero /dev/mapper/s1 2048 4096 && parts && check_pattern /dev/mapper/s1 0 2048 1; }
ok "all of it is so after a restart" whole
ok "the origin is what it was" check_pattern /dev/mapper/ms 4096 2048 4
cleanup
