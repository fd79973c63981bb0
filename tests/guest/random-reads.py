# random-reads.py <device> <chunks> <count> [<seed>]: reads as many chunks of
# 4 KiB, in no order.
import mmap
import os
import random
import sys

device = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
random.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
for _ in range(int(sys.argv[3])):
    if os.preadv(device, [buffer], random.randrange(int(sys.argv[2])) * 4096) != 4096:
        sys.exit('short read')
