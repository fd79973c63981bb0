# replay-log.py <log>: the number of entries that dm-log-writes has left there.
# replay-log.py <log> <device> <place> <count>: writes the next <count> entries to the device;
# prints the place after them ("0" is the first), then the text of each mark among them.
import os
import struct
import sys

MAGIC = 0x6A736677736872
DISCARD, MARK = 4, 8
log = open(sys.argv[1], 'rb')
magic, version, entries, unit = struct.unpack('<QQQI', log.read(28))
if (magic, version) != (MAGIC, 1):
    sys.exit(f'{sys.argv[1]}: no log of dm-log-writes')
if len(sys.argv) == 2:
    print(entries)
    sys.exit()

device = os.open(sys.argv[2], os.O_WRONLY)
place, marks = int(sys.argv[3]) or unit, []
for _ in range(int(sys.argv[4])):
    log.seek(place)
    entry = log.read(unit)
    sector, count, flags, length = struct.unpack_from('<QQQQ', entry)
    place += unit
    if flags & MARK:
        marks.append(entry[32 : 32 + length].rstrip(b'\0').decode())
        continue
    if flags & DISCARD:
        data = bytes(count * unit)
    else:
        data = log.read(count * unit)
        place += count * unit
    if os.pwrite(device, data, sector * unit) != len(data):
        sys.exit(f'{sys.argv[2]}: a short write at {sector}')
os.fsync(device)
print(place, *marks, sep='\n')
