"""The three intervals of this house; which one fits, the unit of a claim says.

value_range   independent units, such as seeds: the smallest and the largest of them
wilson        a share of n trials
clustered_t   a mean of values that hang together, such as the swaps of one person
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy import stats

from ..errors import DataError, ParameterError, message, whole

Interval = tuple[float, float]


def value_range(values: Iterable[float]) -> Interval:
    """(min, max) over units; NaN where one of them is. Raises DataError without values."""
    numbers = [float(value) for value in values]
    if not numbers:
        raise DataError(message("values", numbers, "at least one number", "Run one unit."))
    if any(map(math.isnan, numbers)):
        return math.nan, math.nan
    return min(numbers), max(numbers)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share of n trials.

    successes: a whole number of them; or, as a float in [0, 1], a mean share that is no count,
    such as a mean over language models (with z rounded to two decimals: 1.96).

        (share + z^2 / 2n +- z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Raises ParameterError for more successes than trials, or a share outside [0, 1].
    """
    n = whole("n", int(n), 1)
    most = n if isinstance(successes, Integral) else 1
    if successes < 0 or successes > most:
        allowed = f"0 <= successes <= {most}"
        fix = "Pass a count as int, a share as float."
        raise ParameterError(message("successes", successes, allowed, fix))
    if isinstance(successes, Integral):
        found = stats.binomtest(int(successes), n).proportion_ci(level, method="wilson")
        return float(found.low), float(found.high)
    share, z = float(successes), round(float(stats.norm.ppf((1 + level) / 2)), 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def clustered_t(values: Any, clusters: Sequence[Any], level: float = 0.95) -> Interval:
    """t interval of the mean of `values` [n] whose independent units are `clusters` [n].

    With h_p the sum and n_p the number of values of cluster p, share = sum h_p / sum n_p and, by
    linearisation,

        se^2 = P / (P - 1) sum_p (h_p - share n_p)^2 / (sum_p n_p)^2,   P - 1 degrees of freedom

    (a percentile bootstrap over a dozen clusters covers too little). The interval of bools stays
    within [0, 1]. NaN without values; of one cluster both ends are the mean. Raises DataError
    when the lengths differ.
    """
    found = np.asarray(values)
    if len(found) != len(clusters):
        fix = "Name the cluster of each value."
        raise DataError(message("len(clusters)", len(clusters), f"{len(found)} values", fix))
    if len(found) == 0:
        return math.nan, math.nan
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=found.astype(np.float64))
    counts = np.bincount(index)
    share, n_clusters = float(sums.sum() / counts.sum()), len(counts)
    if n_clusters == 1:
        return share, share
    squares = float(((sums - share * counts) ** 2).sum())
    error = math.sqrt(n_clusters / (n_clusters - 1) * squares) / counts.sum()
    half = float(stats.t.ppf((1 + level) / 2, n_clusters - 1) * error)
    low, high = share - half, share + half
    return (max(low, 0.0), min(high, 1.0)) if found.dtype == bool else (low, high)
