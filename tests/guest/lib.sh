# Sourced by the guest's test scripts: test devices, data patterns and short names for
# what dmsetup does with our targets.
# shellcheck shell=bash

sector=512
. ./tap.sh

# --- devices -----------------------------------------------------------------

nullb=/sys/kernel/config/nullb

# make_nullblk <name> <MiB> [attribute=value]...: /dev/<name>, kept in memory and
# empty, with I/O counters.  Attributes are null_blk's own: cache_size=4 (MiB of
# volatile write cache), completion_nsec=1000000, blocksize=4096, badblocks=...
make_nullblk() {
	local dir=$nullb/$1 size=$2 setting
	shift 2
	modprobe null_blk nr_devices=0
	mkdir "$dir"
	echo "$size" > "$dir/size"
	echo 1 > "$dir/memory_backed"
	echo 1 > "$dir/discard"
	for setting in "$@"; do
		case $setting in completion_nsec=*) echo 2 > "$dir/irqmode" ;; esac
		echo "${setting#*=}" > "$dir/${setting%%=*}"
	done
	echo 1 > "$dir/power"
	[ -b "/dev/${dir##*/}" ]
}
remove_nullblk() { echo 0 > "$nullb/$1/power"; rmdir "$nullb/$1"; }

sectors() { blockdev --getsz "$1"; }
block_name() { basename "$(readlink -f "/sys/dev/block/$(stat -Lc %Hr:%Lr "$1")")"; }
# io_count <device> <field>: of Documentation/block/stat.rst, as
# 1 reads, 3 sectors read, 5 writes, 7 sectors written, 12 discards, 16 flushes.
io_count() { awk -v f="$2" '{ print $f }' "/sys/block/$(block_name "$1")/stat"; }

# --- multisnapshot -----------------------------------------------------------

# A script that is for any type of store can be sourced by another with this set.
export STORE_TYPE=${STORE_TYPE:-btree}

# ms_table <origin> <store> [<chunk sectors> [<generic args> [<store type> [<rest of the line>]]]]
# Generic args are one word list: "2 low-water 10".  STORE_TYPE is the type unless one is given.
ms_table() {
	echo "0 ${ms_sectors:-$(sectors "$1")} multisnapshot $1 $2 ${3:-16} ${4:-0} ${5:-$STORE_TYPE} ${6:-0}"
}
# make_ms <name> <origin> <store> [as ms_table]
make_ms() {
	local name=$1
	shift
	dmsetup create "$name" --table "$(ms_table "$@")"
}
# make_snap <name> <origin device> <snapshot id> [<option of dmsetup>...]
make_snap() { dmsetup create "$1" "${@:4}" --table "0 ${snap_sectors:-$(sectors "$2")} multisnap-snap $2 $3"; }
message() { dmsetup message "$1" 0 "${@:2}"; }
# take_snapshot <ms> [<name>]: cuts one and prints its id.
take_snapshot() { message "$1" create "${@:2}" && dmsetup suspend "$1" && dmsetup resume "$1"; }
status() { dmsetup status "$1"; }
# ms_status <ms> <field>: one field of the origin's status, by name.
ms_status() {
	dmsetup status "$1" | awk -v wanted="$2" '{
		count = split("mode needs_check pending last type chunk space metadata_chunks metadata log \
			read_errors write_errors metadata_errors copies copied commits checkpoints lost \
			low sync sweep snapshots ids", name, " ")
		for (i = 1; i <= count; i++) if (name[i] == wanted) print $(i + 3)
	}'
}
events() { dmsetup info -c --noheadings -o events "$1"; }
# counting <device> <command>...: sets "raised" to how many events the device had until the command
# was over, and what it has set off as well.
counting() {
	local name=$1 before now
	shift
	before=$(events "$name")
	"$@"
	while now=$(events "$name"); sleep 0.3; [ "$(events "$name")" != "$now" ]; do :; done
	# shellcheck disable=SC2034 # For the script.
	raised=$((now - before))
}
# make_small <origin MiB> <store MiB> [as ms_table, from the chunk size on]: new
# memory devices /dev/o and /dev/s, and "ms" on them.
make_small() {
	make_nullblk o "$1" && make_nullblk s "$2" && make_ms ms /dev/o /dev/s "${@:3}"
}

# --- data --------------------------------------------------------------------

