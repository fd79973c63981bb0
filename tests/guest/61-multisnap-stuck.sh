#!/bin/bash
# multisnap when what is below does not answer: a cut is given up in time, and what was suspended
# is resumed, even if the command is killed. And when devices grow, or the store is too small.
# cpus: 2
. ./lib.sh
plan 75

. ./multisnap.sh
# state <device>: whether it is suspended, and which tables it has.
state() { dmsetup info -c --noheadings -o suspended,tables_loaded "$1"; }
is_state() { [ "$(state "$1")" = "$2" ]; }
part() { # <name> <sectors>: new length of /dev/mapper/<name>d
	dmsetup reload "$1"d --table "0 $2 linear /dev/$1 0" && dmsetup resume "$1"d
}

make_nullblk o 16
make_nullblk s 64
dmsetup create od --table "0 16384 linear /dev/o 0"
dmsetup create sd --table "0 65536 linear /dev/s 0"
multisnap create /dev/mapper/od /dev/mapper/sd --name slow --chunk-size 16K > /tmp/out
write_pattern /dev/mapper/slow 0 512 1
prints "a snapshot" 1 snapshot slow
prints "which has a device" /dev/mapper/slow-1 activate slow 1

# stuck [<device>]: a write to the origin is under way that does not end before "go".
stuck() {
	dmsetup suspend od
	dd if=/dev/zero of=/dev/mapper/"${1:-slow}" bs=16k count=1 oflag=direct status=none &
	job=$!
	within 10 grep -q '^State:.D' /proc/$job/status || diag "the write does not wait"
}
go() {
	dmsetup resume od
	ends_well "$1" $job
}

# --- the time is over ---------------------------------------------------------

stuck
begin=$SECONDS
refused "a cut that takes too long" "I/O that is under way did not end in 2 s; nothing is changed.*--timeout 600" \
	snapshot slow --timeout 2
ok "is given up in time" test $((SECONDS - begin)) -lt $((10 * ${SLOW:-1}))
is "the origin is not suspended, and has one table" "$(state slow)" Active:Live
is "and nothing waits" "$(ms_status slow pending)" -
refused "the same of a snapshot of a snapshot" "did not end in 2 s" snapshot slow --of 1 --timeout 2
is "its parent is not suspended either" "$(state slow-1)" Active:Live
go "the write ends when it can"
is "no snapshot was made" "$(ms_status slow ids)" 1
prints "then one can be made" 2 snapshot slow

# --- a signal comes -----------------------------------------------------------

# begin <option>...: a cut that is stuck, in the background.
begin() {
	multisnap snapshot slow "$@" > /tmp/out 2> /tmp/err &
	cut=$!
	within 10 is_pending
}
is_pending() { [ "$(ms_status slow pending)" != - ]; }
stuck
begin --timeout 600
sleep 0.5
kill -TERM $cut
rc=0
wait $cut || rc=$?
like "a signal ends it" "$rc $(cat /tmp/err)" "^2 multisnap: slow has no snapshot: a signal came; nothing is changed"
is "and leaves nothing behind" "$(state slow) $(ms_status slow pending)" "Active:Live -"

begin --of 1 --timeout 600
ok "the parent is suspended" within 10 is_state slow-1 Suspended:Live
# The command, and the one that would resume what it has suspended.
for pid in $cut $(pgrep -P $cut); do awk '$1 == "VmLck:" { print ($2 > 1000) }' /proc/"$pid"/status; done > /tmp/locked
is "meanwhile both are locked in memory" "$(tr '\n' ' ' < /tmp/locked)" "1 1 "
kill -TERM $cut
rc=0
wait $cut || rc=$?
is "a signal ends that, too" "$rc $(state slow-1) $(state slow) $(ms_status slow pending)" "2 Active:Live Active:Live -"

# --- the command is gone ------------------------------------------------------

begin --of 1 --timeout 600
within 10 is_state slow-1 Suspended:Live
# Whoever ends a unit asks all of its processes first.
second=$(pgrep -P $cut)
kill -TERM "$second"
sleep 0.5
is "the one that would resume it takes no word from others" "$(pgrep -P $cut)" "$second"
kill -KILL $cut
wait $cut 2> /dev/null
ok "killed: the parent is resumed all the same" within 10 is_state slow-1 Active:Live
like "the origin, too" "$(state slow)" "^Active:"
refused "what is left is told" "multisnap snapshot slow --cancel" snapshot slow --timeout 2
prints "and dropped" '{"cancelled":"slow"}' snapshot slow --cancel --json
is "then nothing is" "$(state slow) $(ms_status slow pending)" "Active:Live -"

