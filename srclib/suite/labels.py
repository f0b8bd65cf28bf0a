"""From the parts of a claim's measurement to labels with one number per outermost unit.

    ledger.record("l0.toy.further_is_worse", table.mcc, by="k")          # "k=1", "k=2", ...
    ledger.record("l0.toy.low_l0_mixes_all", table.query("k == 5")[["recovered", "rare"]])
    ledger.record("md.ctl.gap", {"gap": md - fix, "noise floor": noise})

Values are paired by index, never by position: row order must not decide which seed is compared
with which.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd

from .. import metrics
from ..errors import ClaimError, message, nearest

By = str | Sequence[str] | None


@dataclass
class Labelled:
    """What a record keeps of a measurement."""

    measured: dict[str, float | None] = field(default_factory=dict)
    interval: dict[str, list[float] | None] = field(default_factory=dict)
    values: dict[str, list[float | None]] = field(default_factory=dict)
    """one number per outermost unit, in the order of the units"""
    kinds: dict[str, str] = field(default_factory=dict)
    """what an interval is where it is not the range over units"""
    n_units: int = 1
    bare: bool = False
    """one part without a label of its own: `measured` is a number"""


def labelled(
    id: str,
    *parts: Any,
    by: By = None,
    unit: str = "seed",
    cluster: str | None = None,
    within: str | None = None,
) -> Labelled:
    """Labels with values per unit, medians and the interval that fits.

    parts: a number, one number per unit (a list), a Series, a DataFrame (one label per column), or
        {label: any of these but a DataFrame}. In a Series the level `unit` counts the outermost
        random unit; levels in `by` become labels, `k=5`; a level with a single value is a
        selection and says nothing; any other level is refused. A Series of bools is a share of
        units. A part may be empty: what was not run has no label.
    by: a level, several, or a template such as "F1@{q} k={k}", in which {label} is the column's
        or the mapping's label; without {label} a template stands alone.
    cluster: the level of people inside a unit. A unit's value is the mean over its rows; with one
        unit the interval is Student's t over clusters.
    within: the level of inner units. A unit's value is the mean over them; with one unit they are
        shown instead, and their range.

    Intervals: range over units; Wilson's for a share. Raises ClaimError naming `id` and the label.
    """
    out = Labelled()
    named, out.bare = _parts(id, parts)
    levels = [by] if isinstance(by, str) and "{" not in by else by
    template, wanted = _template(levels)
    seen = {name for _, part in named if isinstance(part, pd.Series) for name in part.index.names}
    for level in wanted:
        if seen and level not in seen:
            raise ClaimError(f"{id}: by names the level {level!r}: {_there(level, seen)}")
    out.bare = out.bare and not wanted
    units: dict[str, list[Any]] = {}
    for stem, part in named:
        if not isinstance(part, pd.Series):
            _plain(id, stem, part, out, units)
            continue
        for label, series in _split(id, stem, part, template, wanted, {unit, cluster, within}):
            if label in out.measured:
                raise ClaimError(f"{id}: label {label!r} occurs twice. Give each part its own.")
            _summarise(id, label, series, (unit, cluster, within), out, units)
    if not all(map(str, out.measured)):
        raise ClaimError(f"{id}: a label is empty: allowed are texts. Name the Series.")
    _pair(id, unit, units, out)
    out.n_units = max(map(len, units.values()), default=1)
    return out


def _parts(id: str, parts: Sequence[Any]) -> tuple[list[tuple[str, Any]], bool]:
    """(label, Series, list or number) of every part, and whether it is one without a label."""
    if not parts:
        raise ClaimError(f"{id}: nothing was recorded. Give a number, a Series or a table.")
    named: list[tuple[str, Any]] = []
    for part in parts:
        if isinstance(part, pd.DataFrame):
            named += [(str(column), part[column]) for column in part.columns]
        elif isinstance(part, Mapping):
            named += [(str(label), value) for label, value in part.items()]
        elif isinstance(part, pd.Series) and len(parts) > 1:
            named.append(("" if part.name is None else str(part.name), part))
        else:
            named.append(("value", part))
    return named, len(parts) == 1 and not isinstance(parts[0], pd.DataFrame | Mapping)


def _template(by: By) -> tuple[str, list[str]]:
    """The template of `by` and the levels that it names."""
    if by is None:
        return "{label}", []
    if isinstance(by, str):
        fields = [name for _, name, _, _ in Formatter().parse(by) if name]
        return by, [name for name in fields if name != "label"]
    return "{label} " + " ".join(f"{name}={{{name}}}" for name in by), list(by)


def _split(
    id: str, stem: str, part: pd.Series, template: str, by: list[str], known: set[str | None]
) -> list[tuple[str, pd.Series]]:
    """One Series per label; left in its index are the levels of units."""
    if not len(part):
        return []
    names = list(part.index.names)
    here = [level for level in by if level in names]
    for level in [n for n in names if n not in here and n not in known]:
        kinds = part.index.get_level_values(level).unique()
        if len(kinds) > 1:
            raise ClaimError(
                f"{id}, {stem!r}: index level {level!r} has {len(kinds)} values and is neither "
                "`by` nor the unit. Take a mean over it, select one, or name it."
            )
        if len(names) > 1:
            part = part.droplevel(level)
            names.remove(level)
    if not here:
        return [(stem, part)]
    keys = part.index.droplevel([n for n in names if n not in here])
    arrays = pd.MultiIndex.from_arrays([part.index.get_level_values(n) for n in here])
    found = []
    for key in dict.fromkeys(arrays):
        own = part[arrays == key]
        own = own.droplevel(here) if len(keys.names) < len(names) else own.reset_index(drop=True)
        at = dict(zip(here, map(_Short, key), strict=True))
        label = "" if stem == "value" else stem
        found.append((template.format(label=label, **at).strip(), own))
    return found


class _Short:
    """A level's value in a label: numbers as short as they go."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __format__(self, spec: str) -> str:
        number = isinstance(self.value, int | float | np.number)
        return format(self.value, spec or ("g" if number else ""))


