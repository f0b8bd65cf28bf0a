"""Rules of the claims ledger: conditions as data over a table of measured labels.

A condition is judged at three levels. `holds`: true for the measured values and also at
the unfavourable ends of their intervals. `centre`: true for the measured values alone.
`fails`: not even that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from ..errors import ClaimError
from . import schema

Level = Literal["holds", "centre", "fails"]


def number(value: float) -> str:
    """Four significant digits; whole numbers as such."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


class Point(NamedTuple):
    """A measured value with the ends of its interval (both equal to it for one seed)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.value)
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


Table = Mapping[str, Point | None]  # None: recorded, but not finite


def as_table(measured: Any, interval: Any = None) -> Table:
    """Stored numbers as the table that rules read; a bare number has the label "value"."""
    values = measured if isinstance(measured, dict) else {"value": measured}
    pairs = interval if isinstance(interval, dict) else {"value": interval}
    return {
        label: None if value is None else Point(value, *(pairs.get(label) or (value, value)))
        for label, value in values.items()
    }


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
    """`>`: left > right + margin; `<`: left < right - margin. A side is a label or a number."""

    op: Literal[">", "<"]
    left: str | float
    right: str | float
    margin: float = 0.0

    def judge(self, table: Table) -> Outcome:
        left, right = _side(table, self.left), _side(table, self.right)
        large, small = (left, right) if self.op == ">" else (right, left)
        level = _level(
            centre=large.value > small.value + self.margin,
            robust=large.low > small.high + self.margin,
        )
        names = [f"{s} = " if isinstance(s, str) else "" for s in (self.left, self.right)]
        text = f"{names[0]}{left} {self.op} {names[1]}{right}"
        if self.margin:
            word = "by more than" if self.margin > 0 else "give or take"
            text += f" {word} {number(abs(self.margin))}"
        return Outcome(level, text)


@dataclass(frozen=True)
class Between:
    """low <= label `of` <= high."""

    op: Literal["between"]
    of: str
    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def judge(self, table: Table) -> Outcome:
        point = _side(table, self.of)
        level = _level(
            centre=self.low <= point.value <= self.high,
            robust=self.low <= point.low and point.high <= self.high,
        )
        return Outcome(level, f"{number(self.low)} <= {self.of} = {point} <= {number(self.high)}")


@dataclass(frozen=True)
class Extreme:
    """The label `of` + number with the smallest (argmin) or largest value lies within [lo, hi]."""

    op: Literal["argmin", "argmax"]
    of: str
    within: tuple[float, float]

    def __post_init__(self) -> None:
        _ordered(*self.within)

    def judge(self, table: Table) -> Outcome:
        low, high = self.within
        series = _series(table, self.of)
        signed = [(at, p if self.op == "argmin" else _negate(p)) for at, p in series]
        inside = [point for at, point in signed if low <= at <= high]
        outside = [point for at, point in signed if not low <= at <= high]
        if not inside or not outside:
            where = f"inside and outside [{number(low)}, {number(high)}]"
            raise Unrecorded(f"{self.op} of {self.of!r} needs labels {where}")
        level = _level(
            centre=min(p.value for p in inside) < min(p.value for p in outside),
            robust=min(p.high for p in inside) < min(p.low for p in outside),
        )
        best = min(range(len(signed)), key=lambda i: signed[i][1].value)
        found = f"{self.op} at {self.of}{number(series[best][0])} ({series[best][1]})"
        return Outcome(level, f"{found}, expected in [{number(low)}, {number(high)}]")


@dataclass(frozen=True)
class Monotone:
    """Labels `of` + number, sorted by it, never step the wrong way by more than tolerance.

    Robust: besides, no two neighbouring intervals lie wholly the wrong way round."""

    op: Literal["increasing", "decreasing"]
    of: str
    from_: float = -math.inf
    to: float = math.inf
    tolerance: float = 0.0

    def judge(self, table: Table) -> Outcome:
        series = _series(table, self.of, self.from_, self.to)
        if len(series) < 2:
            raise Unrecorded(f"{self.op} {self.of!r} needs two labels or more in its range")
        rising = [p if self.op == "increasing" else _negate(p) for _, p in series]
        pairs = list(pairwise(rising))
        wrong = [i for i, (a, b) in enumerate(pairs) if b.value < a.value - self.tolerance]
        disjoint = [i for i, (a, b) in enumerate(pairs) if b.high < a.low]
        level = _level(centre=not wrong, robust=not wrong and not disjoint)
        (first, a), (last, b) = series[0], series[-1]
        text = f"{self.op} from {self.of}{number(first)} ({a}) to {self.of}{number(last)} ({b})"
        steps = [f"{number(series[i][0])} to {number(series[i + 1][0])}" for i in wrong or disjoint]
        return Outcome(level, text + (f", but not from {', '.join(steps)}" if steps else ""))


Condition = Compare | Between | Extreme | Monotone
_KINDS: dict[str, type[Condition]] = {
    op: kind for kind in get_args(Condition) for op in get_args(get_type_hints(kind)["op"])
}


def parse(row: object, where: str) -> Condition:
    """One condition from a ledger row; `where` (claim id and file) heads the error message."""
    row = schema.table(row, where, ClaimError)
    op = schema.one_of(f"{where}: op", str(row.get("op")), _KINDS, ClaimError)
    return schema.read(_KINDS[op], row, where, ClaimError)


def _ordered(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"[{low}, {high}]: allowed is low <= high. Correct it.")


def _level(centre: bool, robust: bool) -> Level:
    return "fails" if not centre else "holds" if robust else "centre"


def _negate(point: Point) -> Point:
    return Point(-point.value, -point.high, -point.low)


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
