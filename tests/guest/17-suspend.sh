#!/bin/bash
# Suspend, resume and reload, at rest and under load; what a pending snapshot does.
# cpus: 2
. ./lib.sh
plan 38

load() { # until /tmp/stop is there
	rm -f /tmp/stop
	while [ ! -e /tmp/stop ]; do
		dd if=/dev/zero of=/dev/mapper/ms bs=16k count=64 oflag=direct status=none || return
	done
}
make_small 16 128 32
size=$(sectors /dev/o)
write_pattern /dev/mapper/ms 0 512 1

is "a snapshot is asked for" "$(message ms create)" 1
is "it is pending" "$(ms_status ms pending)" 1
is "and not there" "$(ms_status ms snapshots)" 0
fails_with "a second one is refused" EBUSY message ms create
ok "the first can be cancelled" message ms cancel
is "then nothing is pending" "$(ms_status ms pending)" -
dmsetup suspend ms
dmsetup resume ms
is "and a suspension cuts nothing" "$(ms_status ms snapshots)" 0
is "its id may be given again" "$(take_snapshot ms)" 1
is "status tells of it" "$(ms_status ms last)" created:1
dmsetup suspend ms
is "a suspended origin cuts at once" "$(message ms create)" 2
is "as status says" "$(ms_status ms snapshots)" 2
is "and again" "$(message ms create)" 3
dmsetup resume ms
is "a cut without flush" "$(message ms create)" 4
dmsetup suspend --noflush ms
dmsetup resume ms
is "is one" "$(ms_status ms ids)" 1-4
message ms create > /dev/null
dmsetup suspend --nolockfs ms
dmsetup resume ms
is "and one that freezes no file system" "$(ms_status ms ids)" 1-5
make_snap snap /dev/o 1

load &
job=$!
rc=0
for _ in 1 2 3 4 5; do
	dmsetup suspend ms && dmsetup resume ms && dmsetup suspend --noflush ms && dmsetup resume ms || rc=1
done
is "suspend and resume under load" $rc 0
ok "the same table is loaded under load" dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32)"
ok "and goes live" dmsetup resume ms
ok "it can be loaded and dropped again" dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32)"
ok "with no harm" dmsetup clear ms
is "a cut under load" "$(take_snapshot ms)" 6
ok "a snapshot's table is reloaded under load" dmsetup reload snap --table "0 $size multisnap-snap /dev/o 1"
ok "and goes live" dmsetup resume snap
touch /tmp/stop
ends_well "no write failed" $job
ok "the snapshot is as it was" check_pattern /dev/mapper/snap 0 512 1

# Reads of a snapshot go on while the origin is suspended.
dmsetup suspend ms
ok "a snapshot is read while the origin is suspended" timeout 10 bash -c '. ./lib.sh; trap - EXIT
	check_pattern /dev/mapper/snap 0 512 1'
ok "and written" timeout 10 bash -c '. ./lib.sh; trap - EXIT; write_pattern /dev/mapper/snap 100 8 7'
dmsetup resume ms
ok "that write is there" check_pattern /dev/mapper/snap 100 8 7

# Another origin, store, chunk size or type is not this device any more.
make_nullblk o2 16
make_nullblk s2 16
case $STORE_TYPE in btree) other=bitmask ;; *) other=btree ;; esac
for table in "/dev/o2 /dev/s 32" "/dev/o /dev/s2 32" "/dev/o /dev/s 64" "/dev/o /dev/s 32 0 $other"; do
	read -ra words <<< "$table"
	if dmsetup reload ms --table "$(ms_table "${words[@]}")" 2> /tmp/error; then
		result 1 "a reload as \"$table\" is refused"
		dmsetup clear ms
	else
		like "a reload as \"$table\" is refused" "$(cat /tmp/error)" "Invalid argument|resource busy|not supported"
	fi
done
ok "the live one goes on" write_pattern /dev/mapper/ms 0 64 9
is "a store that was refused is untouched" "$(is_zero /dev/s2 0 256 && echo zero)" zero

# A pending snapshot does not outlive its origin.
write_pattern /dev/mapper/ms 0 64 10
is "a snapshot is pending" "$(message ms create)" 7
dmsetup remove ms
ok "the origin is loaded again" make_ms ms /dev/o /dev/s 32
is "and the pending one was dropped" "$(ms_status ms pending) $(ms_status ms ids)" "- 1-6"
is "the next takes its place" "$(take_snapshot ms)" 7
cleanup
