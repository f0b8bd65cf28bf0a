"""Strict reading of TOML and JSON tables: the annotations of a dataclass are the schema.

Unknown keys, missing keys and values of another type are refused by name. A bool is no
number, numbers are finite, and required texts are not blank.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import SuiteError, message, nearest

T = TypeVar("T")


def one_of(name: str, value: str, known: Iterable[str], error: type[SuiteError]) -> str:
    """`value` itself if it is known; raises `error` with all that are and the nearest otherwise."""
    if value not in (known := list(known)):
        raise error(message(name, value, ", ".join(known), nearest(value, known)))
    return value


def table(value: object, where: str, error: type[SuiteError]) -> dict[str, Any]:
    """`value` itself if it is a table; raises `error` otherwise."""
    if not isinstance(value, dict):
        raise error(message(where, value, "a table", "Write it as a table."))
    return value


def read(
    kind: type[T],
    row: object,
    where: str,
    error: type[SuiteError],
    fix: str = "Correct it.",
    **given: Any,
) -> T:
    """The dataclass `kind` from a table that has its fields as keys, except for those `given`.

    The field `from_` is the key `from`, which Python keeps for itself. Raises `error`,
    headed by `where`, also where the class itself refuses a value with a ValueError.
    """
    row = table(row, where, error)
    hints = get_type_hints(kind)
    fields = {name.rstrip("_"): name for name in hints if name not in given}
    for key, value in row.items():
        if key not in fields:
            raise error(f"{where}: unknown key {key!r}. {nearest(key, fields)}")
        hint = hints[fields[key]]
        if not fits(value, hint):
            raise error(message(f"{where}: {key}", value, _allowed(hint), fix))
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.name not in given
        seen = row.get(field.name, "")
        if required and not str(seen).strip():
            raise error(message(f"{where}: {field.name}", seen, _allowed(hints[field.name]), fix))
    try:
        return kind(**{fields[key]: value for key, value in row.items()}, **given)
    except ValueError as fault:
        raise error(f"{where}: {fault}") from None


def fits(value: object, hint: Any) -> bool:
    """Whether data from a TOML or JSON file is of an annotated type."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in inside)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in inside)
    if kind is float:
        return type(value) in (int, float) and -math.inf < value < math.inf  # type: ignore[operator]
    if kind is tuple:
        same = isinstance(value, list) and len(value) == len(inside)
        return same and all(map(fits, value, inside))  # type: ignore[call-overload]
    if kind is Any or type(value) is not kind:
        return kind is Any
    members = value.values() if isinstance(value, dict) else value
    return not inside or all(fits(each, inside[-1]) for each in members)  # type: ignore[attr-defined]


def _allowed(hint: Any) -> str:
    choices = get_origin(hint) is Literal
    return ", ".join(map(str, get_args(hint))) if choices else inspect.formatannotation(hint)
