#!/bin/bash
# Read-only devices and loads; suspends without flush and removals while all is busy.
# cpus: 2
. ./lib.sh
plan 45

lines_say() { # <what> <words>: one line of ours, with those words
	like "$1" "$(our_lines | grep -c .) $(our_lines)" "^1 .*$2"
}
table() { ms_table /dev/o /dev/s 32; }
read_snap() { dd if=/dev/mapper/snap of=/dev/null bs=4k count=1 iflag=direct status=none; }
write_to() { dd if=/dev/zero of="/dev/mapper/$1" bs=4k count=1 oflag=direct status=none; }

# --- read-only devices ---
make_nullblk o 16
make_nullblk s 64
make_nullblk crash 64
size=$(sectors /dev/o)
dmsetup create ms --table "$(table)"
write_pattern /dev/mapper/ms 0 2048 1
take_snapshot ms > /dev/null
write_pattern /dev/mapper/ms 0 64 2
make_snap snap /dev/o 1
write_pattern /dev/mapper/snap 128 32 3
sync /dev/mapper/snap
# As a power cut would leave it, with all of that in the log alone.
dd if=/dev/s of=/dev/crash bs=1M iflag=direct oflag=direct status=none
dmsetup remove snap
dmsetup remove ms
number() { cat "/sys/block/$1/dev"; }
for device in o s; do
	blockdev --setro /dev/$device
	dmesg_mark
	fails_with "$device read-only: a read-write load is refused" EROFS dmsetup create ms --table "$(table)"
	lines_say "with one line that names it" "$(number $device).* read-only"
	blockdev --setrw /dev/$device
	dmsetup create ms --notable
	dmsetup reload ms --table "$(table)"
	blockdev --setro /dev/$device
	dmesg_mark
	fails_with "$device read-only after the load: so is a resume" EROFS dmsetup resume ms
	lines_say "with one line that names it" "$(number $device).* read-only"
	dmsetup remove ms
	blockdev --setrw /dev/$device
done
for device in o s crash; do blockdev --setro /dev/$device; done
readonly_ms() { dmsetup create --readonly ms --table "$(ms_table /dev/o "$1" 32)"; }
readonly_snap() { dmsetup create --readonly snap --table "0 $size multisnap-snap /dev/o 1"; }
is_as_it_was() {
	check_pattern /dev/mapper/snap 0 128 1 && check_pattern /dev/mapper/snap 128 32 3 &&
		check_pattern /dev/mapper/snap 160 1800 1 && check_pattern /dev/mapper/ms 0 64 2
}
for device in s crash; do
	commands="$(io_count /dev/$device 5) $(io_count /dev/$device 16) $(io_count /dev/o 5)"
	ok "$device: a read-only load" readonly_ms /dev/$device
	is "its mode is ro" "$(ms_status ms mode)" ro
	for message in create "delete 1" "name 1 x"; do
		# shellcheck disable=SC2086
		fails_with "no message changes anything: $message" EROFS message ms $message
	done
	dmesg_mark
	fails_with "a read-write snapshot is refused" EROFS make_snap snap /dev/o 1
	lines_say "with one line" "snapshot 1 .*--readonly"
	ok "a read-only one is not" readonly_snap
	ok "it has its content" is_as_it_was
	fails_with "and takes no write" EPERM write_to snap
	dmsetup suspend ms
	dmsetup resume ms
	dmsetup remove snap
	dmsetup remove ms
	is "nothing was written" \
		"$(io_count /dev/$device 5) $(io_count /dev/$device 16) $(io_count /dev/o 5)" "$commands"
done
for device in o s crash; do blockdev --setrw /dev/$device; done
make_nullblk empty 16
fails_with "a store that is to be formatted is not, read-only" EROFS readonly_ms /dev/empty
is "it is still empty" "$(io_count /dev/empty 5)" 0

# --- noflush: as a power cut at that moment ---
# A writer counts up in two blocks, one after the other.
dmsetup create ms --table "$(table)"
python3 two-blocks.py write /dev/mapper/ms &
writer=$!
within 10 eval '[ "$(python3 two-blocks.py read /dev/mapper/ms)" -ge 1 ]'
bad=0
for id in 2 3 4 5 6; do
	seen=$(python3 two-blocks.py read /dev/mapper/ms)
	message ms create > /dev/null
	dmsetup suspend --noflush --nolockfs ms
	dmsetup resume ms
	make_snap snap /dev/o $id
	python3 two-blocks.py check /dev/mapper/snap "$seen" || bad=1
	dmsetup remove snap
done
is "cuts without flush, under writes, have what was written before" $bad 0
is "there are five" "$(ms_status ms ids)" 1-6

# --- removal ---
fails_with "a device in use is not removed" EBUSY dmsetup remove ms
make_snap snap /dev/o 2
ok "unless by force, with the writer at work" within 30 dmsetup remove --force ms
wait $writer
like "which gets an error" "status $?" "status [1-9]"
ok "what is left of the device goes" within 20 eval '! dmsetup info ms || dmsetup remove ms'
fails_with "the snapshot says EIO" EIO read_snap
dmsetup remove snap
ok "the module can go" modprobe -r dm-multisnapshot
ok "all loads again" dmsetup create ms --table "$(table)"
readonly_snap
ok "with the content it had" check_pattern /dev/mapper/snap 160 1800 1
ok "a removal that waits for its user" eval 'exec 7< /dev/mapper/ms; dmsetup remove --deferred ms'
exec 7<&-
ok "comes when that is gone" within 10 eval '! dmsetup info ms'
dmsetup remove snap
ok "and the store was closed in order" dmsetup create ms --table "$(table)"
cleanup
