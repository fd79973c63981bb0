#!/bin/bash
# Limits that a table sets: low-water of free chunks, metadata in memory.
# timeout: 900
. ./lib.sh
. ./become.sh
plan 62

total() { ms_status ms space | cut -d/ -f2; }
free() { echo $(($(total) - $(ms_status ms space | cut -d/ -f1))); }
reload() { dmsetup reload ms --table "$(ms_table /dev/o /dev/s 32 "$@")" && dmsetup resume ms; }
lines() { our_lines | grep -c "free chunks"; }
is_low() { [ "$(ms_status ms low)" = "$1" ]; }

# --- low-water ---
make_small 16 16 32 "2 low-water 20"
is "nothing is low" "$(ms_status ms low)" -
like "the table says it" "$(dmsetup table ms)" "32 2 low-water 20 $STORE_TYPE 0$"
mark=$(($(total) - 30))
take_snapshot ms > /dev/null
dmesg_mark
ok "another number is taken by a reload" reload "2 low-water $mark"
ok "a few writes" write_pattern /dev/mapper/ms 0 64 1
ok "are not yet too many" is_low -
dmsetup wait ms "$(events ms)" > /dev/null &
job=$!
ok "more are" write_pattern /dev/mapper/ms 64 1024 1
ends_well "an event is raised" $job
ok "and status says so" within 5 is_low low
is "one line does too" "$(lines)" 1
like "with the numbers and what to do" "$(our_lines)" "[0-9]+ free chunks, fewer than $mark: grow it or delete snapshots of origin"
after=$(events ms)
ok "more writes" write_pattern /dev/mapper/ms 2048 256 1
is "say nothing more" "$(lines) $(events ms)" "1 $after"
ok "a lower mark" reload "2 low-water 10"
ok "is not reached" within 5 is_low -
ok "a higher one" reload "2 low-water $mark"
ok "is" within 5 is_low low
is "and is told again" "$(lines)" 2
message ms delete 1
ok "space comes back" within 30 is_low -
take_snapshot ms > /dev/null
after=$(events ms)
write_pattern /dev/mapper/ms 0 2048 2
ok "and goes again" within 5 is_low low
is "which is told again" "$(lines)" 3
is "with an event" "$(events ms)" $((after + 1))
line=$(dmsetup table ms)
dmsetup remove ms
dmesg_mark
ok "the line loads again" dmsetup create ms --table "$line"
ok "and tells at once" within 5 is_low low
is "in one line" "$(lines)" 1
ok "without the word nothing is low" reload 0
ok "whatever is free" within 5 is_low -
cleanup

# --- metadata in memory ---
bufio=/sys/module/dm_bufio/parameters
table() { ms_table /dev/mapper/oz /dev/s 8 0 "$STORE_TYPE" "$1"; }
objects() { awk '/^dm_bufio_buffer/ { n += $2 } END { print n + 0 }' /proc/slabinfo; }
chunks=100000
dmsetup create oz --table "0 $((512 * 2048)) zero"
make_nullblk s 512
dmsetup create ms --table "$(table "4 cache-threshold 64 cache-limit 256")"
like "the table says both" "$(dmsetup table ms)" "8 0 $STORE_TYPE 4 cache-threshold 64 cache-limit 256$"
take_snapshot ms > /dev/null
echo 0 > $bufio/peak_allocated_bytes
begin=$SECONDS
ok "a large tree is made" dd if=/dev/zero of=/dev/mapper/ms bs=1M count=$((chunks / 256)) oflag=direct status=none
diag "$chunks chunks in $((SECONDS - begin)) s"
tree=$(ms_status ms metadata | cut -d/ -f1)
ok "it has far more blocks than the limit ($tree)" test "$tree" -gt 512
make_snap snap /dev/mapper/oz 1
random_reads() { python3 random-reads.py /dev/mapper/snap "$chunks" "$@"; }
ok "random look-ups go on" random_reads 5000
# The limit, and what dm-bufio keeps in reserve.
most=$(((256 + 8) * 4096))
peak=$(cat $bufio/peak_allocated_bytes)
ok "metadata in memory stayed below the limit: $peak bytes at most" test "$peak" -le $most
ok "and not far below" test "$peak" -ge $((200 * 4096))
ok "as /proc/slabinfo says: $(objects) buffers" test "$(objects)" -le 400
dmsetup remove snap
ok "another limit is taken by a reload" eval \
	'dmsetup reload ms --table "$(table "2 cache-limit 2000")" && dmsetup resume ms'
make_snap snap /dev/mapper/oz 1
# Other chunks: where those of before are is known without metadata.
random_reads 5000 2
now=$(cat $bufio/current_allocated_bytes)
ok "more is kept then: $now bytes" test "$now" -gt $((400 * 4096))
ok "and a lower one" eval \
	'dmsetup reload ms --table "$(table "2 cache-limit 256")" && dmsetup resume ms'
