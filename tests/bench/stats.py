# SPDX-License-Identifier: GPL-2.0
"""What a list of pairs says about a bar."""

# Without the module statistics, which the build root's Python does not have.


def quantile(values, share):
    """The value below which that share of the others lies, between two if need be."""
    values = sorted(values)
    place = (len(values) - 1) * share
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def median(values):
    return quantile(values, 0.5)


def quartiles(values):
    """The first and the third quartile."""
    return quantile(values, 0.25), quantile(values, 0.75)


def judge(ours, peer, goal, lower=False):
    """Compares two lists of figures, pair by pair.

    The ratio is ours / peer.  The bar is missed when its whole spread, from quartile to
    quartile, is on the wrong side of the goal; without a goal there is no bar.  A figure that is 0 or not there was not
    measured, and fails the row.
    """
    if not ours or len(ours) != len(peer):
        return {'failed': f'{len(ours)} figures against {len(peer)}'}
    if not all(value and value > 0 for value in (*ours, *peer)):
        return {'failed': 'a figure is 0'}
    ratios = [a / b for a, b in zip(ours, peer)]
    low, high = quartiles(ratios)
    verdict = {'ratios': ratios, 'median': median(ratios), 'low': low, 'high': high}
    if goal is not None:
        verdict['met'] = low <= goal if lower else high >= goal
    return verdict
