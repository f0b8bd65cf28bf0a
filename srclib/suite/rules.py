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
from itertools import accumulate, combinations
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from ..errors import ClaimError, message
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

    A side is a label or a number. Small shares are compared by a factor, not by a margin. Where two
    labels tie nothing was measured; a number that is only just reached is not exceeded.
    """

    op: Literal[">", "<"]
    left: str | float
    right: str | float
    margin: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.factor > 0:
            raise ValueError(message("factor", self.factor, "> 0", "Write 2 for twice as much."))

    def reads(self, table: Table) -> list[str]:
        return [side for side in (self.left, self.right) if isinstance(side, str)]

    def judge(self, table: Table) -> Outcome:
        left, right = _side(table, self.left), _side(table, self.right)
        if self.factor != 1 and min(left.low, right.low) < 0:
            raise Unmeasured(f"a factor compares shares, and {left} or {right} is below 0")
        gap = minus(left, right, self.factor)
        ahead = gap if self.op == ">" else _negate(gap)
        slack = _slack(self.margin)
        level = _level(ahead.low > self.margin + slack, ahead.high < self.margin - slack)
        if not (isinstance(self.left, str) and isinstance(self.right, str)):
            level = "fails" if ahead.high <= self.margin + slack else level
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

    def __post_init__(self) -> None:
        if not self.within >= 0:
            raise ValueError(message("within", self.within, ">= 0", "State the margin."))

    def reads(self, table: Table) -> list[str]:
        return [side for side in (self.left, self.right) if isinstance(side, str)]

    def judge(self, table: Table) -> Outcome:
        left, right = _side(table, self.left), _side(table, self.right)
        gap, slack = minus(left, right), _slack(self.within)
        level = _inside(gap, -self.within - slack, self.within + slack)
        text = f"{_named(self.left)}{left} = {_named(self.right)}{right} within {self.within:g}"
        return Outcome(level, text + _difference(gap, self.left, self.right))


@dataclass(frozen=True)
class Between:
    """low <= label `of` <= high."""

    op: Literal["between"]
    of: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(message("low", self.low, f"<= high={self.high}", "Swap them."))

    def reads(self, table: Table) -> list[str]:
        return [self.of]

    def judge(self, table: Table) -> Outcome:
        point = _side(table, self.of)
        text = f"{number(self.low)} <= {self.of} = {point} <= {number(self.high)}"
        low, high = self.low - _slack(self.low), self.high + _slack(self.high)
        return Outcome(_inside(point, low, high), text)


@dataclass(frozen=True)
class Extreme:
    """The label `of` + number with the smallest (argmin) or largest value lies within [lo, hi].

    It is looked for in every unit, where ties reach from the first place to the last; without
    units, in the places whose intervals reach the best one's.
    """

    op: Literal["argmin", "argmax"]
    of: str
    within: tuple[float, float]

    def reads(self, table: Table) -> list[str]:
        return [label for label in table if label.startswith(self.of)]

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
            reached = [
                [at for (at, _), value in zip(series, row, strict=True) if value == min(row)]
                for row in by_unit
            ]
            first, last = (over([each[i] for each in reached]) for i in (0, -1))
            return Point((first.value + last.value) / 2, first.low, last.high)
        at, best = min(series, key=lambda each: each[1].value)
        within = [other for other, p in series if p.low <= best.high]
        return Point(at, min(within), max(within))


@dataclass(frozen=True)
class Monotone:
    """Labels `of` + number rise (fall) from first to last, and none falls back beyond tolerance.

    It fails where the whole way, or a step back by more than the tolerance, is surely wrong.
    """

    op: Literal["increasing", "decreasing"]
    of: str
    from_: float = -math.inf
    to: float = math.inf
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(message("tolerance", self.tolerance, ">= 0", "State the margin."))

    def reads(self, table: Table) -> list[str]:
        return [label for label in table if label.startswith(self.of)]

    def judge(self, table: Table) -> Outcome:
        series = _series(table, self.of, self.from_, self.to)
        if len(series) < 2:
            raise Unrecorded(f"{self.op} {self.of!r} needs two labels or more in its range")
        (first, a), (last, b) = series[0], series[-1]
        rising = [(at, p if self.op == "increasing" else _negate(p)) for at, p in series]
        whole, slack = minus(rising[-1][1], rising[0][1]), self.tolerance + _slack(self.tolerance)
        back = [  # each place with every later one: small steps back must not add up
            (minus(y, x), f"{number(i)} to {number(j)}")
            for (i, x), (j, y) in combinations(rising, 2)
        ]
        wrong = [name for step, name in back if step.low < -slack]
        sure = whole.high < 0 or any(step.high < -slack for step, _ in back)
        text = f"{self.op} from {self.of}{number(first)} ({a}) to {self.of}{number(last)} ({b})"
        text += f", but not surely from {', '.join(wrong[:4])}" if wrong else ""
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


def _slack(bound: float) -> float:
    """What rounding may add: 0.3 is 0.1 above 0.2."""
    return 1e-9 * max(1.0, abs(bound))


def _inside(point: Point, low: float, high: float) -> Level:
    """Whether all, none or some of an interval lies within [low, high]."""
    return _level(low <= point.low and point.high <= high, point.high < low or point.low > high)


def _negate(point: Point) -> Point:
    negated = tuple(-v for v in point.units)
    return Point(-point.value, -point.high, -point.low, negated, point.confident)


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
        raise Unmeasured(f"label {side!r} has a unit without a finite value")
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
