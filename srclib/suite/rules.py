"""Rules of the claims ledger: conditions as data over a table of measured labels.

A condition `holds` where it is true over the whole interval of what it looks at, and `fails` where
it is false over the whole of it; between the two nothing was measured that could tell. Two labels
with the same units are compared unit by unit: the interval is that of their paired difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from ..errors import ClaimError
from . import schema

Level = Literal["holds", "undecided", "fails"]


def number(value: float) -> str:
    """Four significant digits; whole numbers as such."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


class Point(NamedTuple):
    """A measured value with the ends of its interval (both equal to it for one unit)."""

    value: float
    low: float
    high: float
    units: tuple[float, ...] = ()  # the value of every unit, where the interval is their range

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.value)
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


def over(units: Sequence[float]) -> Point:
    """Median and range of the values of all units."""
    return Point(statistics.median(units), min(units), max(units), tuple(units))


def minus(a: Point, b: Point, factor: float = 1.0) -> Point:
    """a - factor * b with its interval: over paired units; else from the two intervals.

    The latter recovers variances from the distances to the ends (MOVER: Zou and Donner, 2008), with
    which Wilson's intervals of two shares give Newcombe's of their difference.
    """
    if len(a.units) == len(b.units) > 1:
        return over([x - factor * y for x, y in zip(a.units, b.units, strict=True)])
    low, high = sorted((factor * b.low, factor * b.high))
    value = a.value - factor * b.value
    below = math.hypot(a.value - a.low, high - factor * b.value)
    above = math.hypot(a.high - a.value, factor * b.value - low)
    return Point(value, value - below, value + above)


Table = Mapping[str, Point | None]  # None: recorded, but not finite


def as_table(measured: Any, interval: Any = None, values: Any = None, kinds: Any = ()) -> Table:
    """Stored numbers as the table that rules read; a bare number has the label "value".

    values: of every unit, by label; kinds: the labels whose interval is not the range of these.
    """
    measured = measured if isinstance(measured, dict) else {"value": measured}
    pairs = interval if isinstance(interval, dict) else {"value": interval}
    table: dict[str, Point | None] = {}
    for label, value in measured.items():
        own = () if label in kinds else tuple((values or {}).get(label, ()))
        ends = pairs.get(label) or (value, value)
        table[label] = None if value is None else Point(value, ends[0], ends[1], own)
    return table


class Outcome(NamedTuple):
    """How a condition came out, and the numbers behind it in words."""

    level: Level
    text: str


class Unmeasured(Exception):
    """A condition cannot be judged on this table; the text says why."""


class Unrecorded(Unmeasured):
    """A label that the condition needs is not in the table at all."""


@dataclass(frozen=True)
class Compare:
    """`>`: left > factor * right + margin; `<`: left < factor * right - margin.

    A side is a label or a number. Small shares are compared by a factor, not by a margin.
    """

    op: Literal[">", "<"]
    left: str | float
    right: str | float
    margin: float = 0.0
    factor: float = 1.0

    def judge(self, table: Table) -> Outcome:
        left, right = _side(table, self.left), _side(table, self.right)
        gap = minus(left, right, self.factor)
        ahead = gap if self.op == ">" else _negate(gap)
        level = _level(ahead.low > self.margin, ahead.high < self.margin)
        times = "" if self.factor == 1 else f"{number(self.factor)} times "
        text = f"{_named(self.left)}{left} {self.op} {times}{_named(self.right)}{right}"
        if self.margin:
            word = "by more than" if self.margin > 0 else "give or take"
            text += f" {word} {number(abs(self.margin))}"
        return Outcome(level, text + _difference(gap, self.left, self.right, self.factor))


@dataclass(frozen=True)
class Equal:
    """Equivalence: left - right lies within +-`within`, a margin stated before the run."""

    op: Literal["equal"]
    left: str | float
    right: str | float
    within: float

    def judge(self, table: Table) -> Outcome:
        left, right = _side(table, self.left), _side(table, self.right)
        gap = minus(left, right)
        apart = gap.high < -self.within or gap.low > self.within
        level = _level(-self.within <= gap.low and gap.high <= self.within, apart)
        text = f"{_named(self.left)}{left} = {_named(self.right)}{right} within {self.within:g}"
        return Outcome(level, text + _difference(gap, self.left, self.right))


@dataclass(frozen=True)
class Between:
    """low <= label `of` <= high."""

    op: Literal["between"]
    of: str
    low: float
    high: float

    def judge(self, table: Table) -> Outcome:
        point = _side(table, self.of)
        text = f"{number(self.low)} <= {self.of} = {point} <= {number(self.high)}"
        return Outcome(_inside(point, self.low, self.high), text)


