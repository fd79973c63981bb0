#!/bin/bash
# Origin or store on a disk behind an NBD server, with the commands of Documentation/network.rst:
# the link hangs, is cut under load and comes back, or does not.  The server is in the same guest.
# timeout: 900
# cpus: 2
. ./lib.sh
. ./real-lvm.sh
. ./document.sh
plan 73

end_network() {
	local rc=$?
	touch /tmp/stop
	dmsetup message far 0 fail_if_no_path 2> /dev/null
	wait
	remove_others
	dmsetup remove --retry far 2> /dev/null
	for name in 0 1; do nbd-client -d /dev/nbd$name > /dev/null 2>&1; done
	server_dies 2> /dev/null
	vgchange -qq -an vg 2> /dev/null
	sed -i '/ far$/d' /etc/hosts
	(exit "$rc")
	at_exit
}
trap end_network EXIT

# remove_others: all but the volumes and the disk that is far.
remove_others() {
	local name
	for name in $(dmsetup ls | awk '$1 !~ "^(No|far|vg-)" { print $1 }' | sort -r); do
		dmsetup remove --retry "$name" 2> /dev/null
	done
}

# The two devices take turns: the page's commands begin with nbd0.
echo 0 > /tmp/turn
take_turn() {
	scale=
	[ "$(cat /tmp/turn)" -eq 0 ] || scale='s/nbd0/nbdX/g; s/nbd1/nbd0/g; s/nbdX/nbd1/g'
	case $1 in
	again) echo $((1 - $(cat /tmp/turn))) > /tmp/turn ;;
	down) echo 0 > /tmp/turn ;;
	esac
}
guide() {
	take_turn "$1"
	recipe network.rst "$1"
}
# quiet <group>: the same, which is no test.
quiet() {
	take_turn "$1"
	commands network.rst "$1" > /tmp/quiet && bash -eu /tmp/quiet > /tmp/quiet.out 2>&1
}
no_server() { ! pgrep -x nbd-server; }
server_dies() { pkill -9 -x nbd-server; within 30 no_server; }
# restarted: the server ends in good order, with all its connections, and there is a new one.
restarted() { pkill -TERM -x nbd-server && within 30 no_server && serve; }
# What each connection has is a process of its own.
hang() { pkill -STOP -x nbd-server; }
go_on() { pkill -CONT -x nbd-server; }
serve() { quiet server; }
mode_is() { [ "$(ms_status home mode)" = "$1" ]; }
written() { cat /tmp/written 2> /dev/null || echo 0; }
beyond() { [ "$(written)" -gt "$1" ]; }
# stands <seconds>: no write ends in that time.
stands() {
	local was
	was=$(written)
	sleep "$1"
	[ "$(written)" = "$was" ]
}
# load <device>: writes 16 parts of 128 KiB in turn, reads them back, and notes each that is right.
load() {
	local n=0 part
	while [ ! -e /tmp/stop ]; do
		n=$((n + 1))
		part=$((n % 16 * 256))
		write_pattern "$1" $part 256 $((100 + n)) && check_pattern "$1" $part 256 $((100 + n)) || return
		echo $n > /tmp/written.new && mv /tmp/written.new /tmp/written
	done
}
start_load() {
	rm -f /tmp/stop
	echo 0 > /tmp/written
	load /dev/mapper/home > /tmp/load 2>&1 &
	job=$!
	within 60 beyond 3
}
end_load() {
	touch /tmp/stop
	ends_well "$1" $job
}
lost() { ms_status home lost; }

make_nullblk pv 256 cache_size=4
vgcreate -qq vg /dev/pv
lvcreate -qq -y -L 16M -n home vg
lvcreate -qq -y -L 64M -n store vg
lvcreate -qq -y -L 64M -n disk vg
busybox ip link set lo up
grep -q ' far$' /etc/hosts || echo 127.0.0.1 far >> /etc/hosts
modprobe -a dm-multisnapshot dm-multipath dm-round-robin
# empty <device> [<MiB>]
empty() { dd if=/dev/zero of="$1" bs=1M count="${2:-1}" oflag=direct status=none; }

# --- the origin is far ----------------------------------------------------------

