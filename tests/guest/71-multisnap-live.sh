#!/bin/bash
# Stores that are read beside the module that uses them: with --live only, past the page cache, also
# where the store is a file. And what a removal shows in a terminal.
. ./lib.sh
. ./multisnap.sh
plan 28

make_nullblk o 32
make_nullblk s 32
multisnap create /dev/o /dev/s --name home > /dev/null
write_pattern /dev/mapper/home 0 2048 1
multisnap snapshot home --name first > /dev/null
write_pattern /dev/mapper/home 0 1024 2
# Until then it may be in no log.
sync /dev/mapper/home

# --- --live -----------------------------------------------------------------------

names() { multisnap dump /dev/s --live | jq -r 'select(.snapshot).snapshot.name' | tr '\n' ' '; }
# content <id>: what cat gives of a snapshot.
content() { multisnap cat /dev/s "$1" --origin /dev/o --live | cksum; }
# held <id>: what the module gives.
held() {
	multisnap activate home "$1" --device held > /dev/null
	checksum /dev/mapper/held
	multisnap deactivate home "$1"
}
looks() { ms check /dev/s --live --json; [ "$rc" -eq 0 ] || [ "$rc" -eq 3 ]; }
within 20 looks
is "check looks at a store that is in use" "$(jq -r .snapshots <<< "$out")" 1
is "so does dump" "$(names)" "first "
is "so does map" "$(multisnap map /dev/s 1 --live --json | jq -c '[.first, .count, .where]' | tr '\n' ' ')" \
	'[0,32,"store"] [32,2016,"origin"] '
is "so does cat" "$(content 1)" "$(held 1)"

# --- past the page cache ------------------------------------------------------------

# What an open descriptor keeps in the page cache is what was there.
cached() { dd if="$1" bs=1M count=32 status=none | cksum; }
exec 7< /dev/s 8< /dev/o
was="$(cached /dev/s) $(cached /dev/o)"
write_pattern /dev/mapper/home 8192 1024 3
sync /dev/mapper/home
multisnap snapshot home --name second > /dev/null
is "the page cache holds what was" "$(cached /dev/s) $(cached /dev/o)" "$was"
ok "which is not what there is" test "$(checksum /dev/s)" != "${was%% *}"
is "dump has the new snapshot" "$(names)" "first second "
within 20 looks
is "and check has it" "$(jq -r .snapshots <<< "$out")" 2
is "and map" "$(multisnap map /dev/s 2 --live --json | jq -c '[.first, .count, .where]')" '[0,2048,"origin"]'
is "and cat, which reads the origin so, too" "$(content 2)" "$(held 2)"
is "the page cache holds that still" "$(cached /dev/s) $(cached /dev/o)" "$was"
exec 7<&- 8<&-

# --- files --------------------------------------------------------------------------

modprobe loop
truncate -s 16M /tmp/fo /tmp/fs /tmp/blank
origin=$(losetup --find --show /tmp/fo)
store=$(losetup --find --show /tmp/fs)
multisnap create "$origin" "$store" --name filed > /dev/null
multisnap snapshot filed > /dev/null
for words in check dump "map 1" "cat 1 --origin /tmp/fo" "repair /tmp/new"; do
	read -r word rest <<< "$words"
	# shellcheck disable=SC2086
	refused "$word of a file that is in use" \
		"/tmp/fs is behind $store, which is part of /dev/mapper/filed; stop its origin .multisnap stop $store.*--live" \
		"$word" /tmp/fs $rest
done
ok "and nothing was made" test ! -e /tmp/new
file_looks() { ms check /tmp/fs --live; [ "$rc" -eq 0 ] || [ "$rc" -eq 3 ]; }
ok "check looks at that, too" within 20 file_looks
multisnap stop "$store" > /dev/null
works "what is only behind a loop device is in use by nobody" check /tmp/fs
held=$(losetup --find --show /tmp/blank)
dmsetup create held --table "0 32768 linear $held 0"
refused "nothing is written to a file that is in use" "/tmp/blank is behind $held, which is part of /dev/mapper/held; unmount it" \
	repair /tmp/fs /tmp/blank
dmsetup remove held
works "when it is not, it is" repair /tmp/fs /tmp/blank
is "and is a store" "$(multisnap check /tmp/blank > /dev/null; echo $?)" 0
losetup -d "$origin" "$store" "$held"

# --- in a terminal ------------------------------------------------------------------

# seen <word>...: what somebody sees of a command.
seen() { TERM=xterm script -qec "multisnap $*" /dev/null < /dev/null | tr '\r' '\n'; }
for _ in 1 2 3; do
	dd if=/dev/urandom of=/dev/mapper/home bs=1M count=8 oflag=direct status=none
	multisnap snapshot home > /dev/null
done
text=$(seen remove home 1-4)
like "how far a removal has come is seen in a terminal" "$text" "free space \[[=> ]*\] [0-9]+%"
like "and what was done, at the end" "$text" "removed 4 snapshots of home"
is "and so it is" "$(multisnap list home --json | jq -c '.volumes[0].snapshots | map(.id)')" '["5"]'
prints "elsewhere only that" "removed 1 snapshot of home" remove home 5
text=$(seen check /dev/s --live)
like "so it is of a check" "$text" "check \[[=> ]*\] [0-9]+%"
ms check /dev/s --live
is "and elsewhere not" "$err" ""
multisnap stop home > /dev/null
cleanup
