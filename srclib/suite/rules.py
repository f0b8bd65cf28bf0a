"""Rules of the claims ledger: conditions as data over a table of measured labels.

A condition `holds` where it is true over the whole interval of what it looks at, and `fails` where
it is false over the whole of it; between the two nothing was measured that could tell. Two labels
with the same units are compared unit by unit: the interval is that of their paired difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from ..errors import ClaimError, message
from . import schema
from .curves import Extreme, Monotone
from .outcomes import Outcome, came, lies, slack
from .points import Point, Table, Unmeasured, minus, negate, number, side_of


class OfSides:
    """A condition on two sides, each a label or a number."""

    left: str | float
    right: str | float

    def reads(self, table: Table) -> list[str]:
        """The labels that it looks at."""
        return [side for side in (self.left, self.right) if isinstance(side, str)]


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
        more = slack(self.margin)
        level = came(ahead.low > self.margin + more, ahead.high < self.margin - more)
        if not (isinstance(self.left, str) and isinstance(self.right, str)):
            level = "fails" if ahead.high <= self.margin + more else level
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
        gap, bound = minus(left, right), self.within + slack(self.within)
        level = lies(gap, -bound, bound)
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
        low, high = self.low - slack(self.low), self.high + slack(self.high)
        return Outcome(lies(point, low, high), text)


Condition = Compare | Equal | Between | Extreme | Monotone
_KINDS: dict[str, type[Condition]] = {
    op: kind for kind in get_args(Condition) for op in get_args(get_type_hints(kind)["op"])
}


def parse(row: dict[str, Any], where: str) -> Condition:
    """One condition from a ledger row; `where` (claim id and file) heads the error message."""
    op = schema.one_of(f"{where}: op", str(row.get("op")), _KINDS, ClaimError)
    return schema.read(_KINDS[op], row, where, ClaimError)


def _side_name(side: str | float) -> str:
    return side if isinstance(side, str) else number(side)


def _named(side: str | float) -> str:
    return f"{side} = " if isinstance(side, str) else ""


def _difference(gap: Point, left: str | float, right: str | float, factor: float = 1.0) -> str:
    """The difference in words, where it says more than the two sides."""
    both = isinstance(left, str) and isinstance(right, str)
    return f" (difference {gap})" if both and factor == 1 and gap.low < gap.high else ""
