#!/bin/bash
# A second look at the order of writes: dm-log-writes under both devices keeps each write with
# the flush that made it last, and what it has kept is played back up to some entry and loaded.
# One log under both cannot tell whose flush it was; tests/guest/cuts can.
# LOG_POINTS asks for more places to stop at.
# cpus: 2
. ./lib.sh
points=${LOG_POINTS:-4}
plan $((2 * (points + 6)))

# parts <device> <name>: its first 8 MiB as <name>o, the rest as <name>s.
parts() {
	dmsetup create "$2o" --table "0 16384 linear $1 0"
	dmsetup create "$2s" --table "0 $(($(sectors "$1") - 16384)) linear $1 16384"
}
# mark <text>: one word, as dm-log-writes takes no more.
mark() { message log mark "$1"; }
# cut_one: a snapshot, and a mark that says what must be in it from there on.
cut_one() {
	local id
	id=$(message ms create) && dmsetup suspend ms || return 1
	mark "cut:$id:$(checksum /dev/mapper/o | tr " " -)" || { dmsetup resume ms; return 1; }
	dmsetup resume ms
}
# holds: what was played back is a store with all that the marks promise.
holds() {
	local id sum here rc=0
	make_ms again /dev/mapper/ro /dev/mapper/rs 8 "1 preserve-on-error" || return 1
	while IFS=: read -r _ id sum; do
		here=absent
		if make_snap snap /dev/mapper/ro "$id" 2> /dev/null; then
			here=$(checksum /dev/mapper/snap | tr " " -)
			dmsetup remove snap
		fi
		# While it is being deleted it may be there or not.
		! grep -qx "going:$id" /tmp/marks || sum=$here
		! grep -qx "gone:$id" /tmp/marks || sum=absent
		[ "$here" = "$sum" ] || { echo "snapshot $id: $here, not $sum"; rc=1; }
	done < <(grep '^cut:' /tmp/marks)
	[ "$(ms_status again lost) $(ms_status again mode)" = "0 rw" ] || { status again; rc=1; }
	dmsetup remove again
	return $rc
}

for STORE_TYPE in btree bitmask; do
	make_nullblk d 24
	make_nullblk l 256
	make_nullblk r 24
	make_nullblk c 32
	dmsetup create log --table "0 $(sectors /dev/d) log-writes /dev/d /dev/l"
	parts /dev/mapper/log ''
	make_ms ms /dev/mapper/o /dev/mapper/s 8 "1 preserve-on-error"
	fio --name=load --filename=/dev/mapper/ms --ioengine=libaio --direct=1 --rw=randwrite \
		--bsrange=4k-16k --iodepth=8 --fsync=32 --rate_iops=400 --time_based --runtime=60 \
		--output=/dev/null &
	job=$!
	for n in 1 2 3 4; do
		sleep 0.7
		ok "$STORE_TYPE: snapshot $n is cut" cut_one
		[ "$n" -ne 3 ] || { mark going:1 && message ms delete 1 && mark gone:1; }
	done
	sleep 0.7
	ok "$STORE_TYPE: all the time there are writes" kill -0 $job
	kill $job
	wait $job
	dmsetup remove ms
	dmsetup remove o s
	dmsetup remove log

	entries=$(python3 replay-log.py /dev/l)
	diag "$STORE_TYPE: $entries entries"
	: > /tmp/marks
	place=0
	# The first part is the format, which host tests cut.
	step=$((entries / (points + 1)))
	for n in $(seq 0 "$points"); do
		python3 replay-log.py /dev/l /dev/r "$place" $((step - 2 + n % 5)) > /tmp/replayed || break
		place=$(head -n 1 /tmp/replayed)
		tail -n +2 /tmp/replayed >> /tmp/marks
		[ "$n" -gt 0 ] || continue
		# What is played back stays as it is: the load writes to a copy.
		dd if=/dev/zero of=/dev/c bs=4k count=1 oflag=direct status=none
		dmsetup create copy --table "0 $(sectors /dev/r) snapshot /dev/r /dev/c N 8"
		parts /dev/mapper/copy r
		ok "$STORE_TYPE: all that was promised by then is there ($(grep -c '' /tmp/marks) marks)" holds
		dmsetup remove ro rs
		dmsetup remove copy
	done
	is "$STORE_TYPE: in the end it had been the most" "$(grep -c '^cut:' /tmp/marks) $(grep -c '^go' /tmp/marks)" "4 2"
	cleanup
done
