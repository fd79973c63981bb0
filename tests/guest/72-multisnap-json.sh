#!/bin/bash
# What multisnap prints with --json, as multisnap.rst has it ("Objects"), compared with what was done.
# list and status are in 60, and what needs no module is in tools/multisnap/tests.
. ./lib.sh
. ./multisnap.sh
plan 36

# told <what> <objects as a jq program> <word>...: those are printed, one a line, and nothing else.
told() {
	ms "${@:3}" --json
	fields
	is "$1" "$rc $err$(jq -cS . <<< "$out")" "0 $(jq -ncS "$2")"
}
# fields: remembers what was printed.
fields() { printf '%s\n' "$out" >> /tmp/objects; }
ids() { multisnap list "$1" --json | jq -r '.volumes[0].snapshots | map(.id) | join(" ")'; }
devices() { dmsetup ls | cut -f 1 | sort | tr '\n' ' '; }
table_of() { dmsetup table "$1" | cut -d ' ' -f 3; }

make_nullblk o 64
make_nullblk s 64
make_nullblk s2 64
# A link that udev would make.
mkdir -p /dev/disk/by-id
ln -s ../../s /dev/disk/by-id/disk-s
dmsetup create lv --table "0 65536 linear /dev/o 65536"
dmsetup create plain --table "0 65536 linear /dev/o 0"

# --- origins ------------------------------------------------------------------------

ms create /dev/mapper/plain /dev/s --no-start --chunk-size 8K --json
uuid=$(dd if=/dev/s bs=8 skip=1 count=2 iflag=fullblock status=none | xxd -p)
is "create --no-start" "$rc $err$(jq -cS . <<< "$out")" "0 $(jq -ncS '{store: "/dev/s", uuid: "'"$uuid"'",
	origin_sectors: 65536, chunk_sectors: 16, store_type: "btree"}')"
is "and nothing is started" "$(devices)" "lv plain "
told "start" '{volume: "home", device: "/dev/mapper/home", uuid: "MSNAP-'"$uuid"'", sectors: 65536,
	store_type: "btree", chunk_sectors: 16}' start /dev/mapper/plain /dev/s --name home
is "and it is as that says" "$(dmsetup info -c --noheadings -o uuid home) $(sectors /dev/mapper/home) $(table_of home)" \
	"MSNAP-$uuid 65536 multisnapshot"
ms under /dev/mapper/lv /dev/s2 --create --store bitmask --json
is "under" "$rc $err$(jq -cS . <<< "$out")" "0 $(jq -ncS '{volume: "lv", device: "/dev/mapper/lv",
	uuid: "MSNAP-'"$(dd if=/dev/s2 bs=8 skip=1 count=2 iflag=fullblock status=none | xxd -p)"'", sectors: 65536, store_type: "bitmask", chunk_sectors: 32}')"
is "and it is" "$(table_of lv) $(devices)" "multisnapshot home lv lv-msorigin plain "

# --- snapshots ----------------------------------------------------------------------

told "snapshot" '{volume: "home", id: "1"}' snapshot home
told "with a name" '{volume: "home", id: "2", name: "two"}' snapshot home --name two
told "of another" '{volume: "home", id: "2.0"}' snapshot home --of two
is "they are there" "$(ids home)" "1 2 2.0"
told "rename" '{volume: "home", id: "1", name: "one"}' rename home 1 one
is "and it has the name" "$(multisnap list home --json | jq -r '.volumes[0].snapshots[0].name')" one
told "activate" '{volume: "home", id: "1", device: "/dev/mapper/home-1", read_only: true},
	{volume: "home", id: "2", device: "/dev/mapper/home-2", read_only: true}' activate home 1 two --read-only
is "and they are" "$(dmsetup ls --target multisnap-snap | cut -f 1 | sort | tr '\n' ' ')$(blockdev --getro /dev/mapper/home-2)" \
	"home-1 home-2 1"
told "deactivate" '{volume: "home", id: "1"}, {volume: "home", id: "2"}' deactivate home
is "and they are not" "$(dmsetup ls --target multisnap-snap)" ""

# --- with the machine -----------------------------------------------------------------

told "enable" '{volume: "home", file: "/etc/multisnap/home.conf"}' enable home one 2
is "and they are in the file" "$(grep ^snapshot /etc/multisnap/home.conf)" $'snapshot = one\nsnapshot = 2'
told "disable of a snapshot" '{volume: "home", snapshots: ["2"]}' disable home 2
is "and it is not" "$(grep ^snapshot /etc/multisnap/home.conf)" "snapshot = one"
told "disable" '{volume: "home", snapshots: []}' disable home
ok "and there is no file" test ! -e /etc/multisnap/home.conf

# --- looked at ------------------------------------------------------------------------

for words in "list home" "list --no-space" "status home" "grow home" "prune home --keep-last 9 --dry-run" \
	"check /dev/s --live" "map /dev/s 1 --live"; do
	# shellcheck disable=SC2086
	ms $words --json
	fields
done

# --- removed --------------------------------------------------------------------------

for _ in 3 4 5; do multisnap snapshot home > /dev/null; done
told "prune" '{volume: "home", dry_run: false, removed: ["3", "4"]}' prune home --keep-last 1
is "and they are gone" "$(ids home)" "1 2 2.0 5"
told "remove" '{volume: "home", dry_run: false, removed: ["2.0", "2"]}' remove home two 2.0
is "and so are they" "$(ids home)" "1 5"

# --- the end --------------------------------------------------------------------------

multisnap snapshot lv > /dev/null
dmsetup reload lv --table "$(dmsetup table lv)"
refused "another table is in the way" "lv has another table loaded.*multisnap snapshot lv --cancel" out lv --lose-snapshots
multisnap snapshot lv --cancel
told "out" '{volume: "lv", snapshots: 1}' out lv --lose-snapshots
is "and it has its own table" "$(table_of lv) $(devices)" "linear home lv plain "
multisnap start /dev/mapper/lv /dev/s2 --name second > /dev/null
multisnap activate home 1 5 > /dev/null
# One of several that is in use is no reason to leave the others.
exec 7< /dev/mapper/second
ms stop second nothing home --json
exec 7<&-
is "stop, where some cannot be" "$rc $(jq -cS . <<< "$out")" '2 {"deactivated":["home-1","home-5"],"volume":"home"}'
is "which are named" "$(cut -d " " -f 2-4 <<< "$err")" \
	$'/dev/mapper/second is in\nnothing is no'
is "and the others are stopped" "$(devices)" "lv plain second "
told "stop" '{volume: "second", deactivated: []}' stop second
is "and it is" "$(devices)" "lv plain "
jq -r '.. | objects | keys[]' /tmp/objects | sort -u > /tmp/fields
sed -n '/^Objects$/,$p' /payload/documents/multisnap.rst > /tmp/section
is "the guide names each field" "$(while read -r field; do
	grep -qF "\`\`$field\`\`" /tmp/section || echo "$field"
done < /tmp/fields)" ""
rm -r /dev/disk/by-id
ok "of which there were many" test "$(wc -l < /tmp/fields)" -ge 60
cleanup
