#!/bin/bash
# The recipes of the guide for administrators (Documentation/guide.rst): their commands are taken
# from the page and run, and must do what it promises.
# timeout: 600
. ./lib.sh
. ./real-lvm.sh
. ./document.sh
plan 94

scale='s/-L 100G/-L 96M/; s/-L 20G/-L 128M/; s/-L 40G/-L 192M/; s/\+10G/+16M/'
mkdir -p /home /mnt /backup
end_guide() {
	local rc=$?
	touch /tmp/stop
	wait
	umount /mnt /home 2> /dev/null
	multisnap stop home vg-home 2> /dev/null
	vgchange -qq -an vg 2> /dev/null
	# Without udev its links are left.
	rm -rf /dev/vg /etc/multisnap /etc/cron.d/multisnap /backup
	sed -i '/^.dev.mapper.home /d; /^.dev.vg.home /d' /etc/fstab
	(exit "$rc")
	at_exit
}
trap end_guide EXIT
touch /etc/fstab
mkdir -p /etc/cron.d
make_nullblk pv 720
vgcreate -qq vg /dev/pv
cd /tmp || exit
ln -sf /payload/document.py .
guide() { recipe guide.rst "$1"; }
ids() { multisnap list home --json | jq -r '.volumes[0].snapshots | map(.id) | join(" ")'; }
mode() { ms_status home mode; }

# --- begin, and what is started with the machine --------------------------------

guide begin
is "home is mounted from its mapped device" "$(findmnt -no SOURCE /home)" /dev/mapper/home
guide first
like "there was a snapshot" "$out" "1 +before-upgrade"
guide start
is "it is mounted again, and has no snapshot" "$(findmnt -no SOURCE /home) $(ids)" "/dev/mapper/home "
guide enable
like "it is started with the machine" "$(cat /etc/multisnap/home.conf)" "origin = /dev/mapper/vg-home"
ok "and mounted by fstab" bash -c 'umount /home && mount /home'

# --- a file as it was -----------------------------------------------------------

