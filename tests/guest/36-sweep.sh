#!/bin/bash
# What users of the origin feel of a sweep: the 99th percentile of the latency of the same
# random writes with a sweep and without one, in pairs.  A pair counts if its sweep went on until
# the measurement was over; SWEEP_PAIRS is how many such pairs are wanted.  With five or more, as
# in a soak, the median of the ratios must not exceed 2; one pair tells too little for that.
# timeout: 360
# on request: it measures time, and takes long to be worth something.
# cpus: 2
. ./lib.sh
pairs=${SWEEP_PAIRS:-1}
plan 2

sweeping() { [ "$(ms_status ms sweep)" != - ]; }
swept() { ! sweeping; }
# p99: in microseconds, of two seconds of writes that need a copy for a new snapshot.
p99() {
	take_snapshot ms > /dev/null
	fio --name=front --filename=/dev/mapper/ms --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
		--iodepth=4 --rate_iops=400 --time_based --runtime=2 --output-format=json --output=/tmp/fio
	jq '.jobs[0].write.clat_ns.percentile."99.000000" / 1000 | floor' /tmp/fio
}
quiet() { within 120 swept && p99; }
# busy <id>: with the sweep of that snapshot, which must outlast the measurement.
busy() {
	rm -f /tmp/long
	message ms delete "$1" || return
	p99
	! sweeping || : > /tmp/long
}

make_nullblk o 128
make_nullblk s 512
make_ms ms /dev/o /dev/s 8 0 "${TYPE:-btree}"
ratios=() tries=0
until [ "${#ratios[@]}" -eq "$pairs" ] || [ "$tries" -eq $((pairs * 2)) ]; do
	tries=$((tries + 1))
	# Something to sweep: 32768 chunks that only this one needs.
	id=$(take_snapshot ms)
	dd if=/dev/zero of=/dev/mapper/ms bs=1M count=128 oflag=direct status=none
	if [ $((tries % 2)) -eq 0 ]; then
		with=$(busy "$id") without=$(quiet)
	else
		without=$(quiet) with=$(busy "$id")
	fi
	ratio=$(jq -n "$with / $without * 100 | floor")
	short=", which does not count: the sweep was over before"
	if [ -e /tmp/long ]; then
		short=
		ratios+=("$ratio")
	fi
	diag "try $tries: p99 ${without} us, with a sweep ${with} us, ratio $ratio %$short"
	within 120 swept
	for id in $(message ms list 0 1000 | awk '{ print $1 }'); do message ms delete "$id"; done
	within 120 swept
done
is "so many pairs with a sweep that lasted were measured, in at most twice as many tries" "${#ratios[@]}" "$pairs"
median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$((${#ratios[@]} / 2 + 1))p")
diag "${TYPE:-btree}: $tries tries, ${#ratios[@]} pairs, ratios ${ratios[*]} %, median $median %"
if [ "$pairs" -ge 5 ]; then
	ok "the median of the ratios, $median %, is at most 200 %" test "$median" -le 200
else
	like "the ratio is $median %" "$median" '^[0-9]+$'
fi
cleanup
