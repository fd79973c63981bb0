#!/usr/bin/python3
# faults.py <origin> <store> <sectors> <store type>: lets the n-th allocation of our module fail, in
# each of dm's calls: for every n up to 100, and about each tenth of those after that, which are
# the buffers of dm-bufio and what they lie in.  Whatever is hit says ENOMEM, or succeeds all the
# same; done again without a fault, all of it works.
import errno
import random
import sys

import dm

origin, store, sectors = sys.argv[1], sys.argv[2], int(sys.argv[3])
nth = '/proc/thread-self/fail-nth'
table = f'{origin} {store} 32 0 {sys.argv[4]} 0'


met = 0


def each(what, call, undo=None):
    """Calls with a fault at each place, until there was none to fail."""
    global met
    failed = tried = n = 0
    while n < 5000:
        n += 1 if n < 100 else random.randint(1, 19)
        tried += 1
        with open(nth, 'w') as file:
            file.write(str(n))
        error = None
        try:
            call()
        except OSError as e:
            error = e.errno
        with open(nth) as file:
            left = int(file.read().strip('\0\n'))
        with open(nth, 'w') as file:
            file.write('0')
        if error is None and undo:
            undo()
        if left:
            if error is not None:
                sys.exit(f'{what}: error {error} without a fault')
            met += failed
            print(f'{what}: {tried - 1} places up to {n - 1}, {failed} errors', flush=True)
            return
        if error is not None:
            failed += 1
            if error != errno.ENOMEM:
                sys.exit(f'{what}: fault {n} gave error {error}')
    sys.exit(f'{what}: no end')


def start():
    dm.create('ms', sectors, 'multisnapshot', table)


def start_snap():
    dm.create('snap', sectors, 'multisnap-snap', f'{origin} 1')


def cut():
    dm.suspend('ms')
    try:
        dm.message('ms', 'create')
    finally:
        dm.resume('ms')


def pause():
    dm.suspend('ms')
    dm.resume('ms')


each('load', start, lambda: dm.remove('ms'))
start()
cut()
each('load of a snapshot', start_snap, lambda: dm.remove('snap'))
each('status', lambda: dm.status('ms'))
each('cut', cut)
each('pending create', lambda: dm.message('ms', 'create'), pause)
each('name', lambda: dm.message('ms', 'name 1 other'))
each('list', lambda: dm.message('ms', 'list 0 100'))
dm.message('ms', 'create')
pause()
# Three do: there are as many as the cut has places to fail.
for gone in range(3, 6):
    deleted = []

    def delete(gone=gone, deleted=deleted):
        if not deleted:
            dm.message('ms', f'delete {gone}')
            deleted.append(True)

    each(f'delete {gone}', delete)
each('suspend', pause)
dm.remove('ms')
each('load with snapshots', start, lambda: dm.remove('ms'))
# A load alone has more.
if met < 50:
    sys.exit(f'only {met} errors: the faults do not come')
