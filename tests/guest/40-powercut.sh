#!/bin/bash
# The machine stops dead in the middle of writes, twice; after that every snapshot
# has what it was cut with, and what was synced to it.  What a disk's own cache
# loses is for the host's model to try: here everything that was sent arrives.
# boot: --reboot --disk origin=32M --disk store=192M --disk notes=16M
# timeout: 240
# cpus: 2
. ./lib.sh

origin=/dev/disk/origin store=/dev/disk/store notes=/dev/disk/notes
# The notes are lines on a plain disk: "boot", "sum <id> <sum>", "synced <id> <seed>".
lines=()
read_notes() { mapfile -t lines < <(dd if=$notes bs=64k count=1 iflag=direct status=none | tr -d '\0'); }
note() {
	lines+=("$*")
	printf '%s\n' "${lines[@]}" > /tmp/notes
	truncate -s 64k /tmp/notes
	dd if=/tmp/notes of=$notes bs=64k oflag=direct,sync status=none
}
noted() { printf '%s\n' "${lines[@]}" | grep "^$1" || true; }
scribble() {
	fio --name=scribble --filename="$1" --ioengine=libaio --direct=1 --rw=randwrite --bsrange=4k-32k \
		--blockalign=4k --iodepth=8 --time_based --runtime=60 --offset="${2:-0}" --size="${3:-100%}" \
		--output=/dev/null
}
cut() {
	local id
	dmsetup suspend ms
	id=$(message ms create)
	note "sum $id $(checksum $origin)"
	dmsetup resume ms
}
verify() {
	local word id value
	while read -r word id value; do
		make_snap check $origin "$id" || { echo "snapshot $id is not there"; return 1; }
		if [ "$word" = sum ]; then
			[ "$(checksum /dev/mapper/check)" = "$value" ] || { echo "snapshot $id differs"; return 1; }
		else
			check_pattern /dev/mapper/check 0 64 "$value" || return 1
		fi
		dmsetup remove check
	done
}
read_notes
boots=$(noted boot | wc -l)
note boot
if [ "$boots" -eq 0 ]; then
	write_pattern $origin 0 2048 1
fi
make_ms ms $origin $store 32 || exit
if [ "$boots" -lt 2 ]; then
	for _ in 1 2 3; do cut; done
	# This snapshot is for writing; nobody knows its sum.
	written=$(take_snapshot ms)
	make_snap written $origin "$written"
	scribble /dev/mapper/ms &
	jobs=($!)
	scribble /dev/mapper/written 1m &
	jobs+=($!)
	sleep 1
	for seed in 1 2 3; do
		write_pattern /dev/mapper/written 0 64 "$((boots * 10 + seed))"
		sync /dev/mapper/written
		sleep 0.3
	done
	note "synced $written $((boots * 10 + 3))"
	cut
	! kill -0 "${jobs[@]}" || note busy
	sleep "0.$((RANDOM % 10))"
	echo b > /proc/sysrq-trigger
	sleep 60
fi

plan 10
is "the machine stopped twice" "$(noted boot | wc -l)" 3
is "both times with writes under way" "$(noted busy | wc -l)" 2
is "the store is in order" "$(ms_status ms mode) $(ms_status ms needs_check)" "rw -"
is "all snapshots are there" "$(ms_status ms ids)" 1-10
ok "the snapshots of before the first stop are right" verify < <(noted sum | head -n 4)
ok "and those of before the second" verify < <(noted sum | tail -n 4)
ok "what was synced to snapshots is there" verify < <(noted synced)
ok "an origin's write copies as ever" write_pattern /dev/mapper/ms 0 4096 5
ok "with no harm" verify < <(noted "s[uy]")
is "and a snapshot can be cut" "$(take_snapshot ms)" 11
dmsetup remove ms