begin --of 1 --timeout 3
within 10 is_state slow-1 Suspended:Live
kill -STOP $cut
ok "stopped: the parent is resumed when the time is over" within 15 is_state slow-1 Active:Live
kill -CONT $cut
wait $cut
is "it has made nothing" "$(state slow) $(ms_status slow pending) $(ms_status slow ids)" "Active:Live - 1-2"
go "the write ends when it can"
prints "then a snapshot of a snapshot can be made" 1.0 snapshot slow --of 1
is "and all are as they were" "$(state slow) $(state slow-1)" "Active:Live Active:Live"
# Chunk 0 was copied for the first one, before that had a snapshot, and later for the second.
sleep 2
is "what each has of the store is told" \
	"$(multisnap list slow --space --json | jq -c '.volumes[0].snapshots | map([.id, .own_bytes, .shared_bytes])')" \
	'[["1",0,16384],["1.0",0,16384],["2",16384,0]]'
# It takes two seconds, at most.
tells_sizes() { multisnap list slow | grep -qE '^ *2 .* 8 MiB +16 KiB +0 B +-$'; }
ok "in words, and without being asked" within 20 tells_sizes
is "and left out, if that is asked" "$(multisnap list slow --no-space --json | jq -c '.volumes[0] | [.space_unread, .snapshots[2].own_bytes]')" \
	'[null,null]'
# A store of which each block is read in two seconds.
dmsetup create slowsd --table "0 65536 delay /dev/s 0 2000 /dev/s 0 0"
dmsetup suspend sd
dmsetup reload sd --table "0 65536 linear /dev/mapper/slowsd 0"
dmsetup resume sd
ms list slow
like "what takes too long to read is left out, and told" "$rc $out" \
	"^0 .*2 .* 8 MiB +- +- +-.*no OWN and SHARED: it takes longer to read: multisnap list slow --space$"
is "in an object, too" "$(multisnap list slow --json | jq -c '.volumes[0] | [.space_unread, .snapshots[2].own_bytes]')" \
	'["it takes longer to read: multisnap list slow --space",null]'
timeout 8 multisnap list slow --space > /tmp/out 2>&1
is "unless it is asked for" "$?" 124
dmsetup suspend sd
dmsetup reload sd --table "0 65536 error"
dmsetup resume sd
ms list slow
like "what cannot be read is, too" "$rc $out" "^0 .*2 .* 8 MiB +- +- +-.*no OWN and SHARED: .*; [a-z]"
refused "unless it is asked for" "/sd cannot be read or written; " list slow --space
dmsetup suspend sd
dmsetup reload sd --table "0 65536 linear /dev/s 0"
dmsetup resume sd
dmsetup remove slowsd
ok "no other process is left" bash -c '! pgrep -x multisnap'
ok "the first snapshot is right" check_pattern /dev/mapper/slow-1 0 512 1

# --- two commands at once -----------------------------------------------------

stuck
begin --timeout 600
multisnap snapshot slow --timeout 600 > /tmp/second 2>&1 &
second=$!
sleep 1
is "a second command waits for the first" "$(ms_status slow pending) $(kill -0 $second && echo there)" "3 there"
go "the write ends when it can"
wait $cut $second
is "then both have made a snapshot" "$(cat /tmp/out /tmp/err /tmp/second | xargs)" "3 4"

# --- a file system ------------------------------------------------------------

# What cannot be interrupted goes on until the device below answers; then all is as it should be.
multisnap deactivate slow
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/slow
mkdir -p /mnt/a
mount /dev/mapper/slow /mnt/a
for what in od sd; do
	rm -f /tmp/stop
	(while [ ! -e /tmp/stop ]; do date > /mnt/a/file && sync -f /mnt/a || exit; sleep 0.1; done) &
	job=$!
	sleep 0.5
	dmsetup suspend $what
	multisnap snapshot slow --timeout 1 > /tmp/out 2> /tmp/err &
	cut=$!
	sleep 4
	dmsetup resume $what
	wait $cut
	like "a cut with $what stuck ends when it answers" "$? $(cat /tmp/out /tmp/err)" "^(0 [0-9]+|2 .*did not end in 1 s.*)$"
	is "and nothing is suspended" "$(state slow) $(ms_status slow pending)" "Active:Live -"
	touch /tmp/stop
	ends_well "the file system goes on" $job
