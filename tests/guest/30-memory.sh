#!/bin/bash
# A machine short of memory, whose swap and whose dirty pages go to origins with
# snapshots.
# boot: --mem 288 --disk origin=640M --disk store=640M --disk swap=256M --disk swapstore=320M
# timeout: 420
. ./lib.sh
plan 16

lines() { yes "$1" | head -c "$2"; }
is_lines() { cmp "$1" <(lines "$2" "$3"); }
memory=$(awk '/MemTotal/ { print $2 * 1024 }' /proc/meminfo)
size=$((300 << 20))
ok "the file is bigger than the memory" test $size -gt "$memory"

make_ms ms /dev/disk/origin /dev/disk/store 128
mkfs.ext4 -q -E lazy_itable_init=0 /dev/mapper/ms
mkdir -p /mnt/a /mnt/b
mount /dev/mapper/ms /mnt/a
ok "it is written" eval "lines Monday $size > /mnt/a/file"
is "a snapshot is cut with all those dirty pages" "$(take_snapshot ms)" 1
ok "it is written anew" eval "lines Tuesday $size | dd of=/mnt/a/file conv=notrunc,fsync bs=1M iflag=fullblock status=none"
ok "which made copies" test "$(ms_status ms copied)" -gt 4000
make_snap snap /dev/disk/origin 1
ok "the snapshot is mounted" mount /dev/mapper/snap /mnt/b
ok "and has the old lines" is_lines /mnt/b/file Monday $size
echo 3 > /proc/sys/vm/drop_caches
ok "the origin has the new ones" is_lines /mnt/a/file Tuesday $size
ok "the snapshot takes dirty pages, too" eval \
	"lines Wednesday $((60 << 20)) | dd of=/mnt/b/file conv=notrunc,fsync bs=1M iflag=fullblock status=none"
umount /mnt/a /mnt/b
ok "the origin's file system is sound" e2fsck -fn /dev/mapper/ms
ok "and the snapshot's" e2fsck -fn /dev/mapper/snap
dmsetup remove snap
dmsetup remove ms

# A process with 24 MiB of memory for 120 MiB of data, with cuts meanwhile.
make_ms ms /dev/disk/swap /dev/disk/swapstore 64
mkswap /dev/mapper/ms > /dev/null
ok "swap on an origin" swapon /dev/mapper/ms
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/small
echo 24M > /sys/fs/cgroup/small/memory.max
(
	echo $BASHPID > /sys/fs/cgroup/small/cgroup.procs
	exec python3 -c '
import sys
pages = [bytearray(b"%08d" % i * 512) for i in range(120 * 256)]
for turn in range(1, 4):
    for i, page in enumerate(pages):
        if page[8:] != b"%08d" % i * 511 or int(page[:8]) != (i if turn == 1 else turn - 1):
            sys.exit(f"page {i}, turn {turn}: {bytes(page[:16])}")
        page[:8] = b"%08d" % turn
'
) > /tmp/swapper 2>&1 &
job=$!
cuts=0
while kill -0 $job 2> /dev/null; do
	take_snapshot ms > /dev/null && cuts=$((cuts + 1))
	sleep 1
done
ends_well "a process finds its swapped pages" $job
diag "$(cat /tmp/swapper)"
ok "with cuts meanwhile ($cuts)" test $cuts -gt 1
ok "and copies ($(ms_status ms copied))" test "$(ms_status ms copied)" -gt 100
ok "swap is given back" swapoff /dev/mapper/ms
rmdir /sys/fs/cgroup/small
dmsetup remove ms
