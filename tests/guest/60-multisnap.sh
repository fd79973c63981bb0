#!/bin/bash
# The command multisnap with the module: all that it does to loaded origins, what it prints, and
# how it fails.
# timeout: 480
. ./lib.sh
plan 145

. ./multisnap.sh
# field <jq filter> <word>...: of what is printed with --json.
field() { multisnap "${@:2}" --json | jq -r "$1"; }
# suspended <device>
suspended() { [ "$(dmsetup info -c --noheadings -o suspended "$1")" = "$2" ]; }
mkdir -p /mnt/a /mnt/b

# --- before anything is there -------------------------------------------------

as=(setpriv --reuid=65534 --clear-groups)
refused "somebody else is told to be root" "needs root" list
as=()
prints "nothing is started" "nothing is started: multisnap start ORIGIN STORE" status
prints "and so none is listed" "nothing is started: multisnap start ORIGIN STORE" list
prints "nor told as an object" '{"volumes":[]}' list --json
refused "a volume that is not there" "home is not started.*multisnap start" list home

# --- create -------------------------------------------------------------------

make_nullblk o 128 blocksize=4096
make_nullblk s 128 blocksize=4096
make_nullblk tiny 1
dmsetup create bit --table "0 512 linear /dev/tiny 0"
refused "no such device" "/dev/nothing is no block device" create /dev/nothing /dev/s
refused "a file is no device" "/tmp/err is no block device.*losetup" create /dev/o /tmp/err
refused "a store on its own origin" "/dev/o is the origin itself" create /dev/o /dev/o
refused "a chunk of 12K" "chunk-size 12 KiB is no size.*--chunk-size 16K" create /dev/o /dev/s --chunk-size 12K
refused "a store of 256 KiB" "/dev/mapper/bit is too small" create /dev/o /dev/mapper/bit
dmsetup remove bit
ms create /dev/o /dev/s --store apple
is "no such type of store" "$rc" 2
mkfs.ext4 -q /dev/s
before=$(checksum /dev/s)
refused "a file system is not overwritten" "/dev/s holds an ext2, ext3 or ext4 file system; .*wipefs -a /dev/s" \
	create /dev/o /dev/s
mount -o ro,noload /dev/s /mnt/b
refused "one that is mounted even less" "/dev/s is mounted at /mnt/b; .*umount /mnt/b" create /dev/o /dev/s
umount /mnt/b
is "it is as it was" "$(checksum /dev/s)" "$before"
dd if=/dev/zero of=/dev/s bs=1M count=4 oflag=direct status=none
echo something | dd of=/dev/s bs=4k seek=5 conv=notrunc status=none
sync
refused "what is not known is not overwritten either" "holds something that is not known" create /dev/o /dev/s
printf 'ReIsEr4' | dd of=/dev/s bs=1 seek=64K conv=notrunc status=none
sync
refused "nor what blkid knows" "/dev/s holds what blkid names reiser4; .*wipefs -a /dev/s" create /dev/o /dev/s
dd if=/dev/zero of=/dev/s bs=1M count=4 oflag=direct status=none
# What blkid has not looked at is not empty.
blkid=$(command -v blkid)
mv "$blkid" /tmp/blkid
refused "without blkid nothing is overwritten" \
	"/dev/s may hold what only blkid knows, and blkid cannot be run: no such file.*util-linux.*: blkid -p /dev/s" create /dev/o /dev/s
