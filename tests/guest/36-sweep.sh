#!/bin/bash
# What users feel of a sweep: the 99th percentile of the latency of the same random I/O with a
# sweep and without one, in pairs: writes of the origin that need a copy, writes that need none,
# reads of the origin, and reads of a snapshot.  Devices take 100 us for a request, and of the
# metadata only a part fits into memory.
# A pair counts if its sweep went on until the measurement was over; SWEEP_PAIRS is how many such
# pairs are wanted of each kind.  With five or more, as in a soak, the median of the ratios must
# not exceed 2; one pair tells too little for that.
# timeout: 900
# on request: it measures time, and takes long to be worth something.
# cpus: 2
. ./lib.sh
pairs=${SWEEP_PAIRS:-1}
kinds=(copy rewrite read snapshot)
plan $((2 * ${#kinds[@]}))

sweeping() { [ "$(ms_status ms sweep)" != - ]; }
swept() { ! sweeping; }
# p99 <kind>: in microseconds, of two seconds of it.
p99() {
	local device=/dev/mapper/ms rw=randwrite
	case $1 in
	copy) take_snapshot ms > /dev/null ;;
	read) rw=randread ;;
	snapshot) device=/dev/mapper/snap rw=randread ;;
	esac
	# Another part of the device each time: what was read before is known without metadata.
	fio --name=front --filename=$device --ioengine=libaio --direct=1 --rw=$rw --bs=4k \
		--iodepth=4 --rate_iops=400 --time_based --runtime=2 --randseed=$RANDOM \
		--output-format=json --output=/tmp/fio
	jq '[.jobs[0].read, .jobs[0].write] | map(.clat_ns.percentile."99.000000" // 0) | max / 1000 | floor' /tmp/fio
}
quiet() { within 240 swept && p99 "$1"; }
# busy <kind> <id>: with the sweep of that snapshot, which must outlast the measurement.
busy() {
	rm -f /tmp/long
	message ms delete "$2" || return
	p99 "$1"
	! sweeping || : > /tmp/long
}
fill() { dd if=/dev/zero of=/dev/mapper/ms bs=1M oflag=direct status=none 2> /dev/null; }

make_nullblk o 192 completion_nsec=100000
make_nullblk s 768 completion_nsec=100000
make_ms ms /dev/o /dev/s 8 0 "${TYPE:-btree}" "2 cache-limit 256"
# Whose reads are measured: each chunk has a record for it.
kept=$(take_snapshot ms)
fill
make_snap snap /dev/o "$kept"
for kind in "${kinds[@]}"; do
	ratios=() tries=0
	until [ "${#ratios[@]}" -eq "$pairs" ] || [ "$tries" -eq $((pairs * 2)) ]; do
		tries=$((tries + 1))
		# Something to sweep: 49152 chunks that only this one needs.
		id=$(take_snapshot ms)
		fill
		if [ $((tries % 2)) -eq 0 ]; then
			with=$(busy "$kind" "$id") without=$(quiet "$kind")
		else
			without=$(quiet "$kind") with=$(busy "$kind" "$id")
		fi
		ratio=$(jq -n "$with / $without * 100 | floor")
		short=", which does not count: the sweep was over before"
		if [ -e /tmp/long ]; then
			short=
			ratios+=("$ratio")
		fi
		diag "$kind, try $tries: p99 ${without} us, with a sweep ${with} us, ratio $ratio %$short"
		within 240 swept
		for id in $(message ms list 0 1000 | awk '{ print $1 }'); do
			[ "$id" = "$kept" ] || message ms delete "$id"
		done
		within 240 swept
	done
	is "$kind: as many pairs with a sweep that lasted were measured, in at most twice as many tries" \
		"${#ratios[@]}" "$pairs"
	median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$((${#ratios[@]} / 2 + 1))p")
	diag "${TYPE:-btree}, $kind: $tries tries, ${#ratios[@]} pairs, ratios ${ratios[*]} %, median $median %"
	if [ "$pairs" -ge 5 ]; then
		ok "$kind: the median of the ratios, $median %, is at most 200 %" test "$median" -le 200
	else
		like "$kind: the ratio is $median %" "$median" '^[0-9]+$'
	fi
done
cleanup
