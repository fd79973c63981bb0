#!/bin/bash
# sync-snapshots: the snapshots become those of a list, once.
. ./lib.sh
plan 55

# list <id>...: a table with that list.
list() { echo "$(ms_table /dev/mapper/od /dev/mapper/sd 32 "1 sync-snapshots") $# $*"; }
load() { dmsetup reload ms --table "$(list "$@")"; }
live() { dmsetup reload ms --table "$(list "$@")" && dmsetup resume ms; }
ids() { ms_status ms ids; }
# refused <what> <errno> <words in our line> <command>...
refused() {
	local what=$1 error=$2 words=$3 lines
	shift 3
	dmesg_mark
	fails_with "$what" "$error" "$@"
	lines=$(our_lines)
	like "$what: one line says so" "$(grep -c . <<< "$lines") $lines" "^1 .*$words"
}
make_nullblk o 16
make_nullblk s 64
dmsetup create od --table "0 $(sectors /dev/o) linear /dev/o 0"
dmsetup create sd --table "0 $(sectors /dev/s) linear /dev/s 0"
size=$(sectors /dev/o)
write_pattern /dev/o 0 2048 1

# A new store.
dmsetup create ms --notable
load 5 1 2
like "the table has the list before the first resume" "$(dmsetup table --inactive ms)" \
	"32 1 sync-snapshots $STORE_TYPE 0 3 1 2 5$"
dmsetup resume ms
is "which makes the snapshots" "$(ids)" 1-2,5
is "as status says" "$(ms_status ms sync)" "done"
like "then the table has the list no more" "$(dmsetup table ms)" "32 0 $STORE_TYPE 0$"
is "another resume does nothing" "$(message ms delete 1; dmsetup suspend ms; dmsetup resume ms; ids)" 2,5
write_pattern /dev/mapper/ms 0 512 2
make_snap snap /dev/mapper/od 5
ok "they have the content of the first resume" check_pattern /dev/mapper/snap 0 2048 1
is "the next id comes behind the list" "$(take_snapshot ms)" 6

# What cannot be.
refused "an id that was given" EINVAL "snapshot 1 .* 7" load 1 2 5 6
refused "one that was passed over" EINVAL "snapshot 4 .* 7" load 2 4 5 6
refused "one that is in use and not listed" EBUSY "snapshot 5 " load 2 6
refused "a sub-snapshot of none" ENOENT "snapshot 9.0.* 9" load 2 5 6 9.0
refused "an id twice" EINVAL "snapshot 5 " load 2 5 6 5
refused "a word that is no id" EINVAL "'x'" load 2 5 6 x
refused "no list" EINVAL "missing" dmsetup reload ms \
	--table "$(ms_table /dev/mapper/od /dev/mapper/sd 32 "1 sync-snapshots")"
refused "a list without the word" EINVAL "'2'" dmsetup reload ms \
	--table "$(ms_table /dev/mapper/od /dev/mapper/sd 32) 2 5 6"
is "nothing has changed by that" "$(ids)" 2,5-6

# What can.
load 2 5
ok "a list that is dropped" dmsetup clear ms
is "changes nothing" "$(ids)" 2,5-6
ok "one is deleted, one is made" live 2 5 8
is "as the list says" "$(ids)" 2,5,8
ok "the one that is open goes on" check_pattern /dev/mapper/snap 0 2048 1
make_snap snap8 /dev/mapper/od 8
ok "the new one has what the origin held" check_pattern /dev/mapper/snap8 0 512 2
dmsetup remove snap8
if [ "$STORE_TYPE" = btree ]; then
	ok "sub-snapshots too, with and without a new parent" live 2 2.0 2.3 5 8 10 10.1
	is "as the list says" "$(ids)" 2.0,2.3,2,5,8,10.1,10
	refused "one that was passed over" EINVAL "snapshot 2.1 .* 2.4" load 2 2.0 2.1 2.3 5 8 10 10.1
	write_pattern /dev/mapper/ms 0 512 3
	make_snap sub /dev/mapper/od 2.3
	ok "they have their parent's content" check_pattern /dev/mapper/sub 0 2048 1
	dmsetup remove sub
	ok "a parent goes, what it had stays" live 2.3 5 8
	is "as the list says" "$(ids)" 2.3,5,8
else
	refused "a sub-snapshot" EOPNOTSUPP "snapshot 2 .*bitmask.*btree" load 2 2.0 5 8
	ok "another one" live 2 5 8 10
	is "as the list says" "$(ids)" 2,5,8,10
	ok "and two that go" live 5 8
	is "as the list says" "$(ids)" 5,8
fi
dmsetup remove snap

# What fails at the resume.
load 8 11
make_snap snap /dev/mapper/od 5
before=$(events ms)
dmesg_mark
ok "the resume succeeds though one is in use by then" dmsetup resume ms
is "status says what failed" "$(ms_status ms sync)" failed:16
like "one line does" "$(our_lines | grep -c .) $(our_lines)" "^1 .*snapshot 5"
ok "and an event" test "$(events ms)" -gt "$before"
is "what came before has been done" "$(ids)" 5,8,11
ok "the device goes on" write_pattern /dev/mapper/ms 0 64 4
dmsetup remove snap

# A store that is not loaded, with the last changes in its log alone.
make_nullblk crash 64
dd if=/dev/s of=/dev/crash bs=1M iflag=direct oflag=direct status=none
dmsetup remove ms
cold() { # <store> [<option>]
	dmsetup create "${@:2}" ms --table "$(ms_table /dev/mapper/od "$1" 32 "1 sync-snapshots") ${ids[*]}"
}
ids=(3 5 8 10)
refused "an id that was given is known from the log" EINVAL "snapshot 10 .* 12" cold /dev/crash
ids=(2 5 8)
refused "read-only, a list that changes something" EROFS "snapshot 11" cold /dev/crash --readonly
ids=(3 5 8 11)
ok "read-only, one that changes nothing" cold /dev/crash --readonly
is "the snapshots are there" "$(ids)" 5,8,11
dmsetup remove ms
ids=(2 8 20)
ok "read-write, what is needed is done" cold /dev/mapper/sd
is "as the list says" "$(ids)" 8,20
dmsetup remove ms
ids=(0)
ok "an empty list" cold /dev/mapper/sd
is "leaves none" "$(ids)" -
is "and none comes back" "$(dmsetup remove ms && make_ms ms /dev/mapper/od /dev/mapper/sd 32 && ids)" -
is "the next id is a new one" "$(take_snapshot ms)" 21
if [ "$STORE_TYPE" = bitmask ]; then
	# Those that go are deleted after the others were made.
	mapfile -t ids < <(seq 22 86)
	is "a list of more than 64 ends when there are so many" "$(live "${ids[@]}"; ms_status ms sync) $(ids)" \
		"failed:28 21-84"
fi
cleanup
