"""Strict reading of TOML and JSON tables: the annotations of a class are the schema.

Unknown keys, missing keys and values of another type are refused by name. A bool is no
number, numbers are finite, and a dataclass's texts are not empty.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import SuiteError, message

T = TypeVar("T")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    dict: "a table",
    float: "a finite number",
    int: "a whole number",
    list: "a list",
    str: "a text that is not empty",
    tuple: "[low, high]",
    NoneType: "null",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that points from a misspelt name to the closest valid one."""
    best = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f"The nearest valid name is {best[0]!r}." if best else "There is no valid name."


def table(value: object, where: str, error: type[SuiteError]) -> dict[str, Any]:
    """`value` itself if it is a table; raises `error` otherwise."""
    if not isinstance(value, dict):
        raise error(message(where, value, "a table", "Write it as a table."))
    return value


def read(kind: type[T], row: object, where: str, error: type[SuiteError], **given: Any) -> T:
    """The dataclass `kind` from a table that has its fields as keys, except for those `given`.

    The field `from_` is the key `from`, which Python keeps for itself. Raises `error`, headed by `where`; so does a ValueError of the class's own checks.
    """
    row = table(row, where, error)
    hints = {name.rstrip("_"): hint for name, hint in get_type_hints(kind).items()}
    fields = {f.name.rstrip("_"): f for f in dataclasses.fields(kind) if f.name not in given}  # type: ignore[arg-type]
    for key, value in row.items():
        if key not in fields:
            raise error(f"{where}: unknown key {key!r}. {nearest(key, fields)}")
        if not fits(value, hints[key]) or (hints[key] is str and not value.strip()):
            raise error(message(f"{where}: {key}", value, words(hints[key]), "Correct it."))
    for key, field in fields.items():
        if key not in row and field.default is dataclasses.MISSING:
            raise error(f"{where}: {key!r} is missing; allowed is {words(hints[key])}. Add it.")
    try:
        return kind(**{fields[key].name: value for key, value in row.items()}, **given)
    except ValueError as fault:
        raise error(f"{where}: {fault}") from None


def fits(value: object, hint: Any) -> bool:
    """Whether data from a TOML or JSON file is of an annotated type."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in inside)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in inside)
    if kind is tuple:
        pair = isinstance(value, list) and len(value) == len(inside)
        return pair and all(map(fits, value, inside))  # type: ignore[call-overload]
    if kind is float:
        return type(value) in (int, float) and -math.inf < value < math.inf  # type: ignore[operator]
    if kind is Any or not (inside and type(value) is kind):
        return kind is Any or type(value) is kind
    members = value.values() if isinstance(value, dict) else value
    return all(fits(each, inside[-1]) for each in members)  # type: ignore[attr-defined]


def words(hint: Any) -> str:
    """An annotated type as error messages name it."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return ", ".join(map(str, inside))
    if kind in (Union, UnionType):
        return " or ".join(map(words, inside))
    return _WORDS.get(kind, "a value")
