"""Intervals of a share and of a mean over clusters.

`scipy.stats` is imported where it is used: it takes half a second, which no worker needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError, message

Interval = tuple[float, float]


Z = 1.959963984540054  # the normal's 97.5 % point


def wilson(successes: float, n: int) -> Interval:
    """Wilson's 95 % score interval of a share of n trials. Raises ValueError for impossible ones.

    (share + z^2 / 2n +- z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes in {n} trials. Allowed are 0 to n, n at least 1.")
    share, zz = successes / n, Z * Z / n
    centre, half = share + zz / 2, Z * math.sqrt((share * (1 - share) + zz / 4) / n)
    low, high = (centre - half) / (1 + zz), (centre + half) / (1 + zz)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def clustered_t(values: Any, clusters: Sequence[Any]) -> Interval:
    """95 % t interval of the mean of `values` [n] whose independent units are `clusters` [n].

    For instance swaps of one person, which hang together. With h_p the sum and n_p the number of
    values of cluster p, mean = sum h_p / sum n_p and, by linearisation,

        se^2 = P / (P - 1) sum_p (h_p - mean n_p)^2 / (sum_p n_p)^2,   P - 1 degrees of freedom

    (a percentile bootstrap over a dozen clusters covers too little). That of bools stays within
    [0, 1]; of clusters that are all alike, which is no certainty, it is Wilson's of as many.
    NaN without values; the mean twice for one cluster of other numbers. Raises DataError for other
    lengths.
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
    half = 0.0
    if n_clusters > 1:
        squares = float(((sums - mean * counts) ** 2).sum())
        error = math.sqrt(n_clusters / (n_clusters - 1) * squares) / counts.sum()
        half = float(stats.t.ppf(0.975, n_clusters - 1) * error)
    if found.dtype != bool:
        return mean - half, mean + half
    if half == 0:
        return wilson(mean * n_clusters, n_clusters)
    return max(0.0, mean - half), min(1.0, mean + half)
