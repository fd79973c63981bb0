# SPDX-License-Identifier: GPL-2.0
"""Samples of where the processors are, by the kernel's cpu-clock event, without the tool perf.

The clock is an interrupt, so what runs with interrupts off is seen where they come on again.
"""

import ctypes
import mmap
import os
import struct
import time
from bisect import bisect
from collections import Counter

PERF_EVENT_OPEN = 298
ATTRIBUTES = struct.Struct('=IIQQQQQ44xiQII')
SOFTWARE, CPU_CLOCK, BY_FREQUENCY, OWN_CLOCK = 1, 0, 1 << 10, 1 << 25
PLACE_TASK_TIME = 1 | 2 | 4
SAMPLE, MODE, USER = 9, 7, 2
RING = 1024  # pages; a power of two, and enough for all samples of a run


class Sampler:
    """Counts from `with` to its end."""

    def __init__(self, hertz=997):
        self.hertz = hertz

    def __enter__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        self.rings = []
        attributes = ATTRIBUTES.pack(SOFTWARE, ATTRIBUTES.size, CPU_CLOCK, self.hertz, PLACE_TASK_TIME, 0,
                                     BY_FREQUENCY | OWN_CLOCK, time.CLOCK_BOOTTIME, 0, 0, 0)
        for cpu in range(os.cpu_count()):
            event = libc.syscall(PERF_EVENT_OPEN, attributes, -1, cpu, -1, 0)
            if event < 0:
                raise OSError(ctypes.get_errno(), 'perf_event_open')
            self.rings.append((event, mmap.mmap(event, (RING + 1) * mmap.PAGESIZE)))
        return self

    def __exit__(self, *_):
        self.samples = []
        for event, ring in self.rings:
            os.close(event)
            head = struct.unpack_from('=Q', ring, 1024)[0]
            at = mmap.PAGESIZE
            while at < mmap.PAGESIZE + head:
                kind, mode, size = struct.unpack_from('=IHH', ring, at)
                if kind == SAMPLE:
                    self.samples.append((mode & MODE, *struct.unpack_from('=QIIQ', ring, at + 8)))
                at += size
            ring.close()

    def report(self, begin, end, lines=40):
        """The most frequent tasks, modules and functions between two seconds of the machine's
        uptime, in percent of all samples."""
        with open('/proc/kallsyms') as file:
            symbols = sorted((int(line.split()[0], 16), line.rstrip('\n').split(' ', 2)[2]) for line in file)
        starts = [address for address, _ in symbols]
        places, modules, tasks = Counter(), Counter(), Counter()
        for mode, address, _, task, nanoseconds in self.samples:
            if begin <= nanoseconds / 1e9 <= end:
                tasks[command(task)] += 1
                place = 'user' if mode == USER else symbols[bisect(starts, address) - 1][1]
                places[place] += 1
                _, _, module = place.partition('\t')
                modules[module or ('user' if mode == USER else 'kernel')] += 1
        for counter in tasks, modules, places:
            for name, count in counter.most_common(lines):
                yield f'{count / counter.total() * 100:6.1f} %  {name}'
            yield ''


def command(task):
    """What a task is called; fio has ended by now, and with it its threads."""
    if not task:
        return 'idle'
    try:
        with open(f'/proc/{task}/comm') as file:
            return file.read().strip()
    except OSError:
        return 'fio'
