# nowait.py <device> <sector>: writes 4 KiB of zeroes that must not wait (EAGAIN).
import mmap
import os
import sys

device = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
try:
    os.pwritev(device, [mmap.mmap(-1, 4096)], int(sys.argv[2]) * 512, os.RWF_NOWAIT)
except OSError as error:
    sys.exit(error.strerror)
