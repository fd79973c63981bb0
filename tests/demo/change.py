#!/usr/bin/python3
# change.py <folder> <seed>: edits, deletes and adds files in a file system, the same
# ones for the same seed.
import os
import random
import sys

folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
files = []
for path, folders, names in os.walk(folder):
    folders.sort()
    for name in sorted(names):
        name = os.path.join(path, name)
        if os.path.isfile(name) and not os.path.islink(name) and not name.endswith('fio.data'):
            files.append(name)
rng.shuffle(files)
share = max(1, len(files) // 40)
edited, files = files[:4 * share], files[4 * share:]
# A few files are most of the whole: without them there would be little left to compare.
deleted = [name for name in files if os.path.getsize(name) < 1 << 20][:share]
copied = [name for name in files if name not in deleted][:share]
for name in edited:
    with open(name, 'r+b') as file:
        size = os.path.getsize(name)
        file.seek(rng.randrange(size + 1))
        file.write(rng.randbytes(rng.randint(1, 16384)))
for name in deleted:
    os.unlink(name)
for name in copied:
    with open(name, 'rb') as file:
        content = file.read(1 << 20)
    with open(f'{name}.added-{seed}', 'wb') as file:
        file.write(content)
        file.write(rng.randbytes(4096))
os.makedirs(f'{folder}/round-{seed}', exist_ok=True)
print(f'{len(edited)} files edited, {len(deleted)} deleted, {len(copied)} added')