printf '#!/bin/sh\nkill -KILL $$\n' > "$blkid"
chmod +x "$blkid"
refused "nor if it is killed" "and blkid was killed by signal 9; .*blkid -p /dev/s" create /dev/o /dev/s
printf '#!/bin/sh\necho "error: it is broken" >&2\nexit 2\n' > "$blkid"
dmsetup create whole --table "0 $(sectors /dev/o) linear /dev/o 0"
refused "nor if it fails" "/dev/s may hold .* blkid ended with status 2: error: it is broken; " under /dev/mapper/whole /dev/s --create
dmsetup remove whole
mv /tmp/blkid "$blkid"
# A store that has lost its first block is not empty.
works "a store with a snapshot" create /dev/o /dev/s --name gone
works "is made" snapshot gone
works "and stopped" stop gone
dd if=/dev/zero of=/dev/s bs=4k count=1 oflag=direct status=none
refused_with 1 "without its first block it is not started" "/dev/s is damaged: superblock, block 0; .*check /dev/s" start /dev/o /dev/s
ms repair /dev/s /tmp/new
is "it is saved by the copy" "$rc" 0
rm /tmp/new
dd if=/dev/zero of=/dev/s bs=4k seek=28 count=1 oflag=direct status=none
refused_with 1 "and without that not without a dump" "superblock, block 0: .*multisnap restore DUMP /tmp/new --data /dev/s" repair /dev/s /tmp/new
before=$(checksum /dev/s)
refused "nor overwritten" "/dev/s holds what is left of a store.*multisnap restore DUMP OUT --data /dev/s; or, .*wipefs" \
	create /dev/o /dev/s
is "it is as it was" "$(checksum /dev/s)" "$before"
dd if=/dev/zero of=/dev/s bs=128k count=1 oflag=direct status=none
refused "an empty store cannot be started" "/dev/s is empty; .*multisnap create /dev/o /dev/s" start /dev/o /dev/s
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/o
mount /dev/o /mnt/a
refused "an origin that is mounted" "/dev/o is mounted at /mnt/a; .*umount /mnt/a" create /dev/o /dev/s
umount /mnt/a
refused "a name with a slash" "a/b can be no name" create /dev/o /dev/s --name a/b
is "none of these has made a store" "$(is_zero /dev/s 0 256 && echo zero)" zero

prints "a store is made and its origin started" "home is started: use /dev/mapper/home from now on" \
	create /dev/o /dev/s --name home --chunk-size 16K --preserve-on-error --low-water 10%
ok "there is a device" test -b /dev/mapper/home
like "with the table that was asked for" "$(dmsetup table home)" \
	"^0 $(sectors /dev/o) multisnapshot [0-9:]+ [0-9:]+ 32 3 preserve-on-error low-water [0-9]{3} btree 0$"
uuid=$(dmsetup info -c --noheadings -o uuid home)
like "and a uuid" "$uuid" "^MSNAP-[0-9a-f]{32}$"
is "the module takes it for clean" "$(ms_status home mode)" rw
refused "it cannot be started twice" "/dev/o is started as home.*multisnap status home" start /dev/o /dev/s
refused "nor its store with another origin" "is started as home" start /dev/tiny /dev/s
refused "a store as an origin" "/dev/s holds a store of snapshots; say the origin first" create /dev/s /dev/tiny

# --- snapshots of a file system that is written -------------------------------

