# SPDX-License-Identifier: GPL-2.0
"""What is measured: loads, and the bars that are set for them."""

from fnmatch import fnmatchcase
from typing import NamedTuple

# MiB of an origin, and of what snapshots have written to before the load 'split'.
ORIGIN, SPLIT = 256, 8


class Case(NamedTuple):
    """A stack with so many snapshots."""

    kind: str
    snapshots: int = 0
    chunk: int = 32
    store: str = 'btree'

    def __str__(self):
        if self.kind in ('raw', 'linear'):
            return self.kind
        if self.kind == 'thin':
            return f'thin 64K, {self.snapshots} snap'
        store = f' {self.store}' if self.kind == 'multisnapshot' else ''
        return f'{self.kind}{store} {self.chunk // 2}K, {self.snapshots} snap'


class Load(NamedTuple):
    """What fio does, to which device of a stack in which state."""

    options: dict
    content: str = 'fresh'
    target: str = 'origin'
    consumed: bool = False


class Row(NamedTuple):
    """A bar: ours against the better of the peers.  With no goal it only informs."""

    name: str
    what: str
    load: str
    ours: Case
    peers: tuple = ()
    goal: float = None
    metric: str = 'iops'
    lower: bool = False
    settings: tuple = ('plain',)
    engines: tuple = ('libaio',)


def job(rw, bs, iodepth=32, **more):
    return {'rw': rw, 'bs': bs, 'iodepth': iodepth, 'size': '256m'} | more


def once(count, sync=False, among=None, **more):
    """4 KiB to so many chunks of 16 KiB, of all or of the first, each once; load.py makes a list
    for fio."""
    return {'once': (count, sync, among or ORIGIN << 6), 'iodepth': 32} | more


LOADS = {
    'read-4k': Load(job('randread', '4k', norandommap=1, time_based=1)),
    'read-128k': Load(job('randread', '128k', 8, norandommap=1, time_based=1)),
    'read-1m': Load(job('randread', '1m', 4, norandommap=1, time_based=1)),
    'rewrite-4k': Load(job('randwrite', '4k', norandommap=1, time_based=1), 'preserved'),
    'rewrite-128k': Load(job('randwrite', '128k', 8, norandommap=1, time_based=1), 'preserved'),
    'overwrite': Load(once(8192), consumed=True),
    'seq': Load(job('write', '4k', number_ios=32768), consumed=True),
    'qd1': Load(once(4096, iodepth=1), consumed=True),
    'qd1-sync': Load(once(4096, True, iodepth=1), consumed=True),
    'snapread': Load(job('randread', '4k', norandommap=1, time_based=1), 'half', 'snapshot'),
    'snapwrite': Load(once(8192), 'fresh', 'snapshot', True),
    # Where the stores differ: as many chunks, which nobody has written to, or every second snapshot.
    'few': Load(once(SPLIT << 6, among=SPLIT << 6), consumed=True),
    'split': Load(once(SPLIT << 6, among=SPLIT << 6), 'split', consumed=True),
    # Where the chunk size shows: each 4 KiB once.
    'random-4k': Load(job('randwrite', '4k', random_generator='lfsr', number_ios=8192), consumed=True),
}

RAW, LINEAR = Case('raw'), Case('linear')
SNAP1, SNAP8 = Case('snapshot', 1), Case('snapshot', 8)
THIN = Case('thin', 1)
EVERY = ('plain', 'slow', 'cache', 'slow-cache')
BOTH = ('libaio', 'io_uring')
STORES = ('btree', 'bitmask')


# The cases of special.py.
SNAPSHOTS, REMAPS = 10_000, 500_000
CREATE = f'{SNAPSHOTS} snap', '1 snap'
LOAD = f'{REMAPS} remaps, {SNAPSHOTS} snap', 'empty store', 'the same, log as full as it gets', 'clean stop, + 1 s'
MEMORY = 'memory', 'cache-limit + bits + 4 MiB'
BUSY_OURS, BUSY_LINEAR = 'multisnapshot btree 16K, first overwrites', 'linear, as many bytes written'


def ours(snapshots, chunk=32, store='btree'):
    return Case('multisnapshot', snapshots, chunk, store)


