#!/bin/bash
# The library that the other scripts stand on: a check that cannot fail proves nothing.
. ./lib.sh
plan 17

make_nullblk a 16
make_nullblk b 16 cache_size=4 completion_nsec=100000 blocksize=4096
is "a null_blk has the size asked for" "$(sectors /dev/a)" 32768
is "and the block size" "$(blockdev --getss /dev/b)" 4096

ok "a pattern can be written" write_pattern /dev/a 8 64 1
ok "and is found again" check_pattern /dev/a 8 64 1
fails_with "another seed is not" ENOENT bash -c '. ./lib.sh; trap - EXIT
	check_pattern /dev/a 8 64 2 2>&1 | grep "sector 8: wanted seed 2, found \"000001 00000008" &&
	{ echo No such file or directory; exit 1; }'
ok "what was not written is zero" is_zero /dev/a 72 64
ok "a written part is not" bash -c '. ./lib.sh; trap - EXIT; ! is_zero /dev/a 0 16 2> /dev/null'
is "the counters count" "$(io_count /dev/a 7)" 64
before=$(io_count /dev/b 16)
ok "a flush is passed on" dd if=/dev/zero of=/dev/b bs=4096 count=1 conv=fsync status=none
like "and counted" "$(($(io_count /dev/b 16) - before))" '^[1-9]'

ok "dmsetup makes a device" dmsetup create lin --table "0 1024 linear /dev/a 0"
ok "with a node" test -b /dev/mapper/lin
fails_with "an error has a name" EINVAL dmsetup create wrong --table "0 1024 linear /dev/a"
dmesg_mark
echo "a mark" > /dev/kmsg
like "the kernel log since a mark" "$(dmesg_since)" 'a mark$'
ok "the cleanup succeeds" cleanup
ok "and leaves no device" test ! -e /dev/mapper/lin
ok "of any kind" test ! -e /dev/a