# Every sector of a pattern says which one it is, and of which writing.
# pattern <first sector> <sectors> <seed>
pattern() {
	perl -e 'my ($s, $n, $seed) = @ARGV;
		print sprintf("%06d %08x\n", $seed, $_) x 32 for $s .. $s + $n - 1' "$1" "$2" "$3"
}
# write_pattern <device> <first sector> <sectors> <seed> [<bytes per write>]: in one
# write, if up to 1 MiB.  dd's last write, if shorter, would go through the cache.
write_pattern() {
	local bytes=$(($3 * sector))
	[ "$bytes" -le 1048576 ] || bytes=65536
	pattern "$2" "$3" "$4" | dd of="$1" bs="${5:-$bytes}" iflag=fullblock oflag=direct,seek_bytes \
		seek=$(($2 * sector)) conv=notrunc status=none
}
# check_pattern <device> <first sector> <sectors> <seed>: names the first sector
# that differs and what is there.
check_pattern() {
	dd if="$1" bs=64k iflag=direct,skip_bytes,count_bytes skip=$(($2 * sector)) \
		count=$(($3 * sector)) status=none |
		perl -e 'my ($s, $n, $seed) = @ARGV; my $have;
			for my $i ($s .. $s + $n - 1) {
				my $want = sprintf("%06d %08x\n", $seed, $i) x 32;
				my $got = read(STDIN, $have, 512);
				next if defined $got && $got == 512 && $have eq $want;
				my $first = substr($have // "", 0, 15) =~ s/[^ -~]/./gr;
				die "sector $i: wanted seed $seed, found \"$first\"\n";
			}' "$2" "$3" "$4"
}
# checksum <device> [<bytes per read>]: of all it holds, past the page cache.
checksum() { dd if="$1" bs="${2:-1M}" iflag=direct status=none | cksum; }
# is_zero <device> <first sector> <sectors>
is_zero() {
	cmp -n $(($3 * sector)) <(dd if="$1" bs=64k iflag=direct,skip_bytes skip=$(($2 * sector)) \
		status=none) /dev/zero
}

# --- kernel log --------------------------------------------------------------

# By a line in the log: it is a ring, so the number of its lines tells nothing once it is full.
dmesg_mark() {
	dmesg_last=$((${dmesg_last:-0} + 1))
	echo "<6>guest-test: mark $$.$dmesg_last" > /dev/kmsg
}
dmesg_since() { dmesg | sed "1,/guest-test: mark $$\.$dmesg_last\$/d"; }

# our_lines: what the module itself has said since then; the dm core repeats some.
our_lines() { dmesg_since | grep -i multisnap | grep -vE 'device-mapper: (table|ioctl|core): |guest-test: |loading out-of-tree module'; }

# ends_well <what> <job>: waits for a background job, which must have succeeded.
ends_well() {
	local rc=0
	wait "$2" || rc=$?
	is "$1" "status $rc" "status 0"
}
# within <seconds> <command>...: the command succeeds before that time is over.
within() {
	local end=$((SECONDS + $1 * ${SLOW:-1}))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# --- end ---------------------------------------------------------------------

# Takes down whatever the script made: users before what they stand on.
cleanup() {
	local try name
	awk '$1 ~ "^/dev/" && $2 != "/" { print $2 }' /proc/mounts | grep -v '^/\(dev\|proc\|sys\)' |
		tac | xargs -r umount
	for try in 1 2 3 4 5 6 7 8; do
		for name in $(dmsetup ls 2> /dev/null | awk '$1 != "No" { print $1 }'); do
			dmsetup resume "$name" 2> /dev/null
			dmsetup remove "$name" 2> /dev/null
		done
		dmsetup ls | grep -qv '^No devices' || break
		sleep 0.2
	done
	[ "$try" -lt 8 ] || { dmsetup ls --tree; return 1; }
	for name in "$nullb"/*/power; do
		[ ! -e "$name" ] || remove_nullblk "$(basename "${name%/power}")"
	done
}

# A script that ends early, by whatever cause, has failed.
at_exit() {
	local rc=$?
	[ "$rc" -eq 0 ] || result 1 "the script ended with status $rc"
	[ "$tests_run" -eq "${tests_planned:-0}" ] ||
		result 1 "planned ${tests_planned:-nothing}, ran $tests_run"
	[ "$tests_failed" -eq 0 ]
}
trap at_exit EXIT
