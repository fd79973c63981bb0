#!/bin/bash
# A device that holds something else is refused as a store, and is not touched.
. ./lib.sh
plan 27

make_nullblk o 16 blocksize=4096
# written <device>: the sectors written to it and discarded, and the sum of its head.
written() {
	echo "$(io_count "$1" 7) $(io_count "$1" 14) $(dd if="$1" bs=1M count=1 iflag=direct status=none | cksum)"
}
# foreign <what> <MiB> <command>...: the command, with the device, makes it so.
foreign() {
	local what=$1 was
	make_nullblk f "$2" blocksize=4096
	shift 2
	"$@" /dev/f > /tmp/out 2>&1 || diag "$what: $(cat /tmp/out)"
	sync /dev/f
	if is_zero /dev/f 0 2048 > /dev/null; then
		result 1 "$what: there is something to find"
		result 1 "$what: nothing was tested"
	else
		was=$(written /dev/f)
		fails_with "$what is refused" EINVAL make_ms ms /dev/o /dev/f 8
		is "$what is as it was" "$(written /dev/f)" "$was"
	fi
	remove_nullblk f
}
poke() { # <sector> <text> <device>
	printf '%s' "$2" | dd of="$3" bs=512 seek="$1" conv=notrunc,fsync status=none
}
md() {
	mdadm --create /dev/md77 --run --level=1 --raid-devices=2 --metadata="$1" --bitmap=none "$2" missing
	mdadm --stop /dev/md77
}
pv() { # LVM knows no null_blk by itself, and finds no udev here.
	pvcreate --nolocking --config 'devices { use_devicesfile=0 types=["nullb", 16] }' -ff -y "$1"
}
random() { dd if=/dev/urandom of="$1" bs=1M count=1 status=none; }

foreign "ext4" 16 mkfs.ext4 -q
foreign "ext4 with a boot sector's room" 16 mkfs.ext4 -q -b 4096
foreign "xfs" 320 mkfs.xfs -q
foreign "btrfs" 128 mkfs.btrfs -q
foreign "an LVM physical volume" 16 pv
foreign "a RAID member, format 1.2" 16 md 1.2
foreign "a RAID member, format 1.1" 16 md 1.1
foreign "swap" 16 mkswap
foreign "a GPT" 16 poke 1 "EFI PART"
foreign "a bcache backing device" 16 poke 8 "a superblock"
foreign "a word in the last of the first 128 KiB" 16 poke 255 "x"
foreign "random data" 16 random

# Zeroes beyond that do not help, nor does something beyond them hurt.
make_nullblk f 16 blocksize=4096
write_pattern /dev/f 256 256 1
ok "what lies beyond 128 KiB is no matter" make_ms ms /dev/o /dev/f 8
is "and the store is made" "$(ms_status ms mode)" rw
ok "and loads again" eval 'dmsetup remove ms && make_ms ms /dev/o /dev/f 8'
cleanup
