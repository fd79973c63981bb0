#!/bin/bash
# Memory that is not there and requests that fail, at random and one after the other:
# errors come of it, but no wrong data, no hang, no leak and no oops.
# timeout: 400
# on request: for the debug kernel.
# cpus: 2
. ./lib.sh
type=${TYPE:-btree}
debug=/sys/kernel/debug
if [ ! -d $debug/failslab ]; then
	plan 1
	is "the debug kernel has what makes faults" "${DEBUG_KERNEL:-none}" none
	exit
fi
plan 7
# A cache of bufio that goes waits for several grace periods, and here are thousands of them.
echo 1 > /sys/kernel/rcu_expedited

# text_of <module>: where its code begins and ends.
text_of() {
	awk -v "module=[$1]" '$4 == module && $2 ~ /[tT]/ { print $1 }' /proc/kallsyms | sort |
		sed -n 's/^/0x/; 1p; $p'
}
modprobe dm-multisnapshot
modprobe null_blk nr_devices=0
{ read -r ours; read -r ours_end; } < <(text_of dm_multisnapshot)
{ read -r disk; read -r disk_end; } < <(text_of null_blk)
# Only allocations not far below our own code: what a cache of bufio makes in sysfs is many.
# None of null_blk: a merged request of which it cannot keep a page is not failed by it, and the
# bios after that page are written in each other's places.
for kind in failslab fail_page_alloc; do
	echo "$ours" > $debug/$kind/require-start
	echo "$ours_end" > $debug/$kind/require-end
	echo "$disk" > $debug/$kind/reject-start
	echo "$disk_end" > $debug/$kind/reject-end
	echo 10 > $debug/$kind/stacktrace-depth
	echo N > $debug/$kind/ignore-gfp-wait
	echo -1 > $debug/$kind/times
	echo 0 > $debug/$kind/verbose
done
# make_disk <name> <MiB>: one whose own points of failure are not counted with the others.
make_disk() {
	local point
	make_nullblk "$1" "$2"
	for point in "$nullb/$1"/*_inject; do
		echo 1 > "$point/require-start"
		echo 2 > "$point/require-end"
	done
}
echo 0 > $debug/fail_page_alloc/min-order
echo N > $debug/fail_page_alloc/ignore-gfp-highmem

make_disk o 4
make_disk s 8
rc=0
output=$(python3 faults.py /dev/o /dev/s "$(sectors /dev/o)" "$type" 2>&1) || rc=$?
diag "$output"
is "each allocation fails once" $rc 0
ok "after that it is loaded" make_ms ms /dev/o /dev/s 32 0 "$type"
is "and in order" "$(ms_status ms mode)" rw
cleanup

# torture_with <kind> <percent>: the model takes any error, and no wrong content.
torture_with() {
	local rc=0 job
	make_disk o 16
	make_disk s 192
	echo 1 > /sys/block/o/make-it-fail
	echo 1 > /sys/block/s/make-it-fail
	(
		# A load may take longer on the debug kernel than there is time between faults.
		until [ -e /tmp/stop ] || [ "$(dmsetup info -c --noheadings -o suspended torture 2> /dev/null)" = Active ]; do
			sleep 0.1
		done
		while [ ! -e /tmp/stop ]; do
			echo "$2" > "$debug/$1/probability"
			sleep "1.$((RANDOM % 10))"
			echo 0 > "$debug/$1/probability"
			sleep "0.$((RANDOM % 10))"
		done
		rm /tmp/stop
	) &
	job=$!
	# The kernel counts them down.
	echo 1000000 > "$debug/$1/times"
	torture seed="${SEED:-$RANDOM}" origin=/dev/o sectors="$(sectors /dev/o)" store=/dev/s type="$type" \
		generic="$3" faults=broken restarts=no rounds=4 stop=/tmp/stop || rc=$?
	kill $job 2> /dev/null
	wait $job
	echo 0 > "$debug/$1/probability"
	faults=$((1000000 - $(cat "$debug/$1/times")))
	diag "$1: $faults faults"
	cleanup
	[ "$faults" -ge 20 ] || rc=1
	return $rc
}
echo 0 > $debug/fail_make_request/verbose
ok "allocations that fail in the middle of I/O" torture_with failslab 10 0
# There are few of these.
ok "pages that are not there" torture_with fail_page_alloc 50 0
ok "requests that fail" torture_with fail_make_request 2 0
ok "also with preserve-on-error" torture_with fail_make_request 2 "1 preserve-on-error"
