# losses.py <device> <chunk sectors> <seed>: prints the numbers of the chunks that give EIO.  All
# others must show that pattern (see lib.sh).
import errno
import mmap
import os
import sys

name, sectors, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
device = os.open(name, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, sectors * 512)
lost = []
for chunk in range(os.lseek(device, 0, os.SEEK_END) // len(buffer)):
    try:
        if os.preadv(device, [buffer], chunk * len(buffer)) != len(buffer):
            sys.exit(f'{name}: chunk {chunk} is cut short')
    except OSError as e:
        if e.errno != errno.EIO:
            raise
        lost.append(chunk)
        continue
    first = chunk * sectors
    if buffer[:] != b''.join(b'%06d %08x\n' % (seed, s) * 32 for s in range(first, first + sectors)):
        sys.exit(f'{name}: chunk {chunk} is wrong')
print(*lost)
