#!/bin/bash
# Random writes, cuts and restarts beside the model, with the bitmask store.
. ./lib.sh
plan 1

make_nullblk o 8
make_nullblk s 128
dmsetup create odd --table "0 $(($(sectors /dev/o) - 5)) linear /dev/o 0"
ok "the bitmask store agrees with the model" env STORE_TYPE=bitmask \
	python3 model.py "${SEED:-$RANDOM}" 400 /dev/mapper/odd /dev/s 16
cleanup
