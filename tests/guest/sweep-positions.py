# sweep-positions.py <ms> <sectors> <arguments of the table> <id>...: deletes these snapshots, loads
# the device again, so that all of them wait for the sweep, and follows status until it is over.
# Prints how many places the sweep was seen at, the furthest, and how often it began anew, as it
# does for another pass over the store.
import sys

import dm

SWEEP = 20  # of the words of status
name, sectors, table, ids = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
for snapshot in ids:
    dm.message(name, 'delete ' + snapshot)
dm.remove(name)
dm.create(name, sectors, 'multisnapshot', table)
seen = []
while (word := dm.status(name).split()[SWEEP]) != '-':
    if not seen or int(word) != seen[-1]:
        seen.append(int(word))
# A pass ends at zero: that alone is not another one.
while seen and seen[-1] == 0:
    seen.pop()
print(len(seen), max(seen, default=0), sum(b < a for a, b in zip(seen, seen[1:])))
