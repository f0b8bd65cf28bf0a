"""The three intervals of this house; which one fits, the unit of a claim says.

`scipy.stats` is imported where it is used: it takes half a second, which no worker needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, message, whole

Interval = tuple[float, float]


def value_range(values: Iterable[float]) -> Interval:
    """(min, max) over independent units, such as seeds; NaN where one of them is.

    Raises DataError without values.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise DataError(message("values", numbers, "at least one number", "Run one unit."))
    if any(map(math.isnan, numbers)):
        return math.nan, math.nan
    return min(numbers), max(numbers)


def wilson(successes: float | np.integer[Any], n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share of n trials.

        (share + z^2 / 2n +- z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    successes: an int, how many of them; or a float, a mean of shares that is no count, in [0, 1]
    (z then has the two decimals of a textbook: 1.96). Raises ParameterError for others.
    """
    n, counted = whole("n", int(n), 1), isinstance(successes, int | np.integer)
    if successes < 0 or successes > (n if counted else 1):
        allowed, fix = f"an int in 0..{n} or a float in [0, 1]", "Is it a count or a share?"
        raise ParameterError(message("successes", successes, allowed, fix))
    if counted:
        from scipy import stats

        low, high = stats.binomtest(int(successes), n).proportion_ci(level, method="wilson")
        return float(low), float(high)
    share, z = float(successes), round(NormalDist().inv_cdf((1 + level) / 2), 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def clustered_t(values: Any, clusters: Sequence[Any], level: float = 0.95) -> Interval:
    """t interval of the mean of `values` [n] whose independent units are `clusters` [n].

    For instance swaps of one person, which hang together. With h_p the sum and n_p the number of
    values of cluster p, mean = sum h_p / sum n_p and, by linearisation,

        se^2 = P / (P - 1) sum_p (h_p - mean n_p)^2 / (sum_p n_p)^2,   P - 1 degrees of freedom

    (a percentile bootstrap over a dozen clusters covers too little). That of bools stays within
    [0, 1]. NaN without values; the mean twice for one cluster. Raises DataError for other lengths.
    """
    from scipy import stats

    found = np.asarray(values)
    if len(found) != len(clusters):
        allowed, fix = f"{len(found)}, as many as values", "Name the cluster of each value."
        raise DataError(message("len(clusters)", len(clusters), allowed, fix))
    if len(found) == 0:
        return math.nan, math.nan
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(index, weights=found.astype(np.float64)), np.bincount(index)
    mean, n_clusters = float(sums.sum() / counts.sum()), len(counts)
    if n_clusters == 1:
        return mean, mean
    squares = float(((sums - mean * counts) ** 2).sum())
    error = math.sqrt(n_clusters / (n_clusters - 1) * squares) / counts.sum()
    half = float(stats.t.ppf((1 + level) / 2, n_clusters - 1) * error)
    low, high = mean - half, mean + half
    return (max(low, 0.0), min(high, 1.0)) if found.dtype == bool else (low, high)
