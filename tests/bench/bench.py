#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Measures, inside the guest, and leaves everything in /out/results.json."""

import argparse
import json
import os
import subprocess
import time
from contextlib import nullcontext

from load import measure, warm
from rows import LOADS, select
from sampler import Sampler
from special import SPECIAL
from stacks import KINDS, Disks
from stats import judge, median


class Bench:
    def __init__(self, options):
        self.options = options
        self.results = []
        self.begin = time.monotonic()

    def say(self, text):
        print(f'bench: {text}', flush=True)

    def run(self):
        rows = select(self.options.rows)
        if self.options.alone:
            rows = [row._replace(peers=(), goal=None) for row in rows]
        for setting in dict.fromkeys(setting for row in rows for setting in row.settings):
            if setting not in self.options.settings:
                continue
            chosen = [row for row in rows if setting in row.settings]
            for engine in dict.fromkeys(engine for row in chosen for engine in row.engines):
                # The other engine only where nothing else differs.
                if engine in self.options.engines and (engine == 'libaio' or setting == 'plain'):
                    self.run_setting(setting, engine, [row for row in chosen if engine in row.engines])
        with open('/out/results.json', 'w') as file:
            json.dump({'pairs': self.options.pairs, 'seconds': self.options.seconds,
                       'minutes': (time.monotonic() - self.begin) / 60,
                       'kernel': os.uname().release, 'processors': os.cpu_count(),
                       'results': self.results}, file, indent=1)

    def run_setting(self, setting, engine, rows):
        for load in dict.fromkeys(row.load for row in rows):
            group = [row for row in rows if row.load == load]
            self.say(f'{setting}, {engine}, {load}: {", ".join(row.name for row in group)}')
            begin, figures, failed = time.monotonic(), {}, None
            try:
                if load in SPECIAL:
                    figures = SPECIAL[load](setting, self.options, self.say)
                else:
                    self.run_group(setting, engine, load, group, figures)
            except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                failed = f'{type(error).__name__}: {error}'
                self.say(failed)
            for row in group:
                self.conclude(row, setting, engine, figures, failed)
            self.say(f'{load}: {time.monotonic() - begin:.0f} s')
            if failed and not self.tidy():
                raise SystemExit('devices are left: cannot go on')

    def run_group(self, setting, engine, load, rows, figures):
        """Every case in turn, in each round; every second round the other way round."""
        what = LOADS[load]
        cases = list(dict.fromkeys(case for row in rows for case in (*row.peers, row.ours)))
        disks = Disks(setting)
        stacks = {case.kind: None for case in cases}
        for kind in stacks:
            stacks[kind] = KINDS[kind](disks)
        options = what.options | {'ioengine': engine}
        figures.update({str(case): [] for case in cases})
        for n in range(self.options.pairs):
            line = []
            for case in cases if n % 2 == 0 else reversed(cases):
                stack = stacks[case.kind]
                stack.ready(case, what.content, what.consumed)
                with Sampler() if self.options.profile else nullcontext() as sampler:
                    figure = measure(stack, what.target, options, self.options.seconds, what.consumed)
                if sampler:
                    self.keep(f'{setting}, {load}, {case}', figure, sampler)
                figures[str(case)].append(figure)
                line.append(f'{case} {figure["iops"]:.0f}')
            self.say(f'  {n + 1}/{self.options.pairs}: {"; ".join(line)}')
        for stack in stacks.values():
            stack.close()
        disks.close()

    def keep(self, title, figure, sampler):
        with open('/out/profile.txt', 'a') as file:
            print(f'{title}: {figure["iops"]:.0f} IOPS', file=file)
            print('\n'.join(sampler.report(figure['begin'], figure['end'])), file=file)

    def conclude(self, row, setting, engine, figures, failed):
        """Compares, with the peer that is better by its median."""
        def values(case):
            return [figure[row.metric] for figure in figures.get(str(case), [])]

        peer = None
        if not failed and row.peers:
            best = min if row.lower else max
            peer = best(row.peers, key=lambda case: median(values(case) or [0]))
        mine = values(row.ours)
        verdict = {'failed': failed} if failed else judge(
            mine, values(peer) if row.peers else [row.goal] * len(mine),
            1 if row.goal and not row.peers else row.goal, row.lower)
        self.results.append({
            'name': row.name, 'what': row.what, 'setting': setting, 'engine': engine,
            'metric': row.metric, 'lower': row.lower, 'goal': row.goal, 'ours': str(row.ours),
            'peer': str(peer) if peer else None, 'figures': figures, 'verdict': verdict,
        })
        self.say(f'  {row.name}: {verdict.get("failed") or summary(verdict)}')

    def tidy(self):
        """Takes down whatever a failed group has left."""
        subprocess.run('for try in 1 2 3 4 5 6 7 8; do dmsetup remove_all --force; done; '
                       'rm -f /dev/mapper/[!c]*; for d in /sys/kernel/config/nullb/*/; do '
                       'echo 0 > ${d}power; rmdir $d; done', shell=True, stderr=subprocess.DEVNULL)
        return not os.path.exists('/sys/block/o')


def summary(verdict):
    text = f'{verdict["median"]:.2f} ({verdict["low"]:.2f}..{verdict["high"]:.2f})'
    return text + {True: ' met', False: ' MISSED'}.get(verdict.get('met'), '')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--rows', action='append')
    parser.add_argument('--pairs', type=int)
    parser.add_argument('--seconds', type=int)
    parser.add_argument('--settings', type=lambda text: text.split(','))
    parser.add_argument('--engines', type=lambda text: text.split(','))
    parser.add_argument('--alone', action='store_true')
    parser.add_argument('--profile', action='store_true')
    options = parser.parse_args()
    for module in 'dm-mod', 'null_blk nr_devices=0':
        subprocess.run(['modprobe', *module.split()], check=True)
    warm()
    Bench(options).run()


main()
