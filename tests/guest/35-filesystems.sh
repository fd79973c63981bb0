#!/bin/bash
# File systems on the origin, under loads that are mostly metadata, while snapshots are
# cut: each of them is a sound file system, once its log was replayed.  FS_CUTS asks for
# more cuts.
# timeout: 420
# on request: it takes minutes.
# cpus: 2
. ./lib.sh
cuts=${FS_CUTS:-3}
plan $((2 * (4 * cuts + 4 + (cuts + 1) / 2)))

mkdir -p /mnt/a /mnt/b
# churn <folder> <end>: makes, renames, links, fills and removes files until <end> exists.
churn() {
	stress-ng --quiet --temp-path "$1" --timeout 0 --dir 1 --dir-dirs 64 --rename 1 --link 1 --symlink 1 \
		--dentry 1 --dentries 64 --chmod 1 --utime 1 --hdd 1 --hdd-bytes 2M --hdd-opts wr-rnd,fsync &
	local job=$! n=0
	while [ ! -e "$2" ]; do
		n=$((n + 1))
		mkdir -p "$1/t$((n % 8))/a/b/c" && cp -r /payload/bin/. "$1/t$((n % 8))/a/b/" 2> /dev/null
		rm -rf "$1/t$(((n + 4) % 8))"
		[ $((n % 3)) -ne 0 ] || sync -f "$1"
	done
	kill $job
	wait $job
}
sound() { # <device> <type>
	case $2 in
	ext4) e2fsck -fn "$1" ;;
	xfs) xfs_repair -n "$1" ;;
	esac
}
# replay <device> <type>: what a mount does after a crash.
replay() {
	mount -t "$2" ${3:+-o "$3"} "$1" /mnt/b && ls -R /mnt/b > /dev/null && umount /mnt/b
}

for type in ext4 xfs; do
	same=
	[ "$type" = ext4 ] || same=nouuid
	make_nullblk o 320 cache_size=4
	make_nullblk s 640 cache_size=4
	make_ms ms /dev/o /dev/s 32 0 "${TYPE:-btree}"
	case $type in
	ext4) mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 -J size=8 /dev/mapper/ms ;;
	xfs) mkfs.xfs -q /dev/mapper/ms ;;
	esac
	ok "$type is mounted" mount -t $type /dev/mapper/ms /mnt/a
	rm -f /tmp/stop
	churn /mnt/a /tmp/stop &
	job=$!
	for n in $(seq "$cuts"); do
		sleep 2
		# Frozen for the cut, or as a power cut would leave it.
		how=--nolockfs
		[ $((n % 2)) -eq 0 ] || how=
		message ms create > /dev/null
		dmsetup suspend $how ms && dmsetup resume ms
		is "$type: a snapshot is cut under load" "$(ms_status ms last)" "created:$n"
	done
	touch /tmp/stop
	wait $job
	ok "$type: the load ends" umount /mnt/a
	ok "$type: the file system is sound" sound /dev/mapper/ms $type
	for n in $(seq "$cuts"); do
		if [ $((n % 2)) -eq 1 ]; then
			make_snap snap /dev/o "$n" --readonly
			ok "$type: a frozen one can be read as it is" replay /dev/mapper/snap $type "ro${same:+,$same,norecovery}"
			dmsetup remove snap
		fi
		make_snap snap /dev/o "$n"
		ok "$type: snapshot $n is mounted" replay /dev/mapper/snap $type $same
		ok "$type: and sound" sound /dev/mapper/snap $type
		ok "$type: and again" replay /dev/mapper/snap $type $same
		dmsetup remove snap
	done
	ok "$type: copies were made ($(ms_status ms copied)), none lost" \
		test "$(ms_status ms copied)" -gt 20 -a "$(ms_status ms lost)" -eq 0
	cleanup
done
