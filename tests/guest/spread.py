# spread.py <device> <count> <step> write|nowait: writes 4 KiB at every multiple of the
# step; prints, with nowait, how many of the writes did not have to wait.
import mmap
import os
import sys

device = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
flags = os.RWF_NOWAIT if sys.argv[4] == 'nowait' else 0
done = 0
for i in range(int(sys.argv[2])):
    try:
        os.pwritev(device, [buffer], i * int(sys.argv[3]), flags)
        done += 1
    except BlockingIOError:
        pass
if flags:
    print(done)
