#!/bin/bash
# The demonstration, small: files, rounds of changes, snapshots compared, a restart.
# cpus: 2
. ./lib.sh
plan 2

make_nullblk o 128 blocksize=4096
make_nullblk s 128 blocksize=4096
export ORIGIN=/dev/o STORE=/dev/s MEGABYTES=24 FIO_SIZE=4m
ok "files, five rounds of changes, five snapshots" bash ./demo first /tmp/notes
ok "all of it after a restart" bash ./demo again /tmp/notes
cleanup