mount /dev/mapper/home /mnt/a
writer() { # until /tmp/stop is there
	local n=0
	while [ ! -e /tmp/stop ]; do
		n=$((n + 1))
		mkdir -p /mnt/a/w && echo "$n" > "/mnt/a/w/f$((n % 50))" && echo "$n" >> /mnt/a/w/log || return
		[ $((n % 20)) -ne 0 ] || sync -f /mnt/a || return
	done
}
# frozen <device>: the file system was at rest when the snapshot was cut.
frozen() { ! dumpe2fs -h "$1" 2> /dev/null | grep -q needs_recovery && e2fsck -fn "$1"; }
cp -r /payload/*.sh /mnt/a/
sum() { (cd "$1" && cat ./*.sh | cksum); }
first=$(sum /mnt/a)
rm -f /tmp/stop
writer &
job=$!
prints "a snapshot while files are written" 1 snapshot home
rm /mnt/a/1*.sh
prints "one with a name" 2 snapshot home --name before-upgrade
prints "one as an object" '{"volume":"home","id":"3","name":"third"}' snapshot /dev/mapper/home --name third --json
prints "one that freezes nothing" 4 snapshot /dev/o --no-freeze --name crash
touch /tmp/stop
ends_well "no write failed" $job
is "nothing is left over" "$(dmsetup info -c --noheadings -o suspended,tables_loaded home)" "Active:Live"
refused "a name that is taken" "home has snapshot 2 with the name before-upgrade" snapshot home --name before-upgrade
ms snapshot home --name 3-7
like "a name that reads like an id is not taken" "$rc $err" "^2 .*reads like an id"
refused "a snapshot of one that is not there" "has no snapshot 9.*multisnap list home" snapshot home --of 9

prints "it gets a device" /dev/mapper/home-1 activate home 1
ok "which is one" test -b /dev/mapper/home-1
is "and has a uuid of its own" "$(dmsetup info -c --noheadings -o uuid home-1)" "$uuid-1"
ok "the file system was frozen" frozen /dev/mapper/home-1
mount /dev/mapper/home-1 /mnt/b
is "its files are what they were" "$(sum /mnt/b)" "$first"
refused "it cannot have two" "home has snapshot 1 as /dev/mapper/home-1 already" activate home 1
prints "by name, read-only, under another name" '{"volume":"home","id":"2","device":"/dev/mapper/old","read_only":true}' \
	activate home before-upgrade --read-only --device old --json
is "it is read-only" "$(blockdev --getro /dev/mapper/old)" 1
prints "several at once" "/dev/mapper/home-3"$'\n'"/dev/mapper/home-4" activate home 3-4
ok "the third was frozen" frozen /dev/mapper/home-3
like "the fourth was not" "$(dumpe2fs -h /dev/mapper/home-4 2> /dev/null)" needs_recovery
refused "no such snapshot" "home has no snapshot 7" activate home 7
refused "no such name" "home has no snapshot 'x'|home has no snapshot x" activate home x
refused "one name for two" "cannot give one name" activate home 1 2 --device y

# A snapshot of a snapshot, whose file system is frozen as well.
echo sub > /mnt/b/sub
prints "a snapshot of a snapshot" 1.0 snapshot home --of 1 --name clone
echo later > /mnt/b/sub
is "the parent goes on" "$(dmsetup info -c --noheadings -o suspended home-1)" Active
works "it gets a device, too" activate home clone
ok "its file system was frozen" frozen /dev/mapper/home-1.0
ok "and holds what was there" bash -c 'mkdir -p /mnt/c && mount -o ro /dev/mapper/home-1.0 /mnt/c && grep -q sub /mnt/c/sub'
umount /mnt/c
refused "it can have none itself" "snapshot 1.0, but that is one of 1" snapshot home --of 1.0
refused "a snapshot's device is not its origin" "home-1 is a snapshot; say home and the id 1" list home-1

# --- its store is in use --------------------------------------------------------

for words in check dump "map 1" "cat 1 --origin /dev/o" "repair /tmp/new"; do
	read -r word rest <<< "$words"
	# shellcheck disable=SC2086
	refused "$word needs it alone" "/dev/s is in use; stop its origin .multisnap stop /dev/s.*--live" "$word" /dev/s $rest
done
# What is written meanwhile may not fit together.
looks() { ms check /dev/s --live; [ "$rc" -eq 0 ] || [ "$rc" -eq 3 ]; }
ok "but can look at it" within 20 looks

# --- list, status, rename -----------------------------------------------------

ms list
like "the list has the origin" "$out" "^home  128 MiB  origin /dev/o  store /dev/s \(btree, chunks of 16 KiB\)"
like "a line for each snapshot" "$out" "3 +third +20[0-9-]+ [0-9:]+ +128 MiB .*/dev/mapper/home-3"
like "and a tree" "$out" "└─1\.0 +clone"
is "as an object" "$(field '.volumes[0].snapshots | map(.id) | join(" ")' list home)" "1 1.0 2 3 4"
is "with devices and parents" "$(field '.volumes[0].snapshots[1] | .device + " " + .parent' list home)" "/dev/mapper/home-1.0 1"
now=$(date +%s)
made=$(field '.volumes[0].snapshots[0].time' list home)
ok "and the time" test $((now - made)) -ge 0 -a $((now - made)) -le 300
works "a snapshot is renamed" rename home third 3rd
is "and listed so" "$(field '.volumes[0].snapshots[] | select(.id == "3").name' list home)" 3rd
refused "not to a name that is taken" "has snapshot 2 with the name before-upgrade" rename home 3 before-upgrade
refused "not one that is not there" "has no snapshot 8" rename home 8 eight
ms rename home 3 'a b'
like "not to one with blanks" "$rc $err" "^2 .*letters"
message home name 4 3rd
refused "a name that two have" "several snapshots with the name 3rd; say one of the ids 3, 4" rename home 3rd x
works "an id will do" rename home 4 crash

