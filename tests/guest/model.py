#!/usr/bin/python3
# model.py <seed> <steps> <origin> <store> <chunk sectors>
# Writes, snapshots, snapshot writes and restarts in random order, beside a model
# that knows for every sector of every volume which write it shows.  Prints what
# was done; fails with the first sector that differs.
import array
import mmap
import os
import random
import struct
import subprocess
import sys

import dm

SECTOR = 512
MOST = 8
seed, steps = int(sys.argv[1]), int(sys.argv[2])
origin_path, store_path, chunk = sys.argv[3], sys.argv[4], int(sys.argv[5])
store_type = os.environ.get('STORE_TYPE', 'btree')
rng = random.Random(seed)
buffer = mmap.mmap(-1, 4 << 20)
sectors = int(subprocess.check_output(['blockdev', '--getsz', origin_path]))
done = {'origin writes': 0, 'snapshot writes': 0, 'reads': 0, 'snapshots': 0, 'restarts': 0}


class Volume:
    """A mapped device, and for each sector the number of the write it must show."""

    def __init__(self, name, target, arguments, shown):
        self.name, self.target, self.arguments, self.shown = name, target, arguments, shown
        self.file = None
        self.start()

    def start(self):
        dm.create(self.name, sectors, self.target, self.arguments)
        self.file = os.open('/dev/mapper/' + self.name, os.O_RDWR | os.O_DIRECT)

    def close(self):
        os.close(self.file)

    def write(self, first, count, number):
        data = b''.join(content(number, s) for s in range(first, first + count))
        buffer[:len(data)] = data
        with memoryview(buffer) as view, view[:len(data)] as part:
            wrote = os.pwritev(self.file, [part], first * SECTOR)
        if wrote != len(data):
            sys.exit(f'{self.name}: wrote {wrote} of {len(data)} bytes at sector {first}')
        for s in range(first, first + count):
            self.shown[s] = number

    def check(self, first, count, when):
        with memoryview(buffer) as view, view[:count * SECTOR] as part:
            got = os.preadv(self.file, [part], first * SECTOR)
        if got != count * SECTOR:
            sys.exit(f'{when}: {self.name}: read {got} bytes of {count * SECTOR} at sector {first}')
        for i in range(count):
            have = buffer[i * SECTOR:(i + 1) * SECTOR]
            want = content(self.shown[first + i], first + i)
            if have != want:
                number, where = struct.unpack_from('<QQ', have)
                sys.exit(f'{when}: {self.name}, sector {first + i} of chunk {(first + i) // chunk}: '
                         f'wanted write {self.shown[first + i]}, found write {number} of sector {where}'
                         f'{"" if have == content(number, where) else ", torn"}')

    def check_all(self, when):
        step = len(buffer) // SECTOR
        for first in range(0, sectors, step):
            self.check(first, min(step, sectors - first), when)


def content(number, sector):
    return struct.pack('<QQ', number, sector) * 32 if number else bytes(SECTOR)


def extent():
    """Mostly about a chunk long, and mostly in the same few places."""
    count = min(rng.choice([1, rng.randint(1, chunk), chunk, rng.randint(1, 3 * chunk)]), sectors, 4096)
    area = rng.choice([sectors, min(sectors, 20 * chunk)])
    first = rng.randrange(max(1, area - count + 1))
    if rng.random() < 0.4:
        first -= first % chunk
    if rng.random() < 0.05:
        first = sectors - count
    return first, count


def start_origin():
    return Volume('ms', 'multisnapshot', f'{origin_path} {store_path} {chunk} 0 {store_type} 0', shown)


shown = array.array('Q', bytes(8 * sectors))
origin, snapshots = start_origin(), []
origin.write(0, min(sectors, 2048), 1)
for step in range(2, steps + 2):
    what = rng.random()
    when = f'seed {seed}, step {step}'
    if what < 0.06 and len(snapshots) < MOST:
        if rng.random() < 0.5:
            snap = dm.message('ms', 'create')
            dm.suspend('ms', dm.NOFLUSH if rng.random() < 0.3 else 0)
        else:
            dm.suspend('ms')
            snap = dm.message('ms', 'create')
        dm.resume('ms')
        snapshots.append(Volume(f'snap{snap}', 'multisnap-snap', f'{origin_path} {snap}',
                                array.array('Q', origin.shown)))
        done['snapshots'] += 1
    elif what < 0.08 and snapshots:
        everything = [*snapshots, origin]
        for volume in everything:
            volume.close()
            dm.remove(volume.name)
        for volume in reversed(everything):
            volume.start()
        done['restarts'] += 1
    elif what < 0.45:
        origin.write(*extent(), step)
        done['origin writes'] += 1
    elif what < 0.7 and snapshots:
        rng.choice(snapshots).write(*extent(), step)
        done['snapshot writes'] += 1
    else:
        rng.choice([origin, *snapshots]).check(*extent(), when)
        done['reads'] += 1
for volume in (origin, *snapshots):
    volume.check_all(f'seed {seed}, at the end')
    volume.close()
for volume in (*snapshots, origin):
    dm.remove(volume.name)
print(', '.join(f'{count} {what}' for what, count in done.items()))
