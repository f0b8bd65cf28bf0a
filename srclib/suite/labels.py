"""From the parts of a claim's measurement to labels with one number per outermost unit.

    ledger.record("l0.toy.further_is_worse", table.mcc, by="k")          # "k=1", "k=2", ...
    ledger.record("l0.toy.low_l0_mixes_all", table.query("k == 5")[["recovered", "rare"]])
    ledger.record("md.ctl.gap", {"gap": md - fix, "noise floor": noise})

Values are paired by index, never by position: row order must not decide which seed is compared
with which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from string import Formatter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import ClaimError, message, nearest

By = str | Sequence[str] | None


@dataclass
class Labelled:
    """What a ledger keeps of a measurement, by label."""

    values: dict[str, list[float]] = field(default_factory=dict)
    """one number per outermost unit, in one order for all labels"""
    given: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """value and interval of a label for which these are not median and range over units"""
    kinds: dict[str, str] = field(default_factory=dict)
    """what such an interval is"""
    units: dict[str, list[Any]] = field(default_factory=dict)
    """the units of each label that has some; None for units without a name"""

    @property
    def n_units(self) -> int:
        return max(map(len, self.units.values()), default=1)


class Levels(NamedTuple):
    """Which index levels are units: the outermost, people inside it, or further draws inside it."""

    unit: str
    cluster: str | None
    within: str | None


def labelled(
    id: str,
    *parts: Any,
    by: By = None,
    unit: str = "seed",
    cluster: str | None = None,
    within: str | None = None,
) -> Labelled:
    """What a ledger keeps of numbers, Series, DataFrames (by column) and mappings (by label).

    unit: the index level of the outermost random unit. A Series of bools is a share of units, with
    Wilson's interval.
    by: levels that become labels, such as "k=5"; or a template such as "F1@{q} k={k}", in which
    {label} is the column's or the mapping's label. A part that lacks one keeps its own label.
    cluster: the level of people inside a unit. A unit's value is the mean over its rows; with one
    unit the interval is Student's t over clusters.
    within: the level of inner units. A unit's value is the mean over them; with one unit they are
    shown instead, with their range.

    The label of a part without one is "value". Raises ClaimError naming `id` and the label.
    """
    if not parts:
        raise ClaimError(f"{id}: nothing was recorded. Give a number, a Series or a table.")
    named = [pair for part in parts for pair in _named(part, alone=len(parts) == 1)]
    template, wanted = _template(by)
    out = Labelled()
    seen = {name for _, part in named if isinstance(part, pd.Series) for name in part.index.names}
    for level in wanted if seen else ():
        if level not in seen:
            there = sorted(str(name) for name in seen if name is not None)
            allowed = f"allowed is {', '.join(there)}. {nearest(level, there)}"
            raise ClaimError(f"{id}: by names the level {level!r}: {allowed}")
    levels = Levels(unit, cluster, within)
    for stem, part in named:
        for label, own in _split(id, stem, part, template, wanted, levels):
            if label in out.values or not label:
                raise ClaimError(
                    f"{id}: label {label!r} occurs twice or is empty. Give it another."
                )
            _summarise(f"{id}, label {label!r}", label, own, levels, out)
    _pair(id, unit, out)
    return out


def _named(part: Any, alone: bool) -> list[tuple[str, Any]]:
    """(label, Series, list or number) of a part."""
    if isinstance(part, pd.DataFrame | Mapping):
        return [(str(label), value) for label, value in part.items()]
    if isinstance(part, pd.Series) and not alone and part.name is not None:
        return [(str(part.name), part)]
    return [("value", part)]


def _template(by: By) -> tuple[str, list[str]]:
    """The template of `by`, and the levels that it names."""
    if isinstance(by, str) and "{" in by:
        return by, [name for _, name, _, _ in Formatter().parse(by) if name and name != "label"]
    names = [by] if isinstance(by, str) else list(by or ())
    return " ".join(["{label}", *(f"{name}={{{name}}}" for name in names)]), names


def _split(
    id: str, stem: str, part: Any, template: str, by: list[str], levels: Levels
) -> Iterator[tuple[str, Any]]:
    """Each label and what is recorded; in the index of a Series only levels of units are left."""
    if not isinstance(part, pd.Series):
        plain = part.tolist() if hasattr(part, "tolist") else part
        if plain != [] and plain != ():
            yield stem, plain
        return
    names = list(part.index.names)
    holes = [i for i in range(len(names)) if part.index.get_level_values(i).hasnans]
    if holes or (None in names and len(names) > 1):
        raise ClaimError(f"{id}, {stem!r}: a level of {names} lacks a name or a value. Give it.")
    here = by if set(by) <= set(names) else []
    others = [i for i, name in enumerate(names) if name not in levels or name is None]
    for level in [names[i] for i in others if names[i] not in [*here, None]]:
        if part.index.get_level_values(level).nunique() > 1:
            raise ClaimError(
                f"{id}, {stem!r}: index level {level!r} has several values and is neither `by` "
                "nor the unit. Take a mean over it, select one, or name it."
            )
    if not here and len(part):
        yield stem, part.reset_index(level=others, drop=True)
    for key, own in part.groupby(level=here, sort=False) if here else ():
        at = dict(zip(here, map(_Short, key), strict=True))
        label = template.format(label="" if stem == "value" else stem, **at).strip()
        yield label, own.reset_index(level=others, drop=True)


class _Short:
    """A level's value in a label: numbers as short as they go."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __format__(self, spec: str) -> str:
        number = isinstance(self.value, int | float | np.number)
        return format(self.value, spec or ("g" if number else ""))


