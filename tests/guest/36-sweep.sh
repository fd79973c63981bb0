#!/bin/bash
# What users of the origin feel of a sweep: the 99th percentile of the latency of the same
# random writes with a sweep and without one, in pairs.  With SWEEP_PAIRS, as in a soak, the
# median of the ratios must not exceed 2; one pair tells too little for that.
# timeout: 360
# on request: not settled yet.
# cpus: 2
. ./lib.sh
pairs=${SWEEP_PAIRS:-1}
plan 3

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
# busy <id>: with the sweep of that snapshot, which should outlast the measurement.
busy() {
	message ms delete "$1" || return
	p99
	sweeping || echo "$1" >> /tmp/short
}

make_nullblk o 128
make_nullblk s 512
make_ms ms /dev/o /dev/s 8 0 "${TYPE:-btree}"
ratios=()
: > /tmp/short
for n in $(seq "$pairs"); do
	# Something to sweep: 32768 chunks that only this one needs.
	id=$(take_snapshot ms)
	dd if=/dev/zero of=/dev/mapper/ms bs=1M count=128 oflag=direct status=none
	if [ $((n % 2)) -eq 0 ]; then
		with=$(busy "$id") without=$(quiet)
	else
		without=$(quiet) with=$(busy "$id")
	fi
	ratios+=("$(jq -n "$with / $without * 100 | floor")")
	diag "pair $n: p99 ${without} us, with a sweep ${with} us, ratio ${ratios[-1]} %"
	within 120 swept
	for id in $(message ms list 0 1000 | awk '{ print $1 }'); do message ms delete "$id"; done
	within 120 swept
done
is "all pairs were measured" "${#ratios[@]}" "$pairs"
short=$(wc -l < /tmp/short)
diag "$short of $pairs sweeps were over before the measurement"
median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$((pairs / 2 + 1))p")
if [ "$pairs" -ge 5 ]; then
	ok "most sweeps lasted long enough" test "$short" -le $((pairs / 2))
	ok "the median of the ratios, $median %, is at most 200 %" test "$median" -le 200
else
	skip "most sweeps lasted long enough" "too few pairs"
	like "the ratio is $median %" "$median" '^[0-9]+$'
fi
cleanup
