# two-blocks.py write <device>: counts up, in one block and then in another, for ever.
# two-blocks.py read <device>: prints the count of the second.
# two-blocks.py check <device> <count>: the first is not behind the second, and at most one ahead;
# the second is not behind the count.
import mmap
import os
import sys

PLACES = 4096 * 1000, 4096 * 2000
verb, path = sys.argv[1:3]
device = os.open(path, (os.O_RDWR if verb == 'write' else os.O_RDONLY) | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)


def count(place):
    os.preadv(device, [buffer], place)
    text = buffer[:20].rstrip(b'\0 ')
    return int(text) if text.isdigit() else 0


if verb == 'write':
    n = 0
    while True:
        n += 1
        buffer[:20] = b'%-20d' % n
        for place in PLACES:
            os.pwritev(device, [buffer], place)
elif verb == 'read':
    print(count(PLACES[1]))
else:
    first, second = count(PLACES[0]), count(PLACES[1])
    if not (second <= first <= second + 1 and second >= int(sys.argv[3])):
        sys.exit(f'{first} and {second}, after {sys.argv[3]}')