done
prints "and can be frozen again" "$(($(ms_status slow ids | grep -oE '[0-9]+$') + 1))" snapshot slow
# No page of the command can be read while the device that it lies on is suspended.
mkdir -p /mnt/b
cp /payload/bin/multisnap /mnt/a/
sync
echo 3 > /proc/sys/vm/drop_caches
ok "a command that lies on the origin cuts it" timeout 60 /mnt/a/multisnap snapshot slow
id=$(ms_status slow ids | grep -oE '[0-9]+$')
mount "$(multisnap activate slow "$id")" /mnt/b
echo 3 > /proc/sys/vm/drop_caches
is "one that lies on a snapshot cuts that" "$(timeout 60 /mnt/b/multisnap snapshot slow --of "$id")" "$id.0"
# freezes: a cut of the file system on that snapshot, which cannot be frozen before od answers, and not be
# interrupted meanwhile. Its time is over.
freezes() {
	dd if=/dev/urandom of=/mnt/b/dirty bs=64k count=16 status=none
	dmsetup suspend od
	multisnap snapshot slow --of "$id" --timeout 2 > /tmp/out 2> /tmp/err &
	cut=$!
	within 10 grep -q '^State:.D' /proc/$cut/status || diag "it does not wait"
	sleep 5
	is "a file system that cannot be frozen is not suspended" "$(state "slow-$id")" Active:Live
}
freezes
kill -KILL $cut
dmsetup resume od
wait $cut 2> /dev/null
ok "killed while it is being frozen: it is resumed when it is" within 10 is_state "slow-$id" Active:Live
prints "and nothing is left" '{"cancelled":"slow"}' snapshot slow --cancel --json
freezes
dmsetup resume od
rc=0
wait $cut || rc=$?
like "frozen too late: there is no snapshot" "$rc $(cat /tmp/out /tmp/err)" "^2 multisnap: slow has no snapshot: .* in 2 s; nothing is changed"
is "and nothing is suspended" "$(state "slow-$id") $(state slow) $(ms_status slow pending)" "Active:Live Active:Live -"
is "nor made" "$(ms_status slow ids | grep -c "$id.1")" 0
umount /mnt/a /mnt/b
multisnap deactivate slow
multisnap activate slow 1 > /tmp/out

# --- growth -------------------------------------------------------------------

ms grow slow
like "nothing has grown" "$rc $out" "^0 origin: 8 MiB, as before.store: .*, as before$"
part o 32768
part s 131072
ms grow slow
like "origin and store have grown" "$rc $out" "^0 origin: 16 MiB, was 8 MiB.store: [0-9]+ chunks .*, was"
is "as the device shows" "$(sectors /dev/mapper/slow)" 32768
is "the snapshot has not" "$(sectors /dev/mapper/slow-1)" 16384
ok "and is right" check_pattern /dev/mapper/slow-1 0 512 1
is "growth as an object" "$(multisnap grow slow --json | jq -c '[.volume, .old_sectors, .sectors]')" '["slow",32768,32768]'
stuck
refused "one that takes too long is given up" "did not grow: .* in 2 s; nothing is changed.*grow slow --timeout 600" grow slow --timeout 2
is "and the device goes on" "$(state slow)" Active:Live
go "the write ends when it can"
part o 16384
refused "an origin that has shrunk" "od has 16384 sectors, and had 32768: it has shrunk" grow slow
part o 32768

# --- memory cannot be locked ----------------------------------------------------

as=(prlimit --memlock=65536 setpriv --bounding-set -ipc_lock)
ms snapshot slow
like "then a line says what that means" "$rc $out $(wc -l < /tmp/err) $err" \
	"^0 [0-9]+ 1 multisnap: memory cannot be locked .*if the system runs from slow, .*ulimit -l unlimited$"
as=()

# --- a device that is put under -------------------------------------------------

multisnap stop slow > /tmp/out
dd if=/dev/zero of=/dev/mapper/sd bs=128k count=1 oflag=direct status=none
dmsetup create flat --table "0 32768 linear /dev/mapper/od 0"
works "another device is put under" under /dev/mapper/flat /dev/mapper/sd --create
multisnap snapshot flat > /tmp/out
multisnap activate flat 1 > /tmp/out
stuck flat
refused "out is given up, and tells which devices it has removed" \
	"flat is not out: .* in 2 s; the device of a snapshot was removed, make it again: multisnap activate flat 1; say it" \
	out flat --lose-snapshots --timeout 2
like "it is as it was" "$(dmsetup table flat) $(state flat)" " multisnapshot .* Active:Live$"
go "the write ends when it can"
prints "and the snapshot has a device again" /dev/mapper/flat-1 activate flat 1
works "then it is out" out flat --lose-snapshots

# --- a store that is too small ------------------------------------------------

make_nullblk o2 16
make_nullblk s2 2
multisnap create /dev/o2 /dev/s2 --name full > /tmp/out
multisnap snapshot full > /tmp/out
write_pattern /dev/mapper/full 0 16384 3
ms status full
like "what is lost is told, by the status, too" "$rc $out" "^1 full.*mode +full, the store is full.*lost +[0-9]+ record"
ms snapshot full
multisnap remove full 1 > /tmp/out
refused "a wrong command is one line" "has no snapshot 1" remove full 1
cleanup