def make_rows():
    for size, text in ('4k', '4 KiB'), ('128k', '128 KiB'), ('1m', '1 MiB'):
        for chunk in 8, 32:
            for count in 0, 1, 64:
                main = size == '4k' and chunk == 32 and count == 64
                yield Row(f'read-{size}/{chunk // 2}k-{count}', f'origin read, {text}', 'read-' + size,
                          ours(count, chunk), (LINEAR,), 0.97,
                          settings=EVERY if main else ('plain',), engines=BOTH if main else ('libaio',))
    yield Row('read-4k/raw', 'origin read, 4 KiB', 'read-4k', RAW, (LINEAR,))
    yield Row('read-4k/bitmask-64', 'origin read, 4 KiB', 'read-4k', ours(64, store='bitmask'), (LINEAR,), 0.97)
    for size, text in ('4k', '4 KiB'), ('128k', '128 KiB'):
        for store in STORES:
            main = size == '4k' and store == 'btree'
            yield Row(f'rewrite-{size}/{store}', f'origin rewrite, {text}', 'rewrite-' + size,
                      ours(64, store=store), (LINEAR,), 0.95,
                      settings=EVERY if main else ('plain',), engines=BOTH if main else ('libaio',))
    for store in STORES:
        wide = {'settings': EVERY, 'engines': BOTH} if store == 'btree' else {}
        one = ours(1, store=store)
        yield Row(f'overwrite/{store}-1', 'first overwrite', 'overwrite', one, (SNAP1,), 1.2, **wide)
        for count in (8, 64, 1000) if store == 'btree' else (8, 64):
            many = ours(count, store=store)
            name = f'overwrite/{store}-{count}'
            yield Row(name + '-flat', 'first overwrite', 'overwrite', many, (one,), 0.97, **wide)
            yield Row(name + '-snapshot', 'first overwrite', 'overwrite', many, (SNAP8,), 8, **wide)
            yield Row(name + '-thin', 'first overwrite', 'overwrite', many, (THIN,), 2, **wide)
        for count in (1, 8, 64, 1000) if store == 'btree' else (1, 8, 64):
            yield Row(f'written/{store}-{count}', 'bytes written per byte, first overwrite', 'overwrite',
                      ours(count, store=store), (SNAP1,), 1, 'written', True)
    for store in STORES:
        wide = {'settings': EVERY, 'engines': BOTH} if store == 'btree' else {}
        end = '' if store == 'btree' else '/' + store
        one, peers = ours(1, store=store), (SNAP1, THIN)
        yield Row('seq' + end, 'sequential first overwrite, 4 KiB', 'seq', one, peers, 1.2, **wide)
        yield Row('qd1' + end, 'first overwrite, depth 1', 'qd1', one, peers, 1, **wide)
        yield Row('qd1-sync' + end, 'the same, fdatasync each', 'qd1-sync', one, peers, 1, **wide)
        for count in 1, 64:
            yield Row(f'snapread{end}/{count}', 'snapshot read', 'snapread', ours(count, store=store), peers,
                      1.05, **wide)
        yield Row('snapwrite' + end, 'first snapshot write', 'snapwrite', one, peers, 1.2, **wide)
    for store in STORES:
        end = '' if store == 'btree' else '/' + store
        yield Row('flushes' + end, 'flushes per 1,000 first overwrites', 'overwrite', ours(1, store=store),
                  (SNAP1,), 1, 'flushes', True, ('cache',))
        yield Row('flushes-qd1' + end, 'the same at depth 1, of 1,000', 'qd1', ours(1, store=store), (), 1000,
                  'flushes', True, ('cache',))
    yield Row('create', f'create with {SNAPSHOTS} snapshots', 'create', CREATE[0], CREATE[1:], 1.5, 'seconds', True)
    yield Row('load/clean', 'load after a clean stop', 'large', LOAD[0], LOAD[1:2], 2, 'seconds', True)
    yield Row('load/full-log', 'load with a full log', 'large', LOAD[2], LOAD[3:], 1, 'seconds', True)
    yield Row('memory', 'memory', 'large', MEMORY[0], MEMORY[1:], 1, 'bytes', True)
    yield Row('busy-reads', 'origin reads under first overwrites', 'busy-reads', BUSY_OURS, (BUSY_LINEAR,), 1.5,
              'p99', True, ('plain', 'slow'))
    for load, counts in ('few', (1, 8, 64)), ('split', (8, 64)):
        for count in counts:
            yield Row(f'stores-{load}/{count}', f'which store: {load}', load, ours(count, store='bitmask'),
                      (ours(count),))
    for chunk in 8, 128, 512:
        for load in 'random-4k', 'seq':
            yield Row(f'chunks-{load}/{chunk // 2}k', f'chunk size: {load} first overwrite', load,
                      ours(1, chunk), (ours(1),))


ROWS = list(make_rows())


def select(patterns):
    """The rows whose names match one of the patterns, each of which must match some."""
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in ROWS):
            raise SystemExit(f'no row is called {pattern}')
    return [row for row in ROWS if any(fnmatchcase(row.name, pattern) for pattern in patterns)]
