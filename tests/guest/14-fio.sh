#!/bin/bash
# fio's verification on the origin and on snapshots while snapshots are cut.  What
# a snapshot must hold is read from the plain device below, while it is suspended.
# timeout: 420
# cpus: 2
. ./lib.sh
plan 21

# hammer <engine> <device> <MiB> [<fio option>...]: random writes, read back and verified.
hammer() {
	fio --name=hammer --filename="$2" --ioengine="$1" --direct=1 --rw=randwrite --size="$3m" \
		--bsrange=4k-64k --bs_unaligned=0 --blockalign=4k --iodepth=16 --verify=crc32c \
		--verify_fatal=1 --do_verify=1 --randrepeat=0 --norandommap=0 --loops=2 "${@:4}"
}
# cut <name>: cuts a snapshot and loads it; its contents' sum goes to /tmp/<name>.
cut() {
	local id
	dmsetup suspend ms
	id=$(message ms create)
	checksum /dev/o > "/tmp/$1"
	dmsetup resume ms
	make_snap "$1" /dev/o "$id"
}
# as_cut <name>
as_cut() { is "snapshot $1 is what the origin was" "$(checksum "/dev/mapper/$1")" "$(cat "/tmp/$1")"; }

make_nullblk o 24 blocksize=4096
make_nullblk s 256 blocksize=4096
make_ms ms /dev/o /dev/s 32
for engine in libaio io_uring; do
	hammer $engine /dev/mapper/ms 24 --rate=,8m > /tmp/fio 2>&1 &
	job=$!
	for n in 1 2 3; do
		sleep 0.5
		cut $engine$n
	done
	ok "fio still ran at the third cut" kill -0 $job
	ends_well "$engine on the origin is verified" $job
	for n in 1 2 3; do as_cut $engine$n; done
done

# Now a snapshot and the origin at once.
for engine in libaio io_uring; do
	hammer $engine /dev/mapper/${engine}2 8 > /tmp/fio 2>&1 &
	job=$!
	hammer libaio /dev/mapper/ms 12 > /tmp/fio2 2>&1 &
	other=$!
	ends_well "$engine on a snapshot is verified" $job
	ends_well "and fio on the origin meanwhile" $other
done
as_cut libaio1
as_cut libaio3
as_cut io_uring1
as_cut io_uring3
is "no chunk was lost" "$(ms_status ms lost)" 0
is "no error was counted" "$(ms_status ms read_errors)$(ms_status ms write_errors)$(ms_status ms metadata_errors)" 000
[ "$tests_failed" -eq 0 ] || diag "$(cat /tmp/fio /tmp/fio2)"
is "the mode is rw" "$(ms_status ms mode)" rw
cleanup
