#!/bin/bash
# Random writes to the origin and to snapshots, cuts and restarts, beside a model
# that knows what every sector must show.
. ./lib.sh
plan 4

for chunk in 8 32 256; do
	make_nullblk o 8
	make_nullblk s 128
	dmsetup create odd --table "0 $(($(sectors /dev/o) - 5)) linear /dev/o 0"
	ok "chunks of $chunk sectors agree with the model" \
		python3 model.py "${SEED:-$RANDOM}" 400 /dev/mapper/odd /dev/s $chunk
	cleanup
done
# A model that agreed with anything would prove nothing.
make_small 8 64 32
dmsetup remove ms
write_pattern /dev/o 4000 1 1
fails_with "and wrong contents do not" ENOENT bash -c '
	python3 model.py 1 40 /dev/o /dev/s 32 2>&1 | grep "wanted write 0, found write" &&
	{ echo No such file or directory; exit 1; }'
cleanup
