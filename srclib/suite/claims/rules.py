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
from typing import Literal, NamedTuple

from ...errors import ClaimError
from ..params.fields import nearest
from .measurement import Point, Table, number

Level = Literal["holds", "centre", "fails"]


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

    of: str
    low: float
    high: float

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
    start: float = -math.inf
    end: float = math.inf
    tolerance: float = 0.0

    def judge(self, table: Table) -> Outcome:
        series = _series(table, self.of, self.start, self.end)
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


def parse(row: object, where: str) -> Condition:
    """One condition from a ledger row; `where` (claim id and file) heads the error message."""
    if not isinstance(row, Mapping):
        raise ClaimError(f"{where}: {row!r} is no condition. Write {{op = ..., ...}}.")
    read = _Reader(row, where)
    match row.get("op"):
        case ">" | "<" as op:
            read.only("left", "right", "margin")
            return Compare(op, read.side("left"), read.side("right"), read.number("margin", 0.0))
        case "between":
            read.only("of", "low", "high")
            low, high = read.ordered([read.number("low"), read.number("high")])
            return Between(read.label("of"), low, high)
        case "argmin" | "argmax" as op:
            read.only("of", "within")
            return Extreme(op, read.label("of"), read.ordered(row.get("within")))
        case "increasing" | "decreasing" as op:
            read.only("of", "from", "to", "tolerance")
            start, end = read.number("from", -math.inf), read.number("to", math.inf)
            tolerance = read.number("tolerance", 0.0)
            return Monotone(op, read.label("of"), start, end, tolerance)
    ops = ">, <, between, argmin, argmax, increasing, decreasing"
    raise ClaimError(f"{where}: op={row.get('op')!r}: allowed is {ops}. Use one of these.")


@dataclass(frozen=True)
class _Reader:
    """Typed access to one condition's fields."""

    row: Mapping[str, object]
    where: str

    def only(self, *allowed: str) -> None:
        for key in self.row.keys() - {"op", *allowed}:
            hint = nearest(key, allowed)
            raise ClaimError(f"{self.where}: unknown field {key!r} of {self.row['op']}. {hint}")

    def label(self, name: str) -> str:
        value = self.row.get(name)
        if not isinstance(value, str) or not value:
            raise self._fault(name, "a label")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.row.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise self._fault(name, "a number")
        return float(value)

    def side(self, name: str) -> str | float:
        value = self.row.get(name)
        return self.label(name) if isinstance(value, str) else self.number(name)

    def ordered(self, value: object) -> tuple[float, float]:
        match value:
            case [int() | float() as low, int() | float() as high] if low <= high:
                return float(low), float(high)
        raise ClaimError(
            f"{self.where}: {value!r}: allowed is [low, high], low <= high. Correct it."
        )

    def _fault(self, name: str, allowed: str) -> ClaimError:
        seen = self.row.get(name, "nothing")
        return ClaimError(f"{self.where}: {name}={seen!r}: allowed is {allowed}. Correct it.")


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
    at = {label: _number_after(prefix, label) for label in table}
    return sorted(
        (x, _side(table, n)) for n, x in at.items() if x is not None and start <= x <= end
    )


def _number_after(prefix: str, label: str) -> float | None:
    if not label.startswith(prefix):
        return None
    try:
        value = float(label.removeprefix(prefix))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
