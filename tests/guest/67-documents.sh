#!/bin/bash
# The walks of the README and the examples of other pages: their commands are taken from there and
# run, and print what the page says.
# timeout: 400
. ./lib.sh
. ./document.sh
plan 15

# --- README.md ------------------------------------------------------------------

recipe README.md dmsetup
is "it prints what the files were" "$(grep -cx one <<< "$out") $(grep -cx two <<< "$out") $(grep -cx three <<< "$out")" "1 3 1"
recipe README.md multisnap
like "a snapshot has what the file was" "$out" "one"
like "an active snapshot is not removed" "$out" "removed 1 snapshot of home"
is "all is put down" "$(dmsetup ls)" "No devices found"
rm -r /tmp/ms
all_ran README.md -
ran=()

# --- multisnapshot.rst ----------------------------------------------------------

make_nullblk o 64
make_nullblk s 64
ORIGIN=/dev/o STORE=/dev/s SIZE=$(sectors /dev/o)
export ORIGIN STORE SIZE
mkdir -p /home /mnt
mkfs.ext4 -q $ORIGIN
recipe multisnapshot.rst snapshot
is "both are mounted" "$(findmnt -no SOURCE /home) $(findmnt -no SOURCE /mnt)" "/dev/mapper/home /dev/mapper/home-1"
recipe multisnapshot.rst down
recipe multisnapshot.rst preserve
like "with that word" "$(dmsetup table home)" "1 preserve-on-error"
dmsetup remove home
recipe multisnapshot.rst read-only
is "nothing can be written" "$(ms_status home mode) $(blockdev --getro /dev/mapper/home-1)" "ro 1"
dmsetup remove home-1
dmsetup remove home
all_ran multisnapshot.rst -
cleanup