cp /payload/*.sh /home/
echo "dear reader" > /home/letter
multisnap snapshot home > /dev/null
multisnap snapshot home --name letter > /dev/null
echo "dear writer" > /home/letter
multisnap snapshot home --name four > /dev/null
is "there are three snapshots" "$(ids)" "2 3 4"
rm /home/letter
guide file
is "the file is there again" "$(cat /home/letter)" "dear reader"
is "and no snapshot is active" "$(multisnap status --json | jq '.volumes[0].active')" 0

# --- backups ----------------------------------------------------------------------

guide backup
is "the files are in the backup" "$(tar -xOf /backup/home.tar ./letter)" "dear reader"
is "all of them" "$(tar -tf /backup/home.tar | grep -c '\.sh$')" "$(printf '%s\n' /payload/*.sh | wc -l)"
is "the snapshot is gone" "$(ids)" "2 3 4"

# --- a database -----------------------------------------------------------------

# writer <journal mode>: notes each order that the database has acknowledged.
writer() {
	local n got
	coproc DB { sqlite3 -batch /home/orders.db; }
	# shellcheck disable=SC2153
	local to=${DB[1]} from=${DB[0]}
	echo "PRAGMA journal_mode = $1; PRAGMA synchronous = FULL;
		CREATE TABLE IF NOT EXISTS orders (n INTEGER PRIMARY KEY, what TEXT);" >&"$to"
	read -r got <&"$from"
	[ "$got" = "$1" ] || return
	n=$(cat /tmp/acknowledged)
	while [ ! -e /tmp/stop ]; do
		n=$((n + 1))
		echo "INSERT INTO orders (n, what) VALUES ($n, hex(randomblob(300))); SELECT $n;" >&"$to"
		read -r got <&"$from"
		[ "$got" = $n ] || return
		echo $n > /tmp/acknowledged.new && mv /tmp/acknowledged.new /tmp/acknowledged
	done
	echo .quit >&"$to"
}
acknowledged() { cat /tmp/acknowledged; }
beyond() { [ "$(acknowledged)" -gt "$1" ]; }
echo 0 > /tmp/acknowledged
for journal in delete wal; do
	rm -f /tmp/stop
	writer $journal 2> /tmp/writer &
	job=$!
	ok "orders come in ($journal)" within 60 beyond $(($(acknowledged) + 20))
	before=$(acknowledged)
	guide database
	ok "orders came in meanwhile" within 60 beyond "$before"
	touch /tmp/stop
	ends_well "and none failed" $job
	is "the database was whole" "$(head -n 1 <<< "$out")" ok
	read -r first last count < <(sqlite3 -separator ' ' /backup/orders.db 'SELECT min(n), max(n), count(*) FROM orders')
	is "the backup has all from the first on" "$first $count" "1 $last"
	ok "up to what was acknowledged before the cut ($last of $before)" test "$last" -ge "$before"
	is "the snapshot is gone" "$(ids)" "2 3 4"
done

# --- a clone that is written ----------------------------------------------------

orders() { sqlite3 "$1/orders.db" 'SELECT count(*) FROM orders'; }
has_vat() { sqlite3 "$1/orders.db" 'SELECT count(*) FROM pragma_table_info("orders") WHERE name = "vat"'; }
count=$(orders /home)
guide try
is "the clone is changed" "$(has_vat /mnt)" 1
is "the origin is not" "$(has_vat /home)" 0
guide step
is "at the step there is all, and what came after it is not" \
	"$(orders /mnt) $(sqlite3 /mnt/orders.db 'SELECT count(*) FROM orders WHERE vat = 19')" "$count $count"
guide away
is "both are gone" "$(ids)" "2 3 4"
is "the origin has what it had" "$(orders /home) $(has_vat /home)" "$count 0"

# --- back to a snapshot ---------------------------------------------------------

echo wrong > /home/letter
guide back
is "home is what it was" "$(cat /home/letter)" "dear reader"
ok "and the database of then was none" test ! -e /home/orders.db
mount "$(multisnap activate home before-rollback)" /mnt
is "what was there before is a snapshot" "$(cat /mnt/letter) $(orders /mnt)" "wrong $count"
umount /mnt
multisnap deactivate home before-rollback

# --- rolling snapshots ----------------------------------------------------------

guide rolling
# cron <part of the line>: what cron would run, with what it has of an environment.
cron() {
	local file=/etc/cron.d/multisnap
	env -i "$(grep ^PATH= $file)" sh -c "$(sed -n "s/^$1 \* \* \* \* root //p" $file)"
}
now=$(date +%s)
at() { date -s "@$1" > /tmp/date; }
# Many in one suspension: the clock goes on in between.
dmsetup suspend home
for day in $(seq 36 -1 2); do
	at $((now - day * 86400))
	message home create > /tmp/id
done
for hour in $(seq 40 -1 1); do
	at $((now - hour * 3600))
	message home create > /tmp/id
done
for minutes in $(seq 145 -5 5); do
	at $((now - minutes * 60))
	message home create > /tmp/id
done
dmsetup resume home
at "$now"
is "each five minutes there is one more, and no mail" "$(cron '\*\/5' 2>&1; ids | wc -w)" 109
is "which is the newest" "$(ids | awk '{ print $NF }')" "$(awk '{ print $1 + 1 }' /tmp/id)"
multisnap list home --json > /tmp/list
wanted=$(jq -r '.volumes[0].snapshots[] | "\(.id) \(.time) \(.name // "-")"' /tmp/list | perl -e '
	my (%keep, @unnamed);
	for (<STDIN>) { my ($id, $time, $name) = split; $name eq "-" ? push @unnamed, [$id, $time] : $keep{$id}++ }
	@unnamed = sort { $b->[0] <=> $a->[0] } @unnamed;
	$keep{$_->[0]}++ for @unnamed[0 .. 23];
	for my $rule ([3600, 48], [86400, 31]) {
		my %seen;
		for (@unnamed) {
			my $slot = int($_->[1] / $rule->[0]);
			next if $seen{$slot} || keys %seen >= $rule->[1];
			$seen{$slot} = 1;
			$keep{$_->[0]}++;
		}
	}
	print join " ", sort { $a <=> $b } keys %keep')
is "nor is there one of those that go" "$(cron 7 2>&1)" ""
is "each hour those go that no rule keeps" "$(ids)" "$wanted"
ok "and these are many ($(wc -w <<< "$wanted") are left)" test "$(wc -w <<< "$wanted")" -lt 100

# --- a full store ---------------------------------------------------------------

guide warning
like "it warns when less than a tenth is free" "$(dmsetup table home)" "low-water"
# With what the plain device holds then.
dmsetup suspend home
hurt=$(multisnap snapshot home)
dd if=/dev/vg/home of=/tmp/as-cut bs=1M conv=sparse iflag=direct status=none
dmsetup resume home
dmesg_mark
dd if=/dev/urandom of=/home/filler bs=1M count=60 conv=fsync status=none
is "the origin goes on when the store is full" "$(stat -c %s /home/filler) $(mode)" "62914560 full"
like "there was a warning" "$(our_lines)" "fewer than [0-9]+: grow it"
old=$(ids | wc -w)
guide full
ok "old snapshots have gone" test "$(ids | wc -w)" -lt "$old"
like "something was lost" "$out" "lost +[0-9]+ record"
dd if=/dev/urandom of=/home/filler2 bs=1M count=4 conv=fsync status=none
is "with room the mode is rw again" "$(mode)" rw
# The page looks at snapshot 4; going back has copied all of that.
scale+="; s/store 4 --live/store $hurt --live/"
guide lost
device=$(multisnap activate home "$hurt" --read-only)
# Each chunk of 16 KiB is what it was, or gives an error; and the page says which.
is "what is not lost is right" "$(python3 - "$device" /tmp/as-cut "$out" <<'END'
import mmap, os, sys
# Past the page cache, which reads more than it is asked for, and gives an error for all of it.
device, wanted = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), os.open(sys.argv[2], os.O_RDONLY)
lost, wrong, size = set(), set(), 1 << 14
here = mmap.mmap(-1, size)
chunks = os.fstat(wanted).st_size // size
for chunk in range(chunks):
    try:
        os.preadv(device, [here], chunk * size)
        if here[:] != os.pread(wanted, size, chunk * size):
            wrong.add(chunk)
    except OSError:
        lost.add(chunk)
told = set()
for line in sys.argv[3].splitlines():
    if "lost" in line:
        first, _, last = line.split()[0].partition("-")
        told |= set(range(int(first), int(last or first) + 1))
print(len(wrong), "wrong;", "as told" if told == lost and lost else f"{len(lost)} lost, {len(told)} told")
END
)" "0 wrong; as told"
multisnap deactivate home "$hurt"
is "a new snapshot is whole" "$(id=$(multisnap snapshot home) &&
	dd if=/dev/urandom of=/home/filler2 bs=1M count=4 conv=notrunc,fsync status=none &&
	multisnap map /dev/vg/store "$id" --live | grep -c lost)" 0
guide preserve
in_file() { dmsetup table home | grep -c 'low-water .*preserve-on-error\|preserve-on-error .*low-water'; multisnap enable home > /dev/null && grep -cE '^(low-water|preserve-on-error) = ' /etc/multisnap/home.conf; }
is "that is so now, and at the next start of the machine" "$(in_file | xargs)" "1 2"
umount /home
id=$(multisnap snapshot home)
sum=$(checksum /dev/vg/home)
# The same again: the content stays, the copies are made.
again() { dd if=/dev/mapper/home of=/dev/mapper/home bs=64k iflag=direct oflag=direct status=none; }
fails_with "writes fail rather than snapshots" ENOSPC again
is "what was not written is what it was" "$(checksum /dev/vg/home)" "$sum"
is "and the snapshot is whole" "$(checksum "$(multisnap activate home "$id")")" "$sum"
multisnap deactivate home "$id"
mount /home

# --- without the module ---------------------------------------------------------

listed() { multisnap dump "$1" | jq -r 'select(.snapshot).snapshot | "\(.id) \(.name)"'; }
guide check
guide cat
is "a file is read from a snapshot" "$(cat letter)" "dear reader"
rm letter home-3.img
guide larger
is "the larger store has the same snapshots" "$(listed /dev/vg/larger)" "$(listed /dev/vg/store)"
guide repair
is "and so has what was saved" "$(listed /dev/vg/repaired)" "$(listed /dev/vg/store)"
guide instead
is "it is started as before" "$(in_file | xargs)" "1 2"
is "its snapshots are right" "$(checksum "$(multisnap activate home "$id")")" "$sum"
is "it is the larger one" "$(sectors /dev/vg/store)" $((192 << 11))
multisnap deactivate home "$id"

# --- off ------------------------------------------------------------------------

# The page saves snapshot 3; it has lost what the full store had no room for.
scale+="; s/store 3 --origin/store $id --origin/"
echo last > /home/letter
guide off
is "home is the plain device" "$(findmnt -no SOURCE /home)" /dev/mapper/vg-home
is "with the content that it had" "$(cat /home/letter)" last
is "the snapshot was written out" "$(cksum < /backup/home-3.img)" "$sum"
is "nothing is left of multisnapshot" "$(dmsetup table | grep -c multisnap; ls /etc/multisnap; lvs --noheadings -o name vg/store 2> /dev/null)" 0
all_ran guide.rst

# --- lvm.rst --------------------------------------------------------------------

scale='s/-L 10G/-L 32M/; s/\+10G/+16M/'
ran=()
recipe lvm.rst lvm
is "a volume is under, and its snapshot mounted" "$(findmnt -no SOURCE /mnt) $(cat /mnt/letter)" "/dev/mapper/vg-before last"
echo later > /home/letter
umount /mnt
recipe lvm.rst resize
is "the volume is larger, and under again" "$(dmsetup table vg-home | awk '{ print $2, $3 }')" "$((112 << 11)) multisnapshot"
is "its snapshot has lost nothing" "$(dd if="$(multisnap activate vg-home before)" bs=1M status=none | wc -c; ms_status vg-home lost)" $'100663296\n0'
mount -o ro,noload /dev/mapper/vg-home-1 /mnt
is "and has what was then" "$(cat /mnt/letter) $(cat /home/letter)" "last later"
umount /mnt /home
multisnap deactivate vg-home
multisnap-lvm lvremove -f vg/home-msstore > /dev/null
mount /dev/vg/home /home
# 73-lvm-whole.sh runs the other one.
all_ran lvm.rst pvmove -

# --- the manual page, without the command ---------------------------------------

umount /home
lvcreate -qq -y -L 48M -n store vg
recipe multisnapshot.7 dmsetup
is "the status is as it says" "$(ms_status home mode) $(ms_status home ids)" "rw 1"
ok "the snapshot is what the origin is" cmp /dev/mapper/home-1 /dev/vg/home
dmsetup remove home-1
dmsetup remove home
