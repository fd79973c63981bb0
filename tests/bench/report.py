#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""report.py <folder>: makes table.txt and picture.svg of a folder's results.json, prints the
table, and closes with "N passed, N failed", one for each bar."""

import json
import os
import sys
from math import log2

from stats import median

UNITS = {'iops': '{:.0f}', 'p99': '{:.0f} us', 'written': '{:.2f}', 'flushes': '{:.1f}',
         'seconds': '{:.4f} s', 'bytes': '{:.0f}'}


def escape(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')


def middle(result, case, metric):
    """The median of a metric of one column, or None."""
    values = [figure.get(metric) for figure in result['figures'].get(case, [])]
    return median(values) if values and None not in values else None


def cell(value, form='{:.0f}'):
    return '-' if value is None else form.format(value)


def word(verdict):
    """What became of a bar."""
    if 'failed' in verdict:
        return 'FAILED: ' + verdict['failed']
    return {True: 'met', False: 'MISSED', None: ''}[verdict.get('met')]


def ratio(verdict):
    if 'failed' in verdict:
        return '-'
    return f"{verdict['median']:.2f} ({verdict['low']:.2f}..{verdict['high']:.2f})"


def goal(result):
    if result['goal'] is None:
        return '-'
    sign = '<=' if result['lower'] else '>='
    return f"{sign} {result['goal']:g}" + ('' if result['peer'] else ' itself')


def columns(lines):
    """Lines of cells, as text in columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines) + '\n'


def bars(results):
    lines = [('row', 'setting', 'ours', 'peer', 'of ours', 'of peer', 'ratio (quartiles)', 'goal', '')]
    for result in results:
        form = UNITS[result['metric']]
        lines.append((
            result['name'], setting(result), result['ours'], result['peer'] or '-',
            cell(middle(result, result['ours'], result['metric']), form),
            cell(middle(result, result['peer'], result['metric']), form),
            ratio(result['verdict']), goal(result), word(result['verdict'])))
    return columns(lines)


def setting(result):
    engine = result.get('engine', 'libaio')
    return result['setting'] + ('' if engine == 'libaio' else ', ' + engine)


def groups(results):
    """One of the results for each group of figures, under the name of the group."""
    found = {}
    for result in results:
        name = result['name'].split('/')[0]
        key = f"{result['what']}, {setting(result)}" if name != 'written' else None
        if key and len(result['figures']) > len(found.get(key, {'figures': ()})['figures']):
            found[key] = result
    return found


def details(results):
    """All columns of each load, with what it cost."""
    lines = [('load', 'device', 'IOPS', 'p99 us', 'read/byte', 'written/byte', 'flushes/1000', 'CPU us/IO')]
    for name, result in groups(results).items():
        for case in result['figures']:
            value = [middle(result, case, metric)
                     for metric in ('iops', 'p99', 'read', 'written', 'flushes', 'cpu')]
            if value[0] is not None:
                lines.append((name, case, *(cell(v, form) for v, form in zip(
                    value, ('{:.0f}', '{:.0f}', '{:.2f}', '{:.2f}', '{:.1f}', '{:.0f}')))))
                name = ''
    return columns(lines)


def count(results):
    """How many bars were met, and how many not."""
    verdicts = [result['verdict'] for result in results]
    met = sum(verdict.get('met') is True for verdict in verdicts)
    return met, sum('failed' in verdict or verdict.get('met') is False for verdict in verdicts)


def table(results):
    return bars(results) + '\n' + details(results)


def picture(results):
    """An SVG: for each row the ratio's spread against its goal, on a scale of its own.

    The goal is the line in the middle, and better is to the right; the ends are a quarter
    of the goal and four times as good.
    """
    line, left, width = 18, 330, 360
    drawn = [r for r in results if 'failed' not in r['verdict'] and r['goal']]
    height = line * (len(drawn) + 3)

    def x(result, value):
        better = value / (result['goal'] if result['peer'] else 1)
        place = log2(1 / better if result['lower'] else better)
        return left + width / 2 + max(-2, min(2, place)) * width / 4

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 240}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']

    def text(at, y, what, anchor='start'):
        out.append(f'<text x="{at:.0f}" y="{y}" text-anchor="{anchor}">{escape(what)}</text>')

    for step, label in (-2, '1/4'), (-1, '1/2'), (0, 'goal'), (1, '2 x'), (2, '4 x'):
        at = left + width / 2 + step * width / 4
        text(at, line, label, 'middle')
        out.append(f'<line x1="{at}" x2="{at}" y1="{line + 6}" y2="{height - line}" '
                   f'stroke="{"black" if step == 0 else "#ccc"}"/>')
    for n, result in enumerate(drawn):
        y = line * (n + 2) + 8
        verdict = result['verdict']
        color = '#2a7' if verdict['met'] else '#c33'
        low, high = sorted((x(result, verdict['low']), x(result, verdict['high'])))
        text(left - 8, y + 4, f"{result['name']}, {setting(result)}", 'end')
        out.append(f'<rect x="{low:.1f}" y="{y - 4}" width="{max(high - low, 1):.1f}" height="8" '
                   f'fill="{color}" fill-opacity="0.4"/>')
        out.append(f'<circle cx="{x(result, verdict["median"]):.1f}" cy="{y}" r="4" fill="{color}"/>')
        text(left + width + 12, y + 4, f"{verdict['median']:.2f} (goal {goal(result)}) {word(verdict)}")
    out.append('</svg>')
    return '\n'.join(out) + '\n'


def merge(run, earlier):
    """The results of a run, with those that an earlier one has of other rows."""
    def name(result):
        return result['name'], result['setting'], result['engine']

    own = {name(result) for result in run['results']}
    kept = [result for result in earlier['results'] if name(result) not in own]
    return run | {'results': kept + run['results'], 'minutes': run['minutes'] + earlier['minutes']}


def main():
    folder = sys.argv[1]
    path = os.path.join(folder, 'results.json')
    with open(path) as file:
        run = json.load(file)
    if os.path.exists(os.path.join(folder, 'earlier.json')):
        with open(os.path.join(folder, 'earlier.json')) as file:
            run = merge(run, json.load(file))
        with open(path, 'w') as file:
            json.dump(run, file, indent=1)
    few = '' if run['pairs'] >= 7 else '; too few pairs for a verdict'
    text = (f"{run['pairs']} pairs of {run['seconds']} s, {run['processors']} processors, "
            f"{run['kernel']}, {run['minutes']:.0f} minutes{few}\n\n") + table(run['results'])
    for name, content in ('table.txt', text), ('picture.svg', picture(run['results'])):
        with open(os.path.join(folder, name), 'w') as file:
            file.write(content)
    print(text)
    met, missed = count(run['results'])
    print(f'{met} passed, {missed} failed')
    sys.exit(bool(missed) or not met)


if __name__ == '__main__':
    main()