def _summarise(where: str, label: str, part: Any, levels: Levels, out: Labelled) -> None:
    """Values per unit of one label, and its interval where that is not their range."""
    if not isinstance(part, pd.Series):
        several = isinstance(part, list | tuple)
        out.values[label] = _numbers(where, part if several else [part])
        if several:  # no index: only their number can be checked
            out.units[label] = [None] * len(part)
        return
    share = part.dtype == bool
    numbers = _numbers(where, (part.astype(float) if share else part).tolist())
    names = list(part.index.names)
    inner = next((name for name in levels[1:] if name is not None and name in names), None)
    order = list(part.index.unique(levels.unit)) if levels.unit in names else [None]
    if inner is None and len(order) < len(part):
        raise ClaimError(f"{where}: several values for one {levels.unit}. Take a mean first.")
    if levels.unit in names:
        out.units[label] = order
    if inner is not None and len(order) > 1:
        groups = pd.Series(numbers, part.index).groupby(level=levels.unit, sort=False)
        numbers = groups.agg(lambda own: own.to_numpy().mean()).tolist()  # NaN stays NaN
    elif inner is not None and inner == levels.within:
        if len(numbers) > 1:  # a single value has no range
            out.kinds[label] = f"range over {inner}"
    elif inner is not None:
        from ..metrics.intervals import clustered_t

        clusters = part.index.get_level_values(inner)
        mean = float(np.mean(numbers))
        out.given[label] = (mean, *clustered_t(part.to_numpy(), clusters))
        out.kinds[label], numbers = f"Student's t over {inner}", [mean]
    elif share:
        from ..metrics.intervals import wilson

        hits = int(sum(numbers))
        out.given[label] = (hits / len(numbers), *wilson(hits, len(numbers)))
        out.kinds[label] = f"Wilson's, of a share of {levels.unit}s"
    out.values[label] = numbers


def _pair(id: str, unit: str, out: Labelled) -> None:
    """The same units for every label, in one order: a gap would compare other seeds.

    Shares that have no unit in common are samples of their own, such as the latents of different
    SAEs; each has its interval.
    """
    units = {label: own for label, own in out.units.items() if None not in own}
    apart = {
        (a, b)
        for a, b in permutations(out.given.keys() & units, 2)
        if not {*units[a]} & {*units[b]}
    }
    for label, own in units.items():
        together = [u for at, theirs in units.items() if (label, at) not in apart for u in theirs]
        everyone = list(dict.fromkeys(together))
        if missing := [str(each) for each in everyone if each not in set(own)]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ClaimError(
                f"{id}, {label!r}: {unit} {shown} is missing; other labels have it. Run it, or "
                "leave it out everywhere."
            )
        if len(own) == len(out.values[label]):
            out.values[label] = [out.values[label][own.index(each)] for each in everyone]
    alone = {label for pair in apart for label in pair}
    lengths = {label: len(own) for label, own in out.units.items() if label not in alone}
    if len(set(lengths.values())) > 1:
        allowed = f"the same number of {unit}s for every label"
        raise ClaimError(message(f"{id}: values", lengths, allowed, "Record the same for each."))


def _numbers(where: str, values: Sequence[Any]) -> list[float]:
    plain = [value.item() if hasattr(value, "item") else value for value in values]
    for value in plain:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ClaimError(message(where, value, "a number", "Record numbers."))
    return [float(value) for value in plain]
