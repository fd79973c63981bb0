#!/bin/bash
# An origin's disk, and a store's, that is pulled out: what cannot be written loses nothing that is on it,
# and nothing is called damaged.
. ./lib.sh
plan 26

# pull_out <null_blk>: as when a disk goes; who has it open keeps it so. Its content goes as well.
pull_out() { echo 0 > "$nullb/$1/power"; }
# begin <word>...: as ms_table, from the generic options on; an origin with a snapshot that shares all but
# its first chunks.
begin() {
	make_nullblk o 16
	make_nullblk s 64
	write_pattern /dev/o 0 1024 1
	make_ms ms /dev/o /dev/s 8 "$@"
	take_snapshot ms > /dev/null
	write_pattern /dev/mapper/ms 0 64 2
	make_snap s1 /dev/o 1
	dmesg_mark
}
write() { fails_with "$1" EIO dd if=/dev/zero of=/dev/mapper/ms bs=4k seek="$2" count=1 oflag=direct conv=notrunc; }
read_snap() { fails_with "$1" EIO dd if=/dev/mapper/s1 of=/tmp/out bs=4k skip="$2" count=1 iflag=direct; }
removed() { ok "both are removed" eval "dmsetup remove s1 && dmsetup remove ms"; }

for policy in "0" "1 preserve-on-error"; do
	# The number of words comes before them.
	begin "$policy"
	copied=$(ms_status ms copied)
	pull_out o
	write "$policy: a write of the origin that is gone fails" 50
	write "$policy: the next one, too" 51
	is "$policy: no snapshot has lost what is on it" "$(ms_status ms lost)" 0
	is "$policy: nothing was copied, and the mode is what it was" "$(ms_status ms copied) $(ms_status ms mode)" "$copied rw"
	ok "$policy: what is in the store can be read" check_pattern /dev/mapper/s1 0 64 1
	read_snap "$policy: what is on the origin cannot" 60
	removed
	is "$policy: no record of a loss is in the store" \
		"$(multisnap check /dev/s --json | jq -r 'select(.lost_records != null) | .lost_records')" 0
	cleanup
done

# The store.
begin "0" "${STORE_TYPE:-btree}" "2 cache-limit 256"
pull_out s
dd if=/dev/mapper/s1 of=/tmp/out bs=4k count=1 iflag=direct 2> /dev/null
write_pattern /dev/mapper/ms 512 64 3
is "the origin goes on without its store" "$?" 0
ok "and has what was written" check_pattern /dev/mapper/ms 512 64 3
within 10 eval '[ "$(ms_status ms mode)" = fail ]'
is "the mode is fail" "$(ms_status ms mode)" fail
is "but nothing is called damaged" "$(ms_status ms needs_check) $(our_lines | grep -c 'error -84')" "- 0"
read_snap "what was in it cannot be read" 0
fails_with "nor is a snapshot made" EIO message ms create
removed
ok "the origin is as it was written" check_pattern /dev/o 512 64 3
ok "also before that" check_pattern /dev/o 0 64 2
ok "and behind" check_pattern /dev/o 576 400 1
cleanup
