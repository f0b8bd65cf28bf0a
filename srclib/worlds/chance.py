"""Weighted choices, from one uniform number each."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Weighted(NamedTuple, Generic[T]):
    """Things with cumulative probabilities."""

    things: Sequence[T]
    below: Sequence[float]


def uniform(things: Sequence[T]) -> Weighted[T]:
    return Weighted(things, [(i + 1) / len(things) for i in range(len(things))])


def zipf(things: Sequence[T], exponent: float = 1.0) -> Weighted[T]:
    sums = list(accumulate((i + 1) ** -exponent for i in range(len(things))))
    return Weighted(things, [s / sums[-1] for s in sums])


def pick(weighted: Weighted[T], u: float) -> T:
    """The thing that a uniform number in [0, 1) falls on."""
    return weighted.things[bisect(weighted.below, u)]
