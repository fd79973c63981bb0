#!/bin/bash
# Deletion of many snapshots, on a full store, and under load: what is left is right, and all
# space comes back.
. ./lib.sh
plan 27

space_used() { ms_status ms space | cut -d/ -f1; }
swept() { [ "$(ms_status ms sweep)" = - ]; }

make_small 16 64 32
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
message ms delete 1
take_snapshot ms > /dev/null

# Every second of many: one origin write is still one copy, and each keeps what it had.
for n in $(seq 3 42); do
	write_pattern /dev/mapper/ms $((n * 32)) 32 "$n"
	take_snapshot ms > /dev/null
done
for n in $(seq 3 2 41); do message ms delete "$n" || echo "$n: $?"; done
is "every second one is deleted" "$(ms_status ms snapshots)" 21
before=$(ms_status ms copied)
write_pattern /dev/mapper/ms 3200 32 99
is "a write to what all share is one copy" $(($(ms_status ms copied) - before)) 1
ok "the sweep comes to its end" within 60 swept
rc=0
for n in 2 10 20 42; do
	make_snap s$n /dev/o $n
	[ $n -eq 2 ] || check_pattern /dev/mapper/s$n $((n * 32)) 32 $n || rc=1
	check_pattern /dev/mapper/s$n 3200 32 1 || rc=1
	dmsetup remove s$n
done
is "those that are left are right" $rc 0

# A sweep goes on after a restart.
for n in $(seq 2 2 40); do message ms delete "$n"; done
dmsetup remove ms
make_ms ms /dev/o /dev/s 32
is "a deleted snapshot does not come back" "$(ms_status ms ids)" 42
ok "and the sweep comes to its end" within 60 swept
make_snap s42 /dev/o 42
ok "the one that is left is right" check_pattern /dev/mapper/s42 1344 32 42
dmsetup remove s42
ok "it is deleted too" message ms delete 42
ok "and swept" within 60 swept
is "with all its space" "$(space_used)" "$(ms_status ms metadata_chunks)"
cleanup

# Several at once are one pass over the store, and status says how far it is.
make_small 64 128 8
python3 snapshots.py ms 8 > /dev/null
dd if=/dev/zero of=/dev/mapper/ms bs=1M count=32 oflag=direct status=none
chunks=$((32 * 256))
read -r places last again <<< \
	"$(python3 sweep-positions.py ms "$(sectors /dev/o)" "/dev/o /dev/s 8 0 $STORE_TYPE 0" 4 2 7 1 8 3 6 5)"
diag "seen at $places places, up to $last"
ok "a sweep is seen at several places" test "$places" -ge 10
ok "up to the end" test "$last" -ge $((chunks * 3 / 4)) -a "$last" -le "$chunks"
# One had begun with the first of them.
ok "all that were deleted are one pass, or two ($((again + 1)))" test "$again" -le 1
is "with all their space" "$(space_used)" "$(ms_status ms metadata_chunks)"
cleanup

# A full store: deletion works, and makes it usable.
make_small 16 10 32
write_pattern /dev/mapper/ms 0 4096 1
take_snapshot ms > /dev/null
fill() { for at in $(seq 0 2048 30720); do write_pattern /dev/mapper/ms "$at" 2048 "$1" || return; done; }
counting ms ok "the origin goes on when the store is full" fill 2
is "the mode is full" "$(ms_status ms mode)" full
is "with an event" "$raised" 1
mode_is() { [ "$(ms_status ms mode)" = "$1" ]; }
empty() {
	ok "the snapshot is deleted" message ms delete 1
	ok "the sweep comes to its end" within 60 swept
	ok "the mode is rw again" within 10 mode_is rw
}
counting ms empty
is "with an event" "$raised" 1
is "a new snapshot is cut" "$(take_snapshot ms)" 2
write_pattern /dev/mapper/ms 0 512 3
make_snap s2 /dev/o 2
ok "and right" check_pattern /dev/mapper/s2 0 4096 2
dmsetup remove s2

# While copies for it are under way.
write_pattern /dev/mapper/ms 8192 512 3 &
job=$!
ok "a snapshot is deleted under load" message ms delete 2
ends_well "no write fails" $job
ok "the sweep comes to its end" within 60 swept
is "with all its space" "$(space_used)" "$(ms_status ms metadata_chunks)"
cleanup
