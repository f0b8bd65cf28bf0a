"""How a condition of a rule comes out, see `srclib.suite.rules`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from .points import Point

Level = Literal["holds", "undecided", "fails"]


class Outcome(NamedTuple):
    """How a condition came out, and the numbers behind it in words."""

    level: Level
    text: str


def came(holds: bool, fails: bool) -> Level:
    """From whether a condition surely holds, and whether it surely fails."""
    return "holds" if holds else "fails" if fails else "undecided"


def slack(bound: float) -> float:
    """What rounding may add: 0.3 is 0.1 above 0.2."""
    return 1e-9 * max(1.0, abs(bound))


def lies(point: Point, low: float, high: float) -> Level:
    """Whether all, none or some of an interval lies within [low, high]."""
    return came(low <= point.low and point.high <= high, point.high < low or point.low > high)