guide server
guide client
is "flushes go to the server" "$(cat /sys/block/nbd0/queue/write_cache) $(cat /sys/block/nbd0/queue/fua)" "write back 1"
guide far-origin
write_pattern /dev/mapper/home 0 16384 1
is "a snapshot" "$(multisnap snapshot home)" 1
write_pattern /dev/mapper/home 8192 1024 2
start_load

at=$(written)
hang
sleep 1
ok "while the link hangs, writes wait" stands 2
go_on
ok "and go on when it is back before the timeout" within 30 beyond "$at"
is "on the same connection" "$(cat /sys/block/nbd0/size) $(dmsetup table far | awk '{ print $3 }')" "131072 multipath"

server_dies
sleep 1
ok "while the link is cut, writes wait" stands 3
is "and so does a cut" "$(multisnap snapshot home --timeout 2 > /dev/null 2>&1; echo $?)" 2
serve
rc=0
nbd-client -name disk -timeout 5 far /dev/nbd0 > /tmp/nbd 2>&1 || rc=$?
ok "there is no new connection on a device that is in use (status $rc)" test $rc -ne 0
at=$(written)
guide again
ok "the writes go on where they were" within 60 beyond "$at"
ok "the server is restarted" restarted
sleep 1
at=$(written)
ok "which cuts the link, so that writes wait" stands 3
guide again
ok "they go on with the new server" within 60 beyond "$at"
end_load "none has failed, and all were read back"
is "the mode is rw, and nothing is lost" "$(ms_status home mode) $(lost) $(ms_status home read_errors)" "rw 0 0"
is "a second snapshot" "$(multisnap snapshot home)" 2
multisnap activate home 1 > /dev/null
ok "the first is right" check_pattern /dev/mapper/home-1 0 16384 1

# The link stays away.
dmesg_mark
server_dies
guide give-up
fails_with "then reads give errors" EIO dd if=/dev/mapper/home of=/dev/null bs=4k count=1 iflag=direct
fails_with "and so do writes" EIO dd if=/dev/zero of=/dev/mapper/home bs=4k count=1 seek=1500 oflag=direct
serve
guide again
ok "until there is a link again" check_pattern /dev/mapper/home 8192 1024 2
# right_or_lost <device> <first sector> <sectors> <seed>: each chunk of 64 KiB is right, or gives EIO;
# prints how many do that.
right_or_lost() {
	python3 - "$@" <<-'END'
		import mmap, os, sys
		device = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
		first, count, seed = map(int, sys.argv[2:])
		chunk, lost = mmap.mmap(-1, 1 << 16), 0
		for at in range(first, first + count, 128):
		    try:
		        os.preadv(device, [chunk], at * 512)
		    except OSError:
		        lost += 1
		        continue
		    for sector in range(128):
		        wanted = b"%06d %08x\n" % (seed, at + sector) * 32
		        if chunk[sector * 512 : sector * 512 + 512] != wanted:
		            sys.exit(f"sector {at + sector} is wrong")
		print(lost)
	END
}
is "a snapshot has lost what was to be written, and no more" "$(right_or_lost /dev/mapper/home-1 0 16384 1)" 1
multisnap activate home 2 > /dev/null
is "and so has the other" "$(right_or_lost /dev/mapper/home-2 9216 7168 1)" 1
ok "what a failed write was to change is what it was" check_pattern /dev/mapper/home 12000 128 1
multisnap deactivate home
guide down
is "all is put down" "$(dmsetup ls | grep -vc ^vg-)" 0
server_dies

# --- the store is far -----------------------------------------------------------

empty /dev/vg/disk
serve
guide client
guide far-store
write_pattern /dev/mapper/home 0 16384 1
is "a snapshot" "$(multisnap snapshot home)" 1
start_load
server_dies
sleep 1
ok "while the link is cut, what needs the store waits" stands 3
serve
at=$(written)
guide again
ok "and goes on when it is back" within 60 beyond "$at"
ok "the server is restarted" restarted
sleep 1
at=$(written)
ok "what needs the store waits again" stands 3
guide again
ok "and goes on with the new server" within 60 beyond "$at"
end_load "no write has failed, and all were read back"
is "the mode is rw, and nothing is lost" "$(ms_status home mode) $(lost)" "rw 0"
multisnap activate home 1 > /dev/null
ok "the snapshot is right" check_pattern /dev/mapper/home-1 0 16384 1

