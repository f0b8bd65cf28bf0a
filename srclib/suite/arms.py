"""What a figure shows of a tidy table: its arms, each with its name and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ParameterError, message
from .look import Labels, text


class Arm(NamedTuple):
    """One curve of a figure, or its bars of one colour."""

    key: Any
    label: str
    values: dict[Any, np.ndarray]  # {setting: one number per unit}, in the order of the table
    units: list[Any]  # a Series per unit, indexed by the setting
    ends: dict[Any, tuple[float, float]]  # {setting: (low, high)}, where an interval was given


def arms(
    data: Any,
    x: str,
    by: str | None,
    unit: str | Sequence[str],
    labels: Labels,
    interval: Any,
) -> list[Arm]:
    """The columns of a table, or what its level `by` keeps apart, in the order of the table.

    interval: (low, high), tables like `data` with one row per point; else no such table is there.
    """
    parts, found = _parts(data, x, by, unit), []
    tables = list(interval) if isinstance(interval, tuple) else []
    tables = tables if data.ndim > 1 else [table.rename(data.name) for table in tables]
    low_high = [_parts(table, x, by, unit) for table in tables]
    for key, part in parts.items():
        rest = [level for level in part.index.names if level != x]
        units = [each.droplevel(rest) for _, each in part.groupby(level=rest)] if rest else [part]
        values = {s: group.to_numpy(float) for s, group in part.groupby(level=x, sort=False)}
        ends = {s: tuple(t[key].loc[s] for t in low_high) for s in values if low_high}
        found.append(Arm(key, text(key, labels, by), values, units, ends))
    return found


def _parts(data: Any, x: str, by: str | None, unit: str | Sequence[str]) -> dict[Any, Any]:
    """{arm: its Series}. Raises ParameterError for levels that are missing or unexplained."""
    if data.empty:
        return {}
    parts = {data.name or "": data} if data.ndim == 1 else dict(data.items())
    levels, units = list(data.index.names), [unit] if isinstance(unit, str) else list(unit)
    for name, level in {"x": x, "by": by or x}.items():
        if level not in levels:
            fix = "Name the index, or choose one of these."
            raise ParameterError(message(name, level, f"a level of the index, {levels}", fix))
    rest = [level for level in levels if level not in (x, by)]
    if len(rest) > 1 and (unknown := [level for level in rest if level not in units]):
        fix = f"Take the mean over {unknown} first, or name them as by or unit."
        raise ParameterError(message("index", levels, f"{[x, by]} and unit={units}", fix))
    if by is None:
        return parts
    if len(parts) > 1:
        raise ParameterError(message("by", by, "a level of one column", "Choose the column."))
    (series,) = parts.values()
    return {key: part.droplevel(by) for key, part in series.groupby(level=by, sort=False)}
