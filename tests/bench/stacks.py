# SPDX-License-Identifier: GPL-2.0
"""The devices that are compared: each a stack of dm targets on null_blk devices in memory.

All stand at the same time, each with a store device of its own; those that are plain or
keep their origin in place share the origin's.  Sizes are in MiB, chunks in sectors.
"""

import mmap
import os
import time

import dm
from rows import ORIGIN, SPLIT

STORE, COW, POOL, METADATA = 640, 160, 576, 32
NULLB = '/sys/kernel/config/nullb/'
BLOCK = 1 << 20
MIB = 2048  # in sectors

SETTINGS = {
    'plain': {},
    'cache': {'cache_size': 16},
    'slow': {'irqmode': 2, 'completion_nsec': 100_000},
    'slow-cache': {'cache_size': 16, 'irqmode': 2, 'completion_nsec': 100_000},
}


class Disks:
    """The null_blk devices of one setting, made when they are first asked for."""

    def __init__(self, setting):
        self.attributes = SETTINGS[setting]
        self.made = []

    def get(self, name, size, **more):
        """The path of a device all of whose memory is there already."""
        path = '/dev/' + name
        if name not in self.made:
            os.mkdir(NULLB + name)
            wanted = {'size': size, 'memory_backed': 1, 'blocksize': 4096, 'submit_queues': 2}
            for key, value in (wanted | self.attributes | more | {'power': 1}).items():
                with open(f'{NULLB}{name}/{key}', 'w') as file:
                    file.write(str(value))
            self.made.append(name)
            write(path, 0, size)
        return path

    def close(self):
        for name in self.made:
            with open(f'{NULLB}{name}/power', 'w') as file:
                file.write('0')
            os.rmdir(NULLB + name)
        self.made = []


def write(path, start, length, data=b'\x5a'):
    """Fills so many MiB from there on, past the page cache."""
    buffer = mmap.mmap(-1, BLOCK)
    buffer.write(data * BLOCK)
    device = os.open(path, os.O_WRONLY | os.O_DIRECT)
    for block in range(start, start + length):
        os.pwrite(device, buffer, block * BLOCK)
    os.fsync(device)
    os.close(device)


def remove(name):
    """Removes a dm device; whoever has just looked at it may hold it for a moment."""
    for _ in range(50):
        try:
            return dm.remove(name)
        except OSError as error:
            last = error
            time.sleep(0.1)
    raise last


class Stack:
    """One way to keep snapshots.  `ready` brings it into a state, `close` takes it down."""

    def __init__(self, disks):
        self.disks = disks
        self.state = None
        self.devices = []  # of dm, users first
        self.blocks = ['o']  # what its I/O goes to
        disks.get('o', ORIGIN)

    def ready(self, case, content, consumed):
        """Brings it there unless it is; the state is gone when the load has consumed it."""
        wanted = (case, content)
        if self.state != wanted:
            self.close()
            self.build(case)
            self.fill(content)
        self.state = None if consumed else wanted

    def fill(self, content):
        """Lets some chunks be preserved: none, the first half, or all; or written to by every
        second snapshot."""
        if content == 'preserved':
            write(self.origin, 0, ORIGIN)
        elif content == 'half':
            write(self.origin, 0, ORIGIN // 2)
        elif content == 'split':
            self.split()

    def create(self, name, target, arguments, size=ORIGIN):
        dm.create(name, size * MIB, target, arguments)
        self.devices.insert(0, name)
        return '/dev/mapper/' + name

    def close(self):
        self.state = None
        for name in self.devices:
            remove(name)
        self.devices = []


class Raw(Stack):
    def build(self, _):
        self.origin = '/dev/o'


class Linear(Stack):
    def build(self, _):
        self.origin = self.create('linear', 'linear', '/dev/o 0')


class Snapshot(Stack):
    """dm-snapshot, persistent, a device for each snapshot."""

    def build(self, case):
        self.blocks = ['o']
        for n in range(case.snapshots):
            cow = self.disks.get(f'c{n}', COW)
            self.blocks.append(f'c{n}')
            write(cow, 0, 1, b'\0')
            self.snapshot = self.create(f'snap{n}', 'snapshot', f'/dev/o {cow} P {case.chunk}')
        self.origin = self.create('base', 'snapshot-origin', '/dev/o')


class Thin(Stack):
    """dm-thin with its smallest blocks; the origin is a volume all of which is mapped."""

    def __init__(self, disks):
        super().__init__(disks)
        self.blocks = ['t', 'tm']

    def build(self, case):
        data, metadata = self.disks.get('t', POOL), self.disks.get('tm', METADATA)
        write(metadata, 0, 1, b'\0')
        pool = self.create('pool', 'thin-pool', f'{metadata} {data} 128 0 3 skip_block_zeroing '
                           'ignore_discard error_if_no_space', POOL)
        dm.message('pool', 'create_thin 0')
        self.origin = self.create('thin', 'thin', pool + ' 0')
        write(self.origin, 0, ORIGIN)
        dm.suspend('thin')
        for n in range(1, case.snapshots + 1):
            dm.message('pool', f'create_snap {n} 0')
        dm.resume('thin')
        if case.snapshots:
            self.snapshot = self.create('thinsnap', 'thin', pool + ' 1')


class Multisnapshot(Stack):
    """The module of this tree."""

    def __init__(self, disks):
        super().__init__(disks)
        self.blocks = ['o', 's']

    def build(self, case):
        store = self.disks.get('s', STORE)
        write(store, 0, 1, b'\0')
        self.origin = self.create('ms', 'multisnapshot', f'/dev/o {store} {case.chunk} 0 {case.store} 0')
        cut('ms', case.snapshots)
        if case.snapshots:
            # One in the middle, as most are.
            middle = (case.snapshots + 1) // 2
            self.snapshot = self.create('mssnap', 'multisnap-snap', f'/dev/o {middle}')
        self.count = case.snapshots

    def split(self):
        for n in range(2, self.count + 1, 2):
            if n != (self.count + 1) // 2:
                write(self.create('part', 'multisnap-snap', f'/dev/o {n}'), 0, SPLIT)
                self.devices.remove('part')
                remove('part')
            else:
                write(self.snapshot, 0, SPLIT)


def cut(name, count):
    """Cuts that many snapshots in one suspension."""
    dm.suspend(name)
    try:
        for _ in range(count):
            dm.message(name, 'create')
    finally:
        dm.resume(name)


KINDS = {'raw': Raw, 'linear': Linear, 'snapshot': Snapshot, 'thin': Thin,
         'multisnapshot': Multisnapshot}