# The link stays away: the origin goes on.
server_dies
guide give-up
ok "the origin goes on" write_pattern /dev/mapper/home 8192 512 3
ok "the mode is fail" within 30 mode_is fail
fails_with "the snapshot says EIO" EIO dd if=/dev/mapper/home-1 of=/dev/null bs=4k count=1 iflag=direct
serve
guide again
ok "with a link it is rw again by itself" within 40 mode_is rw
ok "what was written meanwhile is lost" test "$(right_or_lost /dev/mapper/home-1 8192 512 1)" -gt 0
ok "what was copied before is right" check_pattern /dev/mapper/home-1 256 768 1
ok "and nothing is wrong" right_or_lost /dev/mapper/home-1 4096 12288 1

# The same with preserve-on-error; then all is put down without the link.
multisnap deactivate home
multisnap stop home
multisnap start /dev/vg/home /dev/mapper/far --name home --preserve-on-error > /dev/null
is "a second snapshot" "$(multisnap snapshot home)" 2
multisnap activate home 2 > /dev/null
sum=$(checksum /dev/mapper/home)
server_dies
guide give-up
fails_with "a write that needs a copy fails" EIO write_pattern /dev/mapper/home 12288 128 4
fails_with "again and again" EIO write_pattern /dev/mapper/home 12288 128 4
serve
guide again
ok "until there is a link" within 40 write_pattern /dev/mapper/home 12288 128 4
is "the snapshot has lost nothing" "$(checksum /dev/mapper/home-2)" "$sum"
multisnap deactivate home
server_dies
dmsetup message far 0 fail_if_no_path
fails_with "it fails once more" EIO write_pattern /dev/mapper/home 14336 128 5
guide down
serve
guide client
ok "it is started again" multisnap start /dev/vg/home /dev/mapper/far --name home --preserve-on-error
is "and the snapshot is whole" "$(checksum "$(multisnap activate home 2)")" "$sum"
guide down
server_dies
is "the store is in order" "$(multisnap check /dev/vg/disk > /tmp/check; echo $?)" 0

# --- beside a model, under concurrent I/O, cuts and deletions -------------------

# torture_far <origin or store> <faults> <generic args>: the link of that one is cut now and then.
# With faults "none" I/O waits, and nothing may fail.
torture_far() {
	local rc=0 job origin=/dev/vg/home store=/dev/vg/store
	case $1 in origin) origin=/dev/mapper/far ;; store) store=/dev/mapper/far ;; esac
	rm -f /tmp/stop
	# The model's origin is empty, too.
	serve && quiet client && empty "$store" && empty "$origin" 8 || return
	(
		sleep 2
		cuts=0
		until [ -e /tmp/stop ] && [ $cuts -gt 0 ]; do
			server_dies
			[ "$2" = none ] || quiet give-up || exit
			sleep "$((RANDOM % 2)).$((RANDOM % 10))"
			serve && quiet again || exit
			cuts=$((cuts + 1))
			sleep "$((2 + RANDOM % 3)).$((RANDOM % 10))"
		done
		echo $cuts > /tmp/cuts
		rm /tmp/stop
	) &
	job=$!
	torture seed="${SEED:-$RANDOM}" origin=$origin store=$store sectors=16384 generic="$3" faults="$2" \
		restarts=no rounds=6 stop=/tmp/stop || rc=$?
	touch /tmp/stop
	wait $job
	rc=$((rc | $?))
	remove_others
	dmsetup remove far && nbd-client -d /dev/nbd"$(cat /tmp/turn)" > /dev/null && server_dies || rc=1
	echo 0 > /tmp/turn
	return $rc
}
for where in origin store; do
	ok "torture while the $where waits for its link" torture_far $where none 0
	ok "and while it gives errors" torture_far $where broken 0
done
ok "also with preserve-on-error" torture_far store broken "1 preserve-on-error"
all_ran network.rst