ms status home
like "status in words" "$out" "mode +rw.*used +[0-9.]+ %.*snapshots +5, 5 active: [0-9.,-]+"
is "and as an object" "$(field '.volumes[0] | "\(.mode) \(.snapshots) \(.active) \(.chunk_sectors) \(.lost)"' status)" "rw 5 5 32 0"
ok "which python reads, too" python3 -c 'import json, subprocess
out = subprocess.check_output(["multisnap", "status", "--json"])
volume = json.loads(out)["volumes"][0]
assert volume["used_chunks"] > 0 and volume["uuid"].startswith("MSNAP-"), volume'
ms status --openmetrics
like "for a monitor" "$out" "multisnap_snapshots\{volume=\"home\"\} 5"
is "to its end" "$(tail -n 1 <<< "$out")" "# EOF"
lines=$(timeout 3.5 multisnap status home --json --watch 1 | jq -r .volumes[0].mode | wc -l)
ok "again and again ($lines)" test "$lines" -ge 2

# --- deactivate, remove -------------------------------------------------------

refused "a snapshot that is mounted" "/dev/mapper/home-1 is mounted at /mnt/b; .*umount /mnt/b" deactivate home 1
umount /mnt/b
refused "one that is active is not removed" "home has snapshot 3 in use as home-3; none was removed.*multisnap deactivate home 3" remove home 3
works "it is deactivated" deactivate home 3
ok "its node is gone" test ! -e /dev/mapper/home-3
refused "once only" "snapshot 3, but it is not active" deactivate home 3
works "by its device" deactivate home old
works "and all others" deactivate home
is "none is active" "$(field '.volumes[0].active' status)" 0
is "no device is left" "$(dmsetup ls | awk '{ print $1 }')" home

prints "a snapshot is removed" "removed 1 snapshot of home" remove home crash
is "and gone" "$(field '.volumes[0].snapshots | map(.id) | join(" ")' list home)" "1 1.0 2 3"
is "and so is the sweep" "$(ms_status home sweep)" -
refused "it cannot be removed again" "has no snapshot 4" remove home 4
refused "nothing is like this" "has no snapshot x\\*" remove home 'x*'
for name in a-1 a-2 b-1; do multisnap snapshot home --name $name > /tmp/ids; done
ms remove home 'a-*' --dry-run
like "what would be removed" "$rc $out" "^0 would remove 5 a-1 20.*would remove 6 a-2"
is "is not" "$(ms_status home snapshots)" 7
prints "by pattern" '{"volume":"home","dry_run":false,"removed":["5","6"]}' remove home 'a-*' --json
prints "by range, and without waiting" "removed 3 snapshots of home" remove home 1-3 --no-wait
prints "nothing is that old" "removed 0 snapshots of home" remove home --older-than 1d
ms remove home --older-than 1y
like "no such span" "$rc $err" "^2 .*span of time"
ms remove home
is "nothing is named" "$rc" 2

