"""Conditions on a curve: labels that are one prefix and a number, see `srclib.suite.rules`."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from ..errors import message
from .outcomes import Outcome, came, lies, slack
from .points import Point, Table, Unrecorded, minus, negate, number, over, series_of, smaller


class OfSeries:
    """A condition on all labels that are a prefix and a number."""

    of: str

    def reads(self, table: Table) -> list[str]:
        """The labels that it looks at."""
        return [label for label in table if label.startswith(self.of)]


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
        more = f", give or take {number(self.tolerance)}" if self.tolerance else ""
        where = f"at {low}" if low == high else f"from {low} to {high}"
        return f"{self.of}… is {word} {where}{more}"

    def judge(self, table: Table) -> Outcome:
        low, high = self.within
        inside = f"[{number(low)}, {number(high)}]"
        series = series_of(table, self.of)
        if len({low <= at <= high for at, _ in series}) < 2:
            raise Unrecorded(f"{self.op} of {self.of!r} needs labels inside and outside {inside}")
        series = [(at, p if self.op == "argmin" else negate(p)) for at, p in series]
        if self.tolerance:
            best = [
                functools.reduce(smaller, (p for at, p in series if (low <= at <= high) is here))
                for here in (True, False)
            ]
            behind = minus(best[0], best[1])
            bound = self.tolerance + slack(self.tolerance)
            text = f"{self.op} of {self.of} in {inside}, behind others by {behind}"
            level = came(behind.high <= bound, behind.low > bound)
            return Outcome(level, f"{text}, allowed {number(self.tolerance)}")
        place = self._place(series)
        text = f"{self.op} at {self.of}{place}, expected in {inside}"
        return Outcome(lies(place, low, high), text)

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
        more = f", give or take {number(self.tolerance)}" if self.tolerance else ""
        return f"{self.of}… {word}{bounds}{more}"

    def judge(self, table: Table) -> Outcome:
        series = series_of(table, self.of, self.from_, self.to)
        if len(series) < 2:
            raise Unrecorded(f"{self.op} {self.of!r} needs two labels or more in its range")
        (first, a), (last, b) = series[0], series[-1]
        rising = [(at, p if self.op == "increasing" else negate(p)) for at, p in series]
        whole, bound = minus(rising[-1][1], rising[0][1]), self.tolerance + slack(self.tolerance)
        back = [  # each place with every later one: small steps back must not add up
            (minus(y, x), f"{number(i)} to {number(j)}")
            for (i, x), (j, y) in combinations(rising, 2)
        ]
        wrong = [name for step, name in back if step.low < -bound]
        sure = whole.high < 0 or any(step.high < -bound for step, _ in back)
        text = f"{self.op} from {self.of}{number(first)} ({a}) to {self.of}{number(last)} ({b})"
        text += f", but not surely from {', '.join(wrong[:4])}" if wrong else ""
        return Outcome(came(not wrong and whole.low > 0, sure), text)
