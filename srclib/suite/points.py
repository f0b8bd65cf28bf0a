"""Measured values with their intervals, and what the difference of two is worth.

Needs the standard library alone, so `list` and `claims` stay quick.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple


def number(value: float) -> str:
    """Four significant digits; whole numbers as such."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


class Point(NamedTuple):
    """A measured value with the ends of its interval (both equal to it for one unit)."""

    value: float
    low: float
    high: float
    units: tuple[float, ...] = ()  # the value of every unit, where the interval is theirs
    confident: bool = False  # a 95 % interval of its own kind, such as Wilson's

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.value)
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


def of_median(values: Sequence[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the population's median with 95 %.

    [x_(j), x_(n+1-j)] holds it with probability 1 - 2 P(Bin(n, 1/2) < j) whatever the distribution.
    Up to eight values that is their range, [x_(1), x_(n)]: 1 - 2^(1-n), less than 95 % below six.
    """
    n, ordered = len(values), sorted(values)
    tails = accumulate(2 * math.comb(n, j) / 2**n for j in range((n + 1) // 2))
    j = max(1, sum(tail <= 0.05 for tail in tails))
    return ordered[j - 1], ordered[n - j]


def over(units: Sequence[float]) -> Point:
    """Median over units and its interval."""
    low, high = of_median(units)
    return Point(statistics.median(units), low, high, tuple(units))


def negate(point: Point) -> Point:
    """-point."""
    negated = tuple(-v for v in point.units)
    return Point(-point.value, -point.high, -point.low, negated, point.confident)


def minus(a: Point, b: Point, factor: float = 1.0) -> Point:
    """a - factor * b with its interval: over paired units where there are some.

    Else of two 95 % intervals by recovering variances from the distances to their ends (MOVER: Zou
    and Donner, 2008), with which Wilson's of two shares give Newcombe's of their difference. Of
    ranges whose units were not kept, the widest that the difference can be.
    """
    if len(a.units) == len(b.units) > 1:
        return over([x - factor * y for x, y in zip(a.units, b.units, strict=True)])
    low, high = sorted((factor * b.low, factor * b.high))
    b = Point(factor * b.value, low, high, confident=b.confident)
    value = a.value - b.value
    sides = (a.value - a.low, b.high - b.value), (a.high - a.value, b.value - b.low)
    certain = all(p.confident or p.low == p.high for p in (a, b))
    below, above = (math.hypot(*side) if certain else sum(side) for side in sides)
    return Point(value, value - below, value + above, confident=certain)


def smaller(a: Point, b: Point) -> Point:
    """The smaller of two in every unit; without common units, the one with the smaller value."""
    if len(a.units) == len(b.units) > 1:
        return over([min(pair) for pair in zip(a.units, b.units, strict=True)])
    return min(a, b, key=lambda point: point.value)


Table = Mapping[str, Point | None]  # None: recorded, but not finite


def as_table(measured: Any, interval: Any = None, values: Any = None, kinds: Any = None) -> Table:
    """Stored numbers as the table that rules read; a bare number has the label "value".

    values: of every unit, by label. kinds: by label, what an interval is that is not theirs.
    """
    measured = measured if isinstance(measured, dict) else {"value": measured}
    pairs = interval if isinstance(interval, dict) else {"value": interval}
    table: dict[str, Point | None] = {}
    for label, value in measured.items():
        kind = (kinds or {}).get(label, "range")
        own = tuple((values or {}).get(label, ())) if kind.startswith("range") else ()
        low, high = pairs.get(label) or (value, value)
        confident = not kind.startswith("range")
        table[label] = None if value is None else Point(value, low, high, own, confident)
    return table


class Unmeasured(Exception):
    """A condition cannot be judged on this table; the text says why."""


class Unrecorded(Unmeasured):
    """A label that the condition needs is not in the table at all."""


def side_of(table: Table, side: str | float) -> Point:
    """A label's point, or a number as one. Raises Unmeasured where there is nothing to judge."""
    if not isinstance(side, str):
        return Point(side, side, side)
    if side not in table:
        raise Unrecorded(f"label {side!r} was not recorded")
    if (point := table[side]) is None:
        raise Unmeasured(f"label {side!r} has a unit without a finite value")
    return point


def series_of(
    table: Table, prefix: str, start: float = -math.inf, end: float = math.inf
) -> list[tuple[float, Point]]:
    """The points whose label is the prefix and a number in [start, end], sorted by number."""
    found = []
    for label in table:
        try:
            at = float(label.removeprefix(prefix)) if label.startswith(prefix) else math.nan
        except ValueError:
            continue
        if math.isfinite(at) and start <= at <= end:
            found.append((at, side_of(table, label)))
    return sorted(found)
