"""One line of a report card, and its intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd
from scipy import stats

from .. import metrics

N_PARTS = 20  # an interval is Student's t over so many parts of the rows


class Row(NamedTuple):
    """One number of a report card; low and high are equal where there is no interval."""

    group: str
    name: str
    value: float
    low: float
    high: float
    says: str  # what the papers say about such a number
    silent: str  # what it does not tell


def bare(group: str, name: str, value: float, says: str, silent: str) -> Row:
    """A number without an interval."""
    return Row(group, name, value, value, value, says, silent)


def over(group: str, name: str, values: list[float], says: str, silent: str) -> Row:
    """The mean over parts of the rows with Student's 95 % interval."""
    value, n = float(pd.Series(values).mean()), len(values)
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values) if n > 1 else math.nan
    return Row(group, name, value, value - half, value + half, says, silent)


def share(group: str, name: str, of: tuple[int, int], says: str, silent: str) -> Row:
    """of: how many, and of how many; Wilson's 95 % interval."""
    low, high = metrics.wilson(*of) if of[1] else (math.nan, math.nan)
    return Row(group, name, of[0] / of[1] if of[1] else math.nan, low, high, says, silent)
