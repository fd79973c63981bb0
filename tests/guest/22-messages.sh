#!/bin/bash
# Messages, names, the list of snapshots, and lines that load again.
. ./lib.sh
plan 40

# refused <what> <errno> <words in our line> <message>...
refused() {
	local what=$1 error=$2 words=$3 lines
	shift 3
	dmesg_mark
	fails_with "$what" "$error" message ms "$@"
	lines=$(our_lines)
	like "$what: one line says so" "$(grep -c . <<< "$lines") $lines" "^1 .*$words"
}
long=$(printf 'x%.0s' {1..63})

make_small 16 64 32
size=$(sectors /dev/o)
refused "an unknown message" EINVAL "apple" apple
refused "create with two names" EINVAL "'two'" create one two
refused "a name of 64 letters" EINVAL "name" create "${long}x"
refused "a name with a slash" EINVAL "'a/b'" create a/b
refused "cancel with nothing to cancel" ENOENT "pending" cancel
refused "a name for no snapshot" ENOENT "snapshot 1" name 1 first
refused "a name for no id" EINVAL "'x'" name x first
refused "a name without one" EINVAL "missing" name 1
is "none of these left a pending snapshot" "$(ms_status ms pending)" -

is "create with a name" "$(message ms create Some-name_1.0+)" 1
refused "a second one" EBUSY "pending" create
dmsetup suspend ms
dmsetup resume ms
is "a long name" "$(take_snapshot ms "$long")" 2
is "and none" "$(take_snapshot ms)" 3
list=$(message ms list 0 10)
is "the list has them all" "$(awk '{ print $1 }' <<< "$list" | xargs)" "1 2 3"
like "with their names" "$list" "Some-name_1\.0\+.*$long"
like "and their sizes" "$list" "$size"
now=$(date +%s)
cut=$(grep -oE '\b[0-9]{10}\b' <<< "$list" | head -n 1)
ok "and the time, within a minute ($cut)" test $((now - cut)) -ge 0 -a $((now - cut)) -le 60
like "a list in pages: the first" "$(message ms list 0 2 | awk '{ print $1, $NF }' | xargs)" "^1 .* 2 .* next 3$"
like "and the rest" "$(message ms list 3 2 | awk '{ print $1 }' | xargs)" "^3$"
ok "a name is changed" message ms name 3 third
dmsetup remove ms
make_ms ms /dev/o /dev/s 32
like "and stays changed" "$(message ms list 3 1)" "third"
python3 snapshots.py ms 300 > /dev/null
is "a long list says where it goes on" "$(message ms list 0 100 | tail -n 1)" "next 101"
seen='' from=0
while true; do
	page=$(message ms list "$from" 100)
	seen+=$(grep -v ^next <<< "$page" | awk '{ printf "%s ", $1 }')
	from=$(sed -n 's/^next //p' <<< "$page")
	[ -n "$from" ] || break
done
is "and the pages together have all" "$seen" "$(seq -s ' ' 303) "

line=$(dmsetup table ms)
make_snap snap /dev/o 3
snapline=$(dmsetup table snap)
like "the table is the line that made it" "$line" "^0 $size multisnapshot [0-9:]+ [0-9:]+ 32 0 btree 0$"
like "the snapshot's too" "$snapline" "^0 $size multisnap-snap [0-9:]+ 3$"
dmsetup remove snap
dmsetup remove ms
ok "it loads again" dmsetup create ms --table "$line"
ok "and the snapshot's" dmsetup create snap --table "$snapline"
like "a snapshot has a status" "$(dmsetup status snap)" "^0 $size multisnap-snap ."
fails_with "and takes no message" EINVAL message snap create

is "status has all its fields" "$(dmsetup status ms | wc -w)" 26
like "in the form that is documented" "$(dmsetup status ms)" \
	"^0 $size multisnapshot rw - - - btree 32 [0-9]+/[0-9]+ [0-9]+ [0-9]+/[0-9]+ [0-9]+/[0-9]+( [0-9]+){8} - - - 303 1-303$"
cleanup
