"""Tidy tables: rows of numbers under a named index."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError, message

if TYPE_CHECKING:
    import pandas as pd

Key = Any  # one value per name, as a tuple; alone where there is one name
Numbers = Mapping[str, Any] | float


def tidy(rows: Mapping[Key, Numbers], names: Sequence[str] | str) -> pd.DataFrame:
    """The table of a sweep for what is no SAE: {key: {name: number}} under named index levels."""
    import pandas as pd

    names, keys = as_tuple(names), list(map(as_tuple, rows))
    tables = (row if isinstance(row, Mapping) else {"value": row} for row in rows.values())
    values = [numbers(row, tidy, names, key) for key, row in zip(keys, tables, strict=True)]
    if len(names) == 1:
        index = pd.Index([key[0] for key in keys], name=names[0])
    else:
        arrays = [list(each) for each in zip(*keys, strict=True)] or [[] for _ in names]
        index = pd.MultiIndex.from_arrays(arrays, names=names)
    return pd.DataFrame(values, index=index)


def numbers(found: Any, measure: Any, names: tuple[str, ...], key: Key) -> dict[str, Any]:
    """{name: number} of what a measure returned for a key; refuses what is no number."""
    where, row = spelled(names, key), {}
    inner = measure.func if isinstance(measure, functools.partial) else measure
    measure = getattr(inner, "__name__", "measure")
    for name, value in (found if isinstance(found, Mapping) else {measure: found}).items():
        row[name] = value.item() if getattr(value, "ndim", None) == 0 else value
        if not isinstance(row[name], Real):
            seen = type(value).__name__
            fix = f"Mend {measure}, or use `map` for what is no number."
            raise ParameterError(message(f"{measure} of {where}: {name}", seen, "a number", fix))
    return row


def as_tuple(value: Any) -> tuple[Any, ...]:
    """One value per level, also where there is one level and its value stands alone."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def spelled(names: Sequence[str], key: tuple[Any, ...]) -> str:
    """`(seed=0, k=5)`. Raises ParameterError for a key of another length than the names'."""
    if len(key) != len(names):
        fix = "Give one value per name."
        raise ParameterError(message("key", key, f"{len(names)} values: {', '.join(names)}", fix))
    if any(value is None or value != value for value in key):
        raise ParameterError(message("key", key, "values that can be told apart", "Name each."))
    return "(" + ", ".join(f"{n}={v}" for n, v in zip(names, key, strict=True)) + ")"
