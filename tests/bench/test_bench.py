#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of what the benchmark makes of its figures; run by scripts/lint."""

import report
import rows
from stats import judge, median, quartiles


def test_median_and_quartiles():
    assert quartiles([5]) == (5, 5)
    assert quartiles([3, 1, 2, 5, 4]) == (2, 4)
    assert quartiles([4, 1, 2, 3]) == (1.75, 3.25)
    assert median([3, 1, 2]) == 2
    assert median([1, 2]) == 1.5


def test_ratios_are_of_pairs():
    verdict = judge([10, 40, 30], [10, 20, 10], 1)
    assert verdict == {'ratios': [1, 2, 3], 'median': 2, 'low': 1.5, 'high': 2.5, 'met': True}


def test_higher_is_better():
    assert judge([12] * 3, [10] * 3, 1.2)['met']
    assert not judge([11] * 3, [10] * 3, 1.2)['met']


def test_lower_is_better():
    assert judge([15] * 3, [10] * 3, 1.5, True)['met']
    assert not judge([16] * 3, [10] * 3, 1.5, True)['met']


def test_a_spread_that_reaches_the_bar_is_enough():
    assert judge([8, 9, 10, 11, 12], [10] * 5, 1.05)['met']


def test_one_lucky_pair_is_not():
    assert not judge([9, 9, 9, 9, 20], [10] * 5, 1.0)['met']
    assert not judge([5, 11, 11, 11, 11], [10] * 5, 1.0, True)['met']


def test_no_goal_is_no_bar():
    assert 'met' not in judge([1], [2], None)


def test_what_was_not_measured_fails():
    for mine, peer in ([], []), ([1], []), ([0, 0], [0, 0]), ([0, 1], [1, 1]), ([1, 1], [1, 0]), ([None], [1]):
        for goal, lower in (1, False), (1, True), (None, False):
            verdict = judge(mine, peer, goal, lower)
            assert 'failed' in verdict and 'met' not in verdict, (mine, peer)


def test_rows_have_names_and_loads():
    names = [row.name for row in rows.ROWS]
    assert len(names) == len(set(names))
    for row in rows.ROWS:
        assert row.peers or row.goal, row.name


def test_rows_are_selected():
    assert [row.name for row in rows.select(['seq'])] == ['seq']
    assert all(row.name.startswith('overwrite/') for row in rows.select(['overwrite/*']))
    try:
        rows.select(['seq', 'no such row'])
    except SystemExit:
        return
    assert False


def result(verdict):
    return {
        'name': 'a', 'what': 'first overwrite', 'setting': 'plain', 'ours': 'multisnapshot',
        'peer': 'thin', 'metric': 'iops', 'lower': False, 'goal': 1.2, 'verdict': verdict,
        'figures': {'multisnapshot': [{'iops': 30}] * 3, 'thin': [{'iops': 20}] * 3},
    }


def test_bars_are_counted_and_shown():
    results = [result(judge([30] * 3, [20] * 3, 1.2)), result(judge([20] * 3, [20] * 3, 1.2)),
               result({'failed': 'fio'}), result(judge([20] * 3, [20] * 3, None)) | {'goal': None}]
    assert report.count(results) == (1, 2)
    text = report.table(results)
    assert all(word in text for word in ('met', 'MISSED', 'FAILED: fio'))
    assert '1.50' in report.picture(results)


def test_earlier_results_are_kept_for_other_rows():
    def run(*names):
        return {'minutes': 1, 'results': [{'name': n, 'setting': 'plain', 'engine': 'libaio', 'of': names}
                                          for n in names]}

    merged = report.merge(run('a', 'b'), run('b', 'c'))
    assert merged['minutes'] == 2
    assert [(r['name'], r['of'][0]) for r in merged['results']] == [('c', 'b'), ('a', 'a'), ('b', 'a')]


def main():
    tests = {name: test for name, test in globals().items() if name.startswith('test_')}
    for name, test in tests.items():
        print(name)
        test()
    assert len(tests) > 9


if __name__ == '__main__':
    main()
