#!/usr/bin/python3
# snapshots.py <ms> <count>: cuts that many snapshots in one suspension, and
# prints the first and the last id.
import sys

import dm

name, count = sys.argv[1], int(sys.argv[2])
dm.suspend(name)
try:
    ids = [dm.message(name, 'create') for _ in range(count)]
finally:
    dm.resume(name)
print(ids[0], ids[-1])