def _plain(id: str, label: str, part: Any, out: Labelled, units: dict[str, list[Any]]) -> None:
    """A number, or a list with one per unit."""
    if label in out.measured:
        raise ClaimError(f"{id}: label {label!r} occurs twice. Give each part its own.")
    part = part.tolist() if hasattr(part, "tolist") else part
    several = isinstance(part, Sequence) and not isinstance(part, str)
    numbers = _numbers(id, label, list(part) if several else [part])
    if several and numbers:
        units[label] = [None] * len(numbers)  # no index: only their number can be checked
    if numbers:
        _store(label, numbers, out)


def _summarise(
    id: str,
    label: str,
    series: pd.Series,
    levels: tuple[str, str | None, str | None],
    out: Labelled,
    units: dict[str, list[Any]],
) -> None:
    unit, cluster, within = levels
    names = series.index.names
    inner = next((level for level in (cluster, within) if level in names), None)
    if unit not in names and inner is None:
        where = ", ".join(str(name) for name in names if name is not None)
        if len(series) > 1:
            fix = f"Name one of these: {where}." if where else "Give the index a name."
            raise ClaimError(f"{id}, {label!r}: no index level is the unit {unit!r}. {fix}")
        return _store(label, _numbers(id, label, series.tolist()), out)
    order = list(series.index.get_level_values(unit).unique()) if unit in names else [None]
    if inner is None and len(order) < len(series):
        fix = "Take a mean first, or name the inner unit."
        raise ClaimError(f"{id}, {label!r}: several values for one {unit}. {fix}")
    if unit in names:
        units[label] = order
    if inner is None and series.dtype == bool:
        share = _numbers(id, label, series.astype(float).tolist())
        out.values[label], out.measured[label] = list(share), sum(share) / len(share)
        out.interval[label] = list(metrics.wilson(int(sum(share)), len(share)))
        out.kinds[label] = "Wilson's 95 % of a share of units"
        return None
    if inner is None:
        return _store(label, _numbers(id, label, series.tolist()), out)
    flags = series.dtype == bool
    rows = series.astype(float).tolist() if flags else series.tolist()
    values = pd.Series(_numbers(id, label, rows), index=series.index)
    if len(order) > 1:
        return _store(label, values.groupby(level=unit, sort=False).mean().tolist(), out)
    if inner == within:
        if len(values) > 1:  # a single value has no range
            out.kinds[label] = f"range over {within}"
        return _store(label, values.tolist(), out)
    plain = series.to_numpy() if flags else values.to_numpy()  # a share's interval is in [0, 1]
    low, high = metrics.clustered_t(plain, series.index.get_level_values(inner))
    mean = float(values.mean())
    finite = math.isfinite(mean)
    out.values[label] = [mean if finite else None]
    out.measured[label] = mean if finite else None
    out.interval[label] = [low, high] if finite else None
    out.kinds[label] = f"Student's t over {cluster}"
    return None


def _store(label: str, numbers: list[float], out: Labelled) -> None:
    """Median and range; a label with a value that is not finite has neither."""
    finite = all(map(math.isfinite, numbers))
    out.values[label] = [n if math.isfinite(n) else None for n in numbers]
    out.measured[label] = statistics.median(numbers) if finite else None
    out.interval[label] = [min(numbers), max(numbers)] if finite else None


def _pair(id: str, unit: str, units: dict[str, list[Any]], out: Labelled) -> None:
    """Every label must have the same units: a gap would compare other seeds. One order for all."""
    everyone = list(
        dict.fromkeys(each for own in units.values() for each in own if each is not None)
    )
    for label, own in units.items():
        if None not in own and (missing := [each for each in everyone if each not in own]):
            raise ClaimError(
                f"{id}, {label!r}: {unit} {', '.join(map(str, missing))} is missing; other labels "
                "have it. Run it, or leave it out everywhere."
            )
        if None not in own and len(own) == len(out.values[label]):
            out.values[label] = [out.values[label][own.index(each)] for each in everyone]
    lengths = {label: len(own) for label, own in units.items()}
    if len(set(lengths.values())) > 1:
        allowed = f"the same number of {unit}s for every label"
        raise ClaimError(message(f"{id}: values", lengths, allowed, "Record the same for each."))


def _numbers(id: str, label: str, values: list[Any]) -> list[float]:
    plain = [value.item() if hasattr(value, "item") else value for value in values]
    for value in plain:
        if isinstance(value, bool) or not isinstance(value, int | float):
            fix = "Record numbers."
            raise ClaimError(message(f"{id}, label {label!r}", value, "a number", fix))
    return [float(value) for value in plain]


def _there(level: str, seen: set[Any]) -> str:
    names = sorted(str(name) for name in seen if name is not None)
    return f"allowed is {', '.join(names) or 'no level'}. {nearest(level, names)}"
