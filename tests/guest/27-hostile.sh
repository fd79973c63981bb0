#!/bin/bash
# Stores with damage and right checksums (what the fuzzer has kept) in the real module: each is
# refused if the store's code refuses it on the host, for the same reason, and not the worse for
# it; or it works, and answers with data or with an error.  HOSTILE=all asks for all of them.
# timeout: 480
. ./lib.sh

# Those with damage, at most so many, from all over the list.
wanted=${HOSTILE:-20}
[ "$wanted" != all ] || wanted=1000000
mapfile -t inputs < <(perl -e 'for (@ARGV) {
	open my $file, "<", $_;
	read $file, my $head, 2;
	print "$_\n" if ord(substr($head, 1)) % 33;
}' corpus/* | awk -v wanted="$wanted" '{ line[NR] = $0 }
	END { step = NR > wanted ? NR / wanted : 1; for (i = 1; i <= NR; i += step) print line[int(i)] }')

modprobe dm-multisnapshot
make_nullblk o 2 blocksize=4096
make_nullblk s 4 blocksize=4096

# try_all <ms>: what can be asked of a store that was taken; errors are answers too.
try_all() {
	local id mode
	for id in 1 2 3 5 8 12; do
		make_snap check /dev/o "$id" || snap_sectors=2048 make_snap check /dev/o "$id" || continue
		dd if=/dev/mapper/check of=/dev/null bs=64k iflag=direct
		write_pattern /dev/mapper/check 64 8 3
		dmsetup remove check || return 1
	done
	write_pattern "/dev/mapper/$1" 0 256 2 32768
	take_snapshot "$1"
	write_pattern "/dev/mapper/$1" 128 128 4 32768
	message "$1" delete 1
	message "$1" delete 2
	message "$1" list 0 50
	sleep 0.2
	mode=$(ms_status "$1" mode)
	case $mode in rw | full | ro | fail) ;; *) echo "mode $mode"; return 2 ;; esac
	dmsetup remove "$1" || return 3
	# And once more: what was written is no worse.
	if make_ms "$1" /dev/o /dev/s "$chunk" 0 "$type"; then
		dmsetup remove "$1" || return 4
	fi
}

# What a refusal may not touch.  (Of a recovery that is given up, copies of nodes may be in
# free blocks.)
header() { dd if=/dev/s bs=128k count=1 iflag=direct status=none | md5sum; }
try() { dmesg_mark && make_ms ms /dev/o /dev/s "$chunk" 0 "$type" > /tmp/out 2>&1; }
why() { our_lines | sed 's/.*multisnapshot: //'; }

refused=0 taken=0
for input in "${inputs[@]}"; do
	name=${input#*/}
	dd if=/dev/zero of=/dev/o bs=1M count=2 oflag=direct status=none
	dd if=/dev/zero of=/dev/s bs=1M count=4 oflag=direct status=none
	read -r chunk type verdict words <<< "$(hostile-image "$input" /dev/s $((4 << 20)) "$(sectors /dev/o)")"
	before=$(header)
	if try; then
		taken=$((taken + 1))
		is "$name is taken, as on the host" "$verdict $words" "taken "
		ok "$name answers" try_all ms
	else
		refused=$((refused + 1))
		reason=$(why)
		is "$name is refused, as on the host" refused "$verdict"
		like "for the same reason, in one line of ours" "$(wc -l <<< "$reason") $reason" "^1 .*store [0-9:]+ $words"
		try
		is "and again, with nothing changed" "$(header) $(why)" "$before $reason"
	fi
done
diag "$refused refused, $taken taken"
ok "as many were tried as were wanted" test ${#inputs[@]} -ge $((wanted < 200 ? wanted : 200))
ok "some were refused" [ "$refused" -gt 0 ]
ok "some were taken" [ "$taken" -gt 0 ]
plan $((3 * refused + 2 * taken + 3))
cleanup