# --- prune, with a clock that is set ------------------------------------------

start=$(date +%s)
base=$(date -u -d 2026-11-02T00:10:00 +%s)
for hour in 0 1 2 3 24 25 26 48 49; do
	date -s "@$((base + hour * 3600))" > /tmp/date
	multisnap snapshot home > /tmp/ids
done
ms prune home --keep-last 2 --keep-daily 3 --keep-hourly 2 --dry-run
is "what would be kept" "$(grep -c '^keep' <<< "$out") $(grep -c '^would' <<< "$out")" "4 5"
like "and why" "$out" "keep \(last, hourly, daily\) 16 - 2026-11-04 01:10:00"
is "as an object" "$(field '.removed | join(" ")' prune home --keep-last 2 --keep-daily 3 --dry-run)" "8 9 10 12 13"
works "one is in use" activate home 8
prints "the rest is pruned" "removed 4 snapshots of home" prune home --keep-last 2 --keep-daily 3
is "those with a name stay, and what is in use" "$(field '.volumes[0].snapshots | map(.id) | join(" ")' list home)" \
	"1.0 7 8 11 14 15 16"
ms prune home
is "without a rule nothing is pruned" "$rc $(ms_status home snapshots)" "2 7"
date -s "@$start" > /tmp/date
works "it is not in use any more" deactivate home

# --- what others have begun ---------------------------------------------------

message home create > /tmp/ids
refused "a create that waits is in the way" "create is pending.*multisnap snapshot home --cancel" snapshot home
works "it can be dropped" snapshot home --cancel
refused "once" "has no snapshot that waits" snapshot home --cancel
dmsetup reload home --table "$(dmsetup table home)"
refused "another table is not made live" "has another table loaded.*multisnap snapshot home --cancel" snapshot home
refused "nor is another loaded in its place" "has another table loaded.*multisnap snapshot home --cancel" grow home
works "until it is dropped" snapshot home --cancel
dmsetup suspend home
ms snapshot home
is "a suspended origin is cut at once" "$rc $(dmsetup info -c --noheadings -o suspended home)" "0 Suspended"
dmsetup resume home

# --- stop and start -----------------------------------------------------------

refused "an origin that is mounted is not stopped" "/dev/mapper/home is mounted at /mnt/a; .*umount /mnt/a" stop home
umount /mnt/a
multisnap activate home 7 > /tmp/ids
prints "it is stopped, with its snapshots" "home is stopped, and so is one of its snapshots" stop home
is "no device is left" "$(dmsetup ls; ls /dev/mapper)" "No devices found"$'\n'control
prints "and started again" '{"volume":"ms-o","device":"/dev/mapper/ms-o","uuid":"'"$uuid"'","sectors":262144,"store_type":"btree","chunk_sectors":32}' \
	start /dev/o /dev/s --json
is "with its snapshots" "$(field '.volumes[0].snapshots | map(.id) | join(" ")' list)" "1.0 7 8 11 14 15 16 17"
works "it is stopped by its store" stop /dev/s
refused "another origin is refused" "/dev/tiny has 2048 sectors, but the origin of /dev/s has 262144" start /dev/tiny /dev/s
works "it is started read-only" start /dev/o /dev/s --name home --read-only
refused "then there are no snapshots" "home was started read-only; .*multisnap stop home" snapshot home
refused "nor removals" "home was started read-only" remove home 7
refused "a device must be read-only, too" "say --read-only" activate home 7
prints "then it is made" /dev/mapper/home-7 activate home 7 --read-only
works "all is stopped" stop home
refused "a store is not made twice" "/dev/s holds a store of snapshots; start it: multisnap start" create /dev/o /dev/s
ok "and is sound" multisnap check /dev/s
cleanup
