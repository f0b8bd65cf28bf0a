"""Rules of the claims ledger: conditions as data over a table of measured labels.

A condition `holds` where it is true over the whole interval of what it looks at, and `fails` where
it is false over the whole of it; between the two nothing was measured that could tell. Two labels
with the same units are compared unit by unit: the interval is that of their paired difference.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from ..errors import ClaimError, message
from . import schema
from .points import (
    Point,
    Table,
    Unmeasured,
    Unrecorded,
    minus,
    negate,
    number,
    over,
    series_of,
    side_of,
)

Level = Literal["holds", "undecided", "fails"]


class Outcome(NamedTuple):
    """How a condition came out, and the numbers behind it in words."""

    level: Level
    text: str


class OfSides:
    """A condition on two sides, each a label or a number."""

    left: str | float
    right: str | float

    def reads(self, table: Table) -> list[str]:
        """The labels that it looks at."""
        return [side for side in (self.left, self.right) if isinstance(side, str)]


class OfSeries:
    """A condition on all labels that are a prefix and a number."""

    of: str

    def reads(self, table: Table) -> list[str]:
        """The labels that it looks at."""
        return [label for label in table if label.startswith(self.of)]


@dataclass(frozen=True)
class Compare(OfSides):
    """`>`: left > factor * right + margin; `<`: left < factor * right - margin.

    Small shares are compared by a factor, not by a margin. Where two
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

    def __str__(self) -> str:
        times = "" if self.factor == 1 else f"{number(self.factor)} × "
        more = f" {'+' if self.margin > 0 else '-'} {number(abs(self.margin))}" * bool(self.margin)
        more = more.translate({ord("+"): "-", ord("-"): "+"}) if self.op == "<" else more
        return f"{_side_name(self.left)} {self.op} {times}{_side_name(self.right)}{more}"

    def judge(self, table: Table) -> Outcome:
        left, right = side_of(table, self.left), side_of(table, self.right)
        if self.factor != 1 and min(left.low, right.low) < 0:
            raise Unmeasured(f"a factor compares shares, and {left} or {right} is below 0")
        gap = minus(left, right, self.factor)
        ahead = gap if self.op == ">" else negate(gap)
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
class Equal(OfSides):
    """Equivalence: left - right lies within +-`within`, a margin stated before the run."""

    op: Literal["equal"]
    left: str | float
    right: str | float
    within: float

    def __post_init__(self) -> None:
        if not self.within >= 0:
            raise ValueError(message("within", self.within, ">= 0", "State the margin."))

    def __str__(self) -> str:
        sides = f"{_side_name(self.left)} = {_side_name(self.right)}"
        return f"{sides} within ±{number(self.within)}"

    def judge(self, table: Table) -> Outcome:
        left, right = side_of(table, self.left), side_of(table, self.right)
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

    def __str__(self) -> str:
        return f"{number(self.low)} ≤ {self.of} ≤ {number(self.high)}"

    def reads(self, table: Table) -> list[str]:
        return [self.of]

    def judge(self, table: Table) -> Outcome:
        point = side_of(table, self.of)
        text = f"{number(self.low)} <= {self.of} = {point} <= {number(self.high)}"
        low, high = self.low - _slack(self.low), self.high + _slack(self.high)
        return Outcome(_inside(point, low, high), text)


@dataclass(frozen=True)
class Extreme(OfSeries):
    """The label `of` + number with the smallest (argmin) or largest value lies within [lo, hi].

    It is looked for in every unit, where ties reach from the first place to the last; without
    units, in the places whose intervals reach the best one's. tolerance: by how much the best value
    elsewhere may be better in a unit, where neighbours are closer than what counts. Then a flat
    curve holds too: state beside it that the curve rises and falls.
    """

    op: Literal["argmin", "argmax"]
    of: str
    within: tuple[float, float]
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(message("tolerance", self.tolerance, ">= 0", "State the margin."))

    def __str__(self) -> str:
        low, high = map(number, self.within)
        word = "smallest" if self.op == "argmin" else "largest"
        slack = f", give or take {number(self.tolerance)}" if self.tolerance else ""
        where = f"at {low}" if low == high else f"from {low} to {high}"
        return f"{self.of}… is {word} {where}{slack}"

    def judge(self, table: Table) -> Outcome:
        low, high = self.within
        inside = f"[{number(low)}, {number(high)}]"
        series = series_of(table, self.of)
        if len({low <= at <= high for at, _ in series}) < 2:
            raise Unrecorded(f"{self.op} of {self.of!r} needs labels inside and outside {inside}")
        series = [(at, p if self.op == "argmin" else negate(p)) for at, p in series]
        if self.tolerance:
            best = [
                functools.reduce(_smaller, (p for at, p in series if (low <= at <= high) is here))
                for here in (True, False)
            ]
            behind, slack = minus(best[0], best[1]), self.tolerance + _slack(self.tolerance)
            text = f"{self.op} of {self.of} in {inside}, behind others by {behind}"
            level = _level(behind.high <= slack, behind.low > slack)
            return Outcome(level, f"{text}, allowed {number(self.tolerance)}")
        place = self._place(series)
        text = f"{self.op} at {self.of}{place}, expected in {inside}"
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
class Monotone(OfSeries):
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

    def __str__(self) -> str:
        word = "rises" if self.op == "increasing" else "falls"
        ends = ((" from ", self.from_), (" to ", self.to))
        bounds = "".join(f"{text}{number(at)}" for text, at in ends if math.isfinite(at))
        slack = f", give or take {number(self.tolerance)}" if self.tolerance else ""
        return f"{self.of}… {word}{bounds}{slack}"

    def judge(self, table: Table) -> Outcome:
        series = series_of(table, self.of, self.from_, self.to)
        if len(series) < 2:
            raise Unrecorded(f"{self.op} {self.of!r} needs two labels or more in its range")
        (first, a), (last, b) = series[0], series[-1]
        rising = [(at, p if self.op == "increasing" else negate(p)) for at, p in series]
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


def _smaller(a: Point, b: Point) -> Point:
    """The smaller of two in every unit; without common units, the one with the smaller value."""
    if len(a.units) == len(b.units) > 1:
        return over([min(pair) for pair in zip(a.units, b.units, strict=True)])
    return min(a, b, key=lambda point: point.value)


def _inside(point: Point, low: float, high: float) -> Level:
    """Whether all, none or some of an interval lies within [low, high]."""
    return _level(low <= point.low and point.high <= high, point.high < low or point.low > high)


def _side_name(side: str | float) -> str:
    return side if isinstance(side, str) else number(side)


def _named(side: str | float) -> str:
    return f"{side} = " if isinstance(side, str) else ""


def _difference(gap: Point, left: str | float, right: str | float, factor: float = 1.0) -> str:
    """The difference in words, where it says more than the two sides."""
    both = isinstance(left, str) and isinstance(right, str)
    return f" (difference {gap})" if both and factor == 1 and gap.low < gap.high else ""
