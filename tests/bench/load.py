# SPDX-License-Identifier: GPL-2.0
"""fio, and what the machine counts meanwhile."""

import json
import os
import random
import shutil
import subprocess

TICK = os.sysconf('SC_CLK_TCK')


def kept(when):
    """What fio kept before or after the job: the seconds that all processors were busy since
    the boot, and those since the boot."""
    with open(f'/tmp/job.{when}.txt') as file:
        lines = file.read().splitlines()
    user, nice, system, _, _, irq, softirq = map(int, lines[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICK, float(lines[-1].split()[0])


def counters(blocks):
    """Bytes read, bytes written and flushes of null_blk devices, summed."""
    total = [0, 0, 0]
    for block in blocks:
        with open(f'/sys/block/{block}/stat') as file:
            fields = [int(field) for field in file.read().split()]
        for i, value in enumerate((fields[2] * 512, fields[6] * 512, fields[15])):
            total[i] += value
    return total


def warm():
    """Has fio and its libraries in memory: a clock that counts instructions runs ahead by
    minutes while a page of them comes from a slow host, and what is measured with it."""
    path = shutil.which('fio')
    needed = subprocess.run(['ldd', path], capture_output=True, text=True, check=True).stdout.split()
    for file in [path, *(word for word in needed if word.startswith('/'))]:
        with open(file, 'rb') as opened:
            opened.read()


def fio(jobs, seconds):
    """Runs jobs, each a dict of options, side by side; returns what fio says of each."""
    words = ['fio', '--output-format=json', '--direct=1', f'--runtime={seconds}']
    for name, options in jobs.items():
        words.append('--name=' + name)
        words += [f'--{key}={value}' for key, value in options.items()]
    done = subprocess.run(words, capture_output=True, text=True, cwd='/tmp', timeout=seconds * 10 + 120)
    if done.returncode:
        raise RuntimeError(f'fio: status {done.returncode}: {done.stderr.strip()[-300:]}')
    # Warnings may come before the JSON.
    result = json.loads(done.stdout[done.stdout.index('{'):])
    found = {}
    for job in result['jobs']:
        if job['error']:
            raise RuntimeError(f"fio: job {job['jobname']}: error {job['error']}")
        side = job['read'] if job['read']['total_ios'] else job['write']
        if not side['total_ios']:
            raise RuntimeError(f"fio: job {job['jobname']} did nothing")
        found[job['jobname']] = {
            'ios': side['total_ios'],
            'bytes': side['io_bytes'],
            'seconds': side['runtime'] / 1000,
            'iops': side['iops'],
            'p99': side['clat_ns']['percentile']['99.000000'] / 1000,
        }
    return found


def listed(count, sync, among):
    """The path of a list for fio: writes to the first 4 KiB of chunks, in random order."""
    path = f'/tmp/once-{count}-{sync}-{among}'
    if not os.path.exists(path):
        chunks = list(range(among))
        random.Random(1).shuffle(chunks)
        with open(path, 'w') as file:
            file.write('fio version 2 iolog\nit add\nit open\n')
            for chunk in chunks[:count]:
                file.write(f'it write {chunk << 14} 4096\n')
                if sync:
                    file.write('it datasync 0 0\n')
            file.write('it close\n')
    return path


def on(device, options):
    """The options for a device; a list names another, which is replaced."""
    options = dict(options)
    if 'once' not in options:
        return options | {'filename': device}
    return {'read_iolog': listed(*options.pop('once')), 'replay_redirect': device,
            'replay_no_stall': 1} | options


def measure(stack, target, options, seconds, consumed):
    """One run on a stack: fio's figures and the machine's.

    Bytes written include what is only written when the stack is taken down, which is done
    here if the load has consumed its state.
    """
    before = counters(stack.blocks)
    options = on(getattr(stack, target), options) | {
        'exec_prerun': 'cat /proc/stat /proc/uptime', 'exec_postrun': 'cat /proc/stat /proc/uptime'}
    job = fio({'job': options}, seconds)['job']
    (busy_before, begin), (busy_after, end) = kept('prerun'), kept('postrun')
    after = counters(stack.blocks)
    flushes = after[2] - before[2]
    if consumed:
        stack.close()
        after = counters(stack.blocks)
    return job | {
        'read': (after[0] - before[0]) / job['bytes'],
        'written': (after[1] - before[1]) / job['bytes'],
        'flushes': flushes / job['ios'] * 1000,
        'cpu': (busy_after - busy_before) / job['ios'] * 1e6,
        'begin': begin,
        'end': end,
    }
