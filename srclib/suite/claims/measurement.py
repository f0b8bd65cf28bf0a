"""From values per seed to what a record keeps: medians, intervals, number of seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import ClaimError, message

Measured = float | None | dict[str, float | None]
Pair = list[float]
Interval = Pair | None | dict[str, Pair | None]


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


def measure(id: str, values: object) -> tuple[Measured, Interval, int]:
    """Median, [min, max] and number of seeds of what a notebook recorded for claim `id`.

    A value that is not finite is kept as None: JSON has no NaN, and no verdict needs one.
    """
    table = values if isinstance(values, Mapping) else {"value": values}
    if not table or not all(isinstance(label, str) and label for label in table):
        raise ClaimError(f"{id}: labels {list(table)!r}: allowed are texts. Give each a label.")
    series = {label: _numbers(f"{id}, label {label!r}", value) for label, value in table.items()}
    lengths = {len(numbers) for numbers, per_seed in series.values() if per_seed}
    if len(lengths) > 1:
        raise ClaimError(f"{id}: labels have {sorted(lengths)} seeds. Record the same for each.")
    n_seeds = max(lengths, default=1)
    medians: dict[str, float | None] = {}
    spreads: dict[str, Pair | None] = {}
    for label, (numbers, _) in series.items():
        finite = all(map(math.isfinite, numbers))
        medians[label] = statistics.median(numbers) if finite else None
        spreads[label] = [min(numbers), max(numbers)] if finite else None
    if isinstance(values, Mapping):
        return medians, spreads if n_seeds > 1 else None, n_seeds
    return medians["value"], spreads["value"] if n_seeds > 1 else None, n_seeds


def given_interval(id: str, interval: Any, measured: Measured) -> Interval:
    """An interval that the notebook states itself, checked against the measured values."""
    pairs = interval if isinstance(interval, Mapping) else {"value": interval}
    points = as_table(measured, None)
    if isinstance(interval, Mapping) != isinstance(measured, dict) or pairs.keys() != points.keys():
        raise ClaimError(f"{id}: interval must have the labels {list(points)}. Give one for each.")
    clean: dict[str, Pair | None] = {}
    for label, pair in pairs.items():
        where, point = f"{id}, interval of {label!r}", points[label]
        numbers, _ = _numbers(where, pair)
        ordered = len(numbers) == 2 and (point is None or numbers[0] <= point.value <= numbers[1])
        if not ordered or not all(map(math.isfinite, numbers)):
            raise ClaimError(message(where, pair, "[low, high] around the value", "Correct it."))
        clean[label] = numbers
    return clean if isinstance(measured, dict) else clean["value"]


def as_table(measured: Measured, interval: Interval) -> Table:
    """Stored numbers as the table that rules read; a bare number has the label "value"."""
    values = measured if isinstance(measured, dict) else {"value": measured}
    pairs = interval if isinstance(interval, dict) else {"value": interval}
    table: dict[str, Point | None] = {}
    for label, value in values.items():
        if value is None or not math.isfinite(value):
            table[label] = None
        else:
            low, high = pairs.get(label) or (value, value)
            table[label] = Point(value, low, high)
    return table


def _numbers(where: str, value: Any) -> tuple[list[float], bool]:
    """The numbers, and whether they are one per seed; tensors and arrays are taken as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    per_seed = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = list(value) if per_seed else [value]
    numbers = [n.item() if hasattr(n, "item") else n for n in numbers]
    if not numbers or not all(
        isinstance(n, int | float) and not isinstance(n, bool) for n in numbers
    ):
        raise ClaimError(message(where, value, "a number or one per seed", "Record numbers."))
    return [float(n) for n in numbers], per_seed
