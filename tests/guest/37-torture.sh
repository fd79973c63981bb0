#!/bin/bash
# Concurrent I/O on an origin and up to twelve snapshots, with cuts, deletions,
# suspends, reloads and restarts in between, beside a model of every sector.
# TORTURE_SEEDS and TORTURE_ROUNDS ask for more, TYPE for another store.
# cpus: 2
. ./lib.sh
seeds=${TORTURE_SEEDS:-1 2}
rounds=${TORTURE_ROUNDS:-6}
plan $(($(wc -w <<< "$seeds") * 3 + 1))

# try <what> <seed> <store MiB> <word>...: one run on new devices.
try() {
	local seed=$2 rc=0
	make_nullblk o 8
	make_nullblk s "$3"
	# The last chunk is not a whole one.
	dmsetup create odd --table "0 $(($(sectors /dev/o) - 5)) linear /dev/o 0"
	torture seed="$seed" origin=/dev/mapper/odd sectors="$(sectors /dev/mapper/odd)" \
		store=/dev/s rounds="$rounds" type="${TYPE:-btree}" "${@:4}" > /tmp/summary || rc=$?
	sed "s/^/$1, /" /tmp/summary
	cleanup
	return $rc
}
for seed in $seeds; do
	ok "seed $seed agrees with the model" try "room" "$seed" 96 chunk=$((8 << seed % 4))
	diag "$(cat /tmp/summary)"
	ok "also when the store is too small" try "full" "$seed" 8 faults=full
	diag "$(cat /tmp/summary)"
	ok "and with preserve-on-error" try "full" "$seed" 8 faults=full generic="1 preserve-on-error"
	diag "$(cat /tmp/summary)"
done
# A model that agreed with anything would prove nothing.
corrupt() {
	make_nullblk o 16
	make_nullblk s 64
	(sleep 1; dd if=/dev/zero of=/dev/o bs=1M count=16 oflag=direct status=none) &
	! torture seed=1 origin=/dev/o sectors="$(sectors /dev/o)" store=/dev/s rounds=20 > /tmp/out &&
		grep -q 'wanted write' /tmp/out
}
ok "and wrong contents do not" corrupt
wait
cleanup
