#!/bin/bash
# The examples in the help of each command, and in the manual page of multisnap-lvm, typed as they are.
. ./lib.sh
. ./real-lvm.sh
. ./document.sh
plan 30

scale='s/\+10G/+8M/; s/-L 10G/-L 8M/'
end_examples() {
	local rc=$?
	umount /mnt 2> /dev/null
	multisnap stop home vg-home 2> /dev/null
	vgchange -qq -an vg 2> /dev/null
	rm -rf /dev/vg /etc/multisnap
	(exit "$rc")
	at_exit
}
trap end_examples EXIT
make_nullblk pv 320
vgcreate -qq vg /dev/pv
for lv in home:32 store:32 larger:48 new:48 home-store:16; do lvcreate -qq -y -L "${lv#*:}M" -n "${lv%:*}" vg; done
cd /tmp || exit
ln -sf /payload/document.py .
mkdir -p /mnt

typed=()
# example <command> [<status> [<seconds>]]: what its help says after "Example:".
example() {
	local line rc=0
	typed+=("$1")
	line=$(multisnap help "$1" | sed -n 's/^Example: //p' | sed -E "$scale")
	out=$(timeout "${3:-60}" bash -euc "${line:-false}" 2>&1) || rc=$?
	is "$1: ${line:-it has none}" "status $rc" "status ${2:-0}"
	[ "$rc" -eq "${2:-0}" ] || diag "$out"
}

example create
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/home
mount /dev/mapper/home /mnt
echo old > /mnt/file
example snapshot
is "its id is printed" "$out" 1
echo new > /mnt/file
sync -f /mnt
umount /mnt
for id in 2 3 4 5 6 7 8 9 10 11 12; do multisnap snapshot home --name daily-$id > /dev/null; done
example list
like "it is there" "$out" "1 +before-upgrade"
# It goes on until somebody ends it.
example status 124 2
example activate
is "it is mounted" "$(cat /mnt/file)" new
umount /mnt
example deactivate
example enable
example disable
is "what is started with the machine has no snapshot any more" "$(grep -c '^snapshot' /etc/multisnap/home.conf)" 0
multisnap disable home
multisnap remove home before-upgrade > /dev/null
example rename
example remove
example prune
example grow
example stop
example start
multisnap stop home > /dev/null
for command in check dump restore repair cat map completion; do example $command; done
example under
multisnap snapshot vg-home > /dev/null
example out
is "each command's was typed" "$(printf '%s\n' "${typed[@]}" | sort)" \
	"$(multisnap --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | grep -v '^help$' | sort)"

recipe multisnap-lvm.8 words
all_ran multisnap-lvm.8
multisnap-lvm lvremove -f vg/home-msstore > /dev/null
vgremove -qq -f vg
rm -f home-3.img store.dump
cleanup
