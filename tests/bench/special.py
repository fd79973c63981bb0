# SPDX-License-Identifier: GPL-2.0
"""What is not the speed of one load on one device: creation, loading, memory, latency under load.

Each function takes a setting, the options and a function to say how far it is, and returns
the figures of its cases by their names in rows.py.
"""

import subprocess
import time

import dm
from load import counters, fio, on
from rows import BUSY_LINEAR, BUSY_OURS, CREATE, LOAD, MEMORY, SNAPSHOTS, REMAPS, once, ours
from stacks import MIB, Disks, Linear, Multisnapshot, cut, remove, write
from stats import median


def in_turn(pairs, measures, say):
    """Calls each function once a round, every second time the other way round."""
    figures = {name: [] for name in measures}
    for n in range(pairs):
        for name in list(measures) if n % 2 == 0 else reversed(measures):
            figures[name].append(measures[name]())
        say(f'  {n + 1}/{pairs}: ' + '; '.join(f'{name} {figures[name][-1]}' for name in figures))
    return figures


def status(name, field):
    """A field of the origin's status, by its number in messages.rst."""
    return dm.status(name).split()[field - 1]


def create(setting, options, say):
    """Creates and deletes a snapshot beside one, and beside many."""
    disks = Disks(setting)
    for name, count in ('few', 1), ('many', SNAPSHOTS):
        origin, store = disks.get(name + 'o', 16), disks.get(name + 's', 64)
        write(store, 0, 1, b'\0')
        dm.create(name, 16 * MIB, 'multisnapshot', f'{origin} {store} 32 0 btree 0')
        say(f'  cutting {count}')
        cut(name, count)

    def one(name):
        times = []
        for _ in range(9):
            begin = time.monotonic()
            number = dm.message(name, 'create')
            dm.suspend(name)
            dm.resume(name)
            times.append(time.monotonic() - begin)
            dm.message(name, 'delete ' + number)
            while status(name, 21) != '-':
                time.sleep(0.01)
        return {'seconds': median(times)}

    figures = in_turn(options.pairs, {CREATE[0]: lambda: one('many'), CREATE[1]: lambda: one('few')}, say)
    for name in 'few', 'many':
        remove(name)
    disks.close()
    return figures


class Large:
    """A store with many remaps.  Only its metadata is kept; data and origin are dm-zero.

    All that is not data, and is not more than the metadata area, is in the store's first
    part; a store that outgrew that would not load, and fail the row.
    """

    KEPT = 69  # MiB: header, log and metadata area are 68.125
    SIZE = 4608
    LIMIT = 256  # blocks of metadata in memory

    def __init__(self, disks):
        self.kept = disks.get('kept', self.KEPT, blocksize=512)  # as dm-zero's
        dm.create('zero', REMAPS * 8, 'zero', '')
        dm.create('tail', (self.SIZE - self.KEPT) * MIB, 'zero', '')
        table = (f'0 {self.KEPT * MIB} linear {self.kept} 0\n{self.KEPT * MIB} '
                 f'{(self.SIZE - self.KEPT) * MIB} linear /dev/mapper/tail 0\n')
        subprocess.run(['dmsetup', 'create', 'keptstore'], input=table, text=True, check=True)

    def load(self, cache=f'4 cache-threshold 64 cache-limit {LIMIT}'):
        """How long it takes, in seconds."""
        begin = time.monotonic()
        dm.create('ms', REMAPS * 8, 'multisnapshot',
                  '/dev/mapper/zero /dev/mapper/keptstore 8 0 btree ' + cache)
        return time.monotonic() - begin

    def keep(self, name):
        """Copies the store as it is now."""
        copy(self.kept, '/tmp/' + name, 'iflag=direct')

    def put(self, name):
        """Makes the store what it was."""
        copy('/tmp/' + name, self.kept, 'oflag=direct')

    def empty(self):
        write(self.kept, 0, 1, b'\0')

    def close(self):
        for name in 'keptstore', 'tail', 'zero':
            remove(name)


def copy(source, target, flag):
    subprocess.run(['dd', 'if=' + source, 'of=' + target, 'bs=1M', flag, 'conv=notrunc', 'status=none'],
                   check=True)


def free_memory():
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('3')
    time.sleep(0.5)
    with open('/proc/meminfo') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith('MemFree'))