@dataclass(frozen=True)
class Extreme:
    """The label `of` + number with the smallest (argmin) or largest value lies within [lo, hi].

    It is looked for in every unit; without units, the places whose intervals reach the best one's.
    """

    op: Literal["argmin", "argmax"]
    of: str
    within: tuple[float, float]

    def judge(self, table: Table) -> Outcome:
        low, high = self.within
        series = _series(table, self.of)
        if len({low <= at <= high for at, _ in series}) < 2:
            where = f"inside and outside [{number(low)}, {number(high)}]"
            raise Unrecorded(f"{self.op} of {self.of!r} needs labels {where}")
        place = self._place([(at, p if self.op == "argmin" else _negate(p)) for at, p in series])
        text = f"{self.op} at {self.of}{place}, expected in [{number(low)}, {number(high)}]"
        return Outcome(_inside(place, low, high), text)

    def _place(self, series: list[tuple[float, Point]]) -> Point:
        """Where the smallest of the series stands."""
        n = max(len(p.units) for _, p in series)
        if n and all(len(p.units) in (1, n) for _, p in series):  # one number counts for all units
            by_unit = zip(*(p.units * (n // len(p.units)) for _, p in series), strict=True)
            return over([series[row.index(min(row))][0] for row in by_unit])
        at, best = min(series, key=lambda each: each[1].value)
        reached = [other for other, p in series if p.low <= best.high]
        return Point(at, min(reached), max(reached))


@dataclass(frozen=True)
class Monotone:
    """Labels `of` + number rise (fall) from first to last, no step the wrong way beyond tolerance.

    It fails where the whole way, or one step by more than the tolerance, surely goes wrong.
    """

    op: Literal["increasing", "decreasing"]
    of: str
    from_: float = -math.inf
    to: float = math.inf
    tolerance: float = 0.0

    def judge(self, table: Table) -> Outcome:
        series = _series(table, self.of, self.from_, self.to)
        if len(series) < 2:
            raise Unrecorded(f"{self.op} {self.of!r} needs two labels or more in its range")
        (first, a), (last, b) = series[0], series[-1]
        rising = [p if self.op == "increasing" else _negate(p) for _, p in series]
        steps = [minus(y, x) for x, y in pairwise(rising)]
        whole = minus(rising[-1], rising[0])
        wrong = [i for i, step in enumerate(steps) if step.value < -self.tolerance]
        sure = whole.high < 0 or any(step.high < -self.tolerance for step in steps)
        text = f"{self.op} from {self.of}{number(first)} ({a}) to {self.of}{number(last)} ({b})"
        names = [f"{number(series[i][0])} to {number(series[i + 1][0])}" for i in wrong]
        text += f", but not from {', '.join(names)}" if names else ""
        return Outcome(_level(not wrong and whole.low > 0, sure), text)


Condition = Compare | Equal | Between | Extreme | Monotone
_KINDS: dict[str, type[Condition]] = {
    op: kind for kind in get_args(Condition) for op in get_args(get_type_hints(kind)["op"])
}


def parse(row: dict[str, Any], where: str) -> Condition:
    """One condition from a ledger row; `where` (claim id and file) heads the error message."""
    op = schema.one_of(f"{where}: op", str(row.get("op")), _KINDS, ClaimError)
    return schema.read(_KINDS[op], row, where, ClaimError)


def _level(holds: bool, fails: bool) -> Level:
    return "holds" if holds else "fails" if fails else "undecided"


def _inside(point: Point, low: float, high: float) -> Level:
    """Whether all, none or some of an interval lies within [low, high]."""
    return _level(low <= point.low and point.high <= high, point.high < low or point.low > high)


def _negate(point: Point) -> Point:
    return Point(-point.value, -point.high, -point.low, tuple(-v for v in point.units))


def _named(side: str | float) -> str:
    return f"{side} = " if isinstance(side, str) else ""


def _difference(gap: Point, left: str | float, right: str | float, factor: float = 1.0) -> str:
    """The difference in words, where it says more than the two sides."""
    both = isinstance(left, str) and isinstance(right, str)
    return f" (difference {gap})" if both and factor == 1 and gap.low < gap.high else ""


def _side(table: Table, side: str | float) -> Point:
    if not isinstance(side, str):
        return Point(side, side, side)
    if side not in table:
        raise Unrecorded(f"label {side!r} was not recorded")
    if (point := table[side]) is None:
        raise Unmeasured(f"label {side!r} has no finite value")
    return point


def _series(
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
            found.append((at, _side(table, label)))
    return sorted(found)