now=$(cat $bufio/current_allocated_bytes)
ok "holds at once: $now bytes" test "$now" -le $most
ok "look-ups go on" random_reads 1000 3
dmsetup remove snap
ok "the store is closed" dmsetup remove ms
is "and nothing is kept" "$(cat $bufio/current_allocated_bytes)" 0
ok "it loads with a limit" dmsetup create ms --table "$(table "2 cache-limit 256")"
make_snap snap /dev/mapper/oz 1
ok "all look-ups find something" random_reads 2000
cleanup

# --- a load after a crash ---
spread() { python3 spread.py /dev/mapper/ms "$1" $((chunks * 4096 / $1 / 4096 * 4096)) "$2"; }
st_table() { ms_table /dev/mapper/oz /dev/mapper/st 8 0 "$STORE_TYPE" "$1"; }
# peak_of_load <limit>: in blocks, of what follows a power cut now.
peak_of_load() {
	become st "$(hole /dev/s 0 "$(sectors /dev/s)" writes)"
	dmsetup remove ms
	become st "$(whole /dev/s)"
	echo 0 > $bufio/peak_allocated_bytes
	dmsetup create ms --table "$(st_table "2 cache-limit $1")" || return
	echo $(($(cat $bufio/peak_allocated_bytes) / 4096))
}
chunks=60000
peaks=()
for size in 512 1024; do
	dmsetup create oz --table "0 $((512 * 2048)) zero"
	make_nullblk s $size
	dmsetup create st --table "$(whole /dev/s)"
	dmsetup create ms --table "$(st_table "2 cache-limit 256")"
	take_snapshot ms > /dev/null
	dd if=/dev/zero of=/dev/mapper/ms bs=1M count=$((chunks / 256)) oflag=direct status=none
	# A new run, with nothing changed yet.
	dmsetup remove ms
	dmsetup create ms --table "$(st_table "2 cache-limit 256")"
	take_snapshot ms > /dev/null
	checkpoints=$(ms_status ms checkpoints)
	# Less than what makes a checkpoint begin, each in a leaf of its own.
	spread 40 write
	sleep 2
	is "$size MiB: the log is not checkpointed" "$(ms_status ms checkpoints)" "$checkpoints"
	peak=$(peak_of_load 256)
	ok "a load that replays it stays below the limit: $peak blocks" test "$peak" -le $((256 + 8))
	ok "and not far below" test "$peak" -ge 40
	dmsetup remove ms
	# Another run has more memory, and writes until the log is nearly half full.
	dmsetup create ms --table "$(st_table "2 cache-limit 16384")"
	take_snapshot ms > /dev/null
	checkpoints=$(ms_status ms checkpoints)
	log=$(ms_status ms log | cut -d/ -f2)
	commits=$((log * 4 / 10))
	spread $commits write
	sleep 2
	is "with more memory and a log of $log blocks it is not, either" "$(ms_status ms checkpoints)" "$checkpoints"
	diag "log $(ms_status ms log), tree of $(ms_status ms metadata | cut -d/ -f1) blocks"
	peak=$(peak_of_load 256)
	ok "a load needs more than the limit: $peak blocks" test "$peak" -gt $((256 + 8))
	# Each leaf that was changed, the half that was split off, and what it was before.
	ok "which is what $commits writes have changed and read" test "$peak" -le $((3 * commits + 64))
	peaks+=("$peak")
	ok "and falls back to the limit" within 30 eval 'test "$(cat $bufio/current_allocated_bytes)" -le $(((256 + 8) * 4096))'
	cleanup
done

difference=$((peaks[1] - peaks[0]))
ok "a larger store needs no more: ${peaks[*]} blocks" test "${difference#-}" -le 64

# --- what map() knows of preserved chunks ---
dmsetup create oz --table "0 $((65536 * 2048)) zero"
make_nullblk s 64
dmsetup create ms --table "$(table "2 cache-limit 256")"
take_snapshot ms > /dev/null
# One chunk in each 128 MiB: each needs a page of its own.
spread() { python3 spread.py /dev/mapper/ms 512 "$((128 << 20))" "$1"; }
ok "writes far from each other" spread write
known=$(spread nowait)
ok "no more of them are known than the limit allows ($known)" test "$known" -le 256
ok "and not far fewer" test "$known" -ge 200
dmsetup reload ms --table "$(table "2 cache-limit 2000")"
dmsetup resume ms
spread write
is "with a higher limit all are" "$(spread nowait)" 512
dmsetup reload ms --table "$(table "2 cache-limit 256")"
dmsetup resume ms
is "with a lower one they are forgotten" "$(spread nowait)" 0
cleanup
