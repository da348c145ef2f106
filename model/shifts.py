"""Whether two samples differ, and how sure a share is: tests that hold for small numbers, too.

Samples are histograms: how often each whole number (a bin) was seen. Where a test is not exact, its
p-value is too large, so that it errs towards seeing nothing.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

Counts = Mapping[int, int]
_Z = 1.959963984540054  # of 95 %
_BOUND = 2.03  # C; with 2, the exact value is up to 0.9 % above for equal samples of 30


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share in 0..1 (Wilson 1927); (0, 1) where nothing was counted.

    >>> [round(edge, 3) for edge in wilson(0, 30)]
    [0.0, 0.114]
    """
    if not total:
        return 0.0, 1.0
    share, square = hits / total, _Z**2
    centre = share + square / (2 * total)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    scale = 1 + square / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def quantile(counts: Counts, share: float) -> float | None:
    """The smallest bin with at least this share of the sample in it and below; None without one.

    >>> quantile({3: 1, 5: 2, 9: 1}, 0.5)
    5
    """
    wanted, seen = share * sum(counts.values()), 0
    for place in sorted(counts):
        seen += counts[place]
        if seen >= wanted and seen:
            return place
    return None


def kolmogorov(first: Counts, second: Counts) -> tuple[float, float]:
    """The largest difference of two cumulative shares, in 0..1, and its p-value.

    The p-value is the bound C exp(-2 D^2 nm/(n+m)) (Wei and Dudley 2012), which lies above the
    exact one, and further above it where values are tied. Neither sample may be empty.
    """
    places = sorted(first.keys() | second.keys())
    one, other = ([counts.get(place, 0) for place in places] for counts in (first, second))
    n, m = sum(one), sum(other)
    difference = float(np.abs(np.cumsum(one) / n - np.cumsum(other) / m).max())
    return difference, min(1.0, _BOUND * math.exp(-2 * difference**2 * n * m / (n + m)))


def fisher(hits: int, total: int, other_hits: int, other_total: int) -> float:
    """The two-sided p-value of Fisher's exact test that two shares are one.

    >>> round(fisher(8, 10, 1, 6), 4)
    0.035
    """
    marked, everything = hits + other_hits, total + other_total
    low, high = max(0, marked - other_total), min(marked, total)
    k = np.arange(low, high, dtype=np.float64)
    # Each probability by its ratio to the one before, so that no factorial is needed.
    ups = (marked - k) * (total - k)
    downs = (k + 1) * (everything - marked - total + k + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(ups) - np.log(downs))])
    chances = np.exp(logs - logs.max())
    as_rare = chances <= chances[hits - low] * (1 + 1e-7)
    return float(min(1.0, chances[as_rare].sum() / chances.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in order, as they stand after so many tests (Holm 1979).

    Calling out those at or below a level errs in any of them with at most that probability.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
