#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""frames.py <module> <bytes>: fails if a function of a module has a larger frame, and names it.

A kernel's stack has 16 KiB, for all that is called and for an interrupt; the compiler puts what is
moved by value on it, each time, and warns of nothing.
"""

import re
import subprocess
import sys

module, limit = sys.argv[1], int(sys.argv[2])
text = subprocess.run(['objdump', '-d', '--no-show-raw-insn', module], capture_output=True, text=True, check=True).stdout
frames = {}
for line in text.splitlines():
    if begin := re.match(r'[0-9a-f]+ <(.*)>:$', line):
        function = begin.group(1)
    elif size := re.search(r'\bsub +\$0x([0-9a-f]+),%rsp', line):
        frames[function] = max(frames.get(function, 0), int(size.group(1), 16))
if len(frames) < 100:
    sys.exit(f'{module}: only {len(frames)} functions with a frame: is this the module?')
large = {function: size for function, size in frames.items() if size > limit}
for function, size in large.items():
    print(f'{size} bytes of stack: {function}')
sys.exit(bool(large))