def large(setting, options, say):
    """Load times of a large store, and the memory it takes.

    What a crash would leave is the store as it is while the module is at rest.
    """
    disks = Disks(setting)
    store = Large(disks)
    store.empty()
    store.load('0')
    say(f'  cutting {SNAPSHOTS} snapshots')
    cut('ms', SNAPSHOTS)
    say(f'  making {REMAPS} remaps')
    write('/dev/mapper/ms', 0, REMAPS // 256)
    cut('ms', 1)
    # Commits of one record each, until a checkpoint is near.
    for n in range(100):
        fio({'job': {'filename': '/dev/mapper/ms', 'ioengine': 'libaio', 'rw': 'write', 'bs': '4k',
                     'offset': f'{n * 128}k', 'size': '128k', 'iodepth': 1}}, 60)
        used, total = map(int, status('ms', 10).split('/'))
        if used > total * 0.44:
            break
    say(f'  {status("ms", 9)} blocks of metadata, {used}/{total} of the log')
    store.keep('full')
    remove('ms')
    store.keep('clean')
    store.empty()
    store.load()
    remove('ms')
    store.keep('empty')

    def load(image, more=0):
        store.put(image)
        before = counters(['kept'])
        seconds = store.load()
        read = counters(['kept'])[0] - before[0]
        remove('ms')
        return {'seconds': seconds + more, 'read': read}

    def memory():
        store.put('clean')
        store.load()
        dm.create('mssnap', REMAPS * 8, 'multisnap-snap', '/dev/mapper/zero 1')
        job = {'ioengine': 'libaio', 'bs': '4k', 'iodepth': 8}
        fio({'job': job | {'filename': '/dev/mapper/mssnap', 'rw': 'randread'}}, options.seconds)
        fio({'job': job | {'filename': '/dev/mapper/ms', 'rw': 'randwrite'}}, options.seconds)
        before = free_memory()
        remove('mssnap')
        remove('ms')
        return {'bytes': free_memory() - before}

    # One bit for a chunk, in pages.
    allowed = store.LIMIT * 4096 + (REMAPS + 32767) // 32768 * 4096 + (4 << 20)
    names = (*LOAD, *MEMORY)
    figures = in_turn(options.pairs, dict(zip(names, (
        lambda: load('clean'), lambda: load('empty'), lambda: load('full'), lambda: load('clean', 1),
        memory, lambda: {'bytes': allowed}))), say)
    store.close()
    disks.close()
    return figures


def busy_reads(setting, options, say):
    """Reads of the origin while first overwrites go on, and while dm-linear's two devices
    take as many bytes a second in writes."""
    disks = Disks(setting)
    stack, linear = Multisnapshot(disks), Linear(disks)
    linear.ready(ours(0), 'fresh', False)
    reads = {'ioengine': 'libaio', 'rw': 'randread', 'bs': '4k', 'size': '256m', 'iodepth': 4,
             'rate_iops': 400, 'norandommap': 1, 'time_based': 1}
    rates = {}

    def first_overwrites():
        stack.ready(ours(1), 'fresh', True)
        before = [counters([disk])[1] for disk in 'os']
        jobs = fio({'writes': on(stack.origin, once(16384)) | {'ioengine': 'libaio', 'exitall': 1},
                    'reads': reads | {'filename': stack.origin}}, options.seconds)
        seconds = jobs['writes']['seconds']
        for disk, bytes_before in zip('os', before):
            rates[disk] = int((counters([disk])[1] - bytes_before) / seconds)
        stack.close()
        return {'p99': jobs['reads']['p99'], **rates}

    def plain_writes():
        write_job = {'ioengine': 'libaio', 'rw': 'randwrite', 'size': '256m', 'iodepth': 32,
                     'norandommap': 1, 'time_based': 1}
        jobs = fio({'origin': write_job | {'filename': linear.origin, 'bs': '4k', 'rate': f",{rates['o']}"},
                    'store': write_job | {'filename': '/dev/s', 'bs': '16k', 'rate': f",{rates['s']}"},
                    'reads': reads | {'filename': linear.origin}}, options.seconds)
        return {'p99': jobs['reads']['p99'], 'o': jobs['origin']['bytes'] / jobs['origin']['seconds'],
                's': jobs['store']['bytes'] / jobs['store']['seconds']}

    first_overwrites()
    figures = in_turn(options.pairs, {BUSY_OURS: first_overwrites, BUSY_LINEAR: plain_writes}, say)
    linear.close()
    disks.close()
    return figures


SPECIAL = {'create': create, 'large': large, 'busy-reads': busy_reads}
