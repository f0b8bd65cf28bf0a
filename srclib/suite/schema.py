"""What people write, read strictly: tables of TOML and JSON, and the values of parameters.

The annotations of a dataclass are the schema of a table: unknown keys, missing keys and values of
another type are refused by name. A bool is no number, numbers are finite, and required texts are
not blank. Papermill and the command line deliver `false`, `1e-3` and `[5, 11]` as text: text that
is exactly a literal of a parameter's type is converted, everything else is refused.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import math
import operator
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import ParameterError, SuiteError, message, nearest

T = TypeVar("T")
_HINTS: Any = functools.cache(get_type_hints)  # evaluates every annotation


class Kind(NamedTuple):
    """A type that parameters may have."""

    of: type  # of a value, or of each element of a list
    text: str  # what may spell a literal of it
    example: str


_NUMBER, _LIST = r"[-+.eE\d]+", r"(?s)\[.*\]"
KINDS = {
    "int": Kind(int, _NUMBER, "3"),
    "float": Kind(float, _NUMBER, "1e-3"),
    "bool": Kind(bool, "[Tt]rue|[Ff]alse", "true"),
    "str": Kind(str, "(?!)", "abc"),  # text is no spelling of text
    "list[int]": Kind(int, _LIST, "[5, 11]"),
    "list[float]": Kind(float, _LIST, "[1.8, 2.0]"),
    "list[str]": Kind(str, _LIST, "['a', 'b']"),
}
BOUNDS: dict[str, tuple[Any, str]] = {  # what must hold, and how it is told
    "min": (operator.ge, "{1} <= {0}"),
    "above": (operator.gt, "{1} < {0}"),
    "max": (operator.le, "{0} <= {1}"),
    "below": (operator.lt, "{0} < {1}"),
}


@dataclasses.dataclass(frozen=True)
class Field:
    """One parameter as its row in the profile file states it; bounds hold for each element.

    type: one of KINDS. min, max (inclusive), above, below (exclusive): a number or another
    parameter's name. default: the value of each profile that has none of its own.
    """

    name: str
    type: str
    help: str
    min: float | str | None = None
    above: float | str | None = None
    max: float | str | None = None
    below: float | str | None = None
    choices: list[int | float | bool | str] | None = None
    min_len: int = 1  # an empty list would run nothing and look like a success
    max_len: int | None = None
    default: Any = None
    smoke: Any = None
    laptop: Any = None
    full: Any = None
    paper: Any = None

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that are set, by kind."""
        return {kind: getattr(self, kind) for kind in BOUNDS if getattr(self, kind) is not None}

    def value_at(self, profile: str) -> object:
        """What the profile file sets for a profile; raises ParameterError when it sets nothing."""
        own = getattr(self, profile)
        if own is None and self.default is None:
            fix = f"Add `{profile} = ...` or `default = ...`."
            raise ParameterError(f"parameters.{self.name}: no value for {profile}. {fix}")
        return self.default if own is None else own

    def accept(self, given: Any, values: Mapping[str, Any] | None = None) -> Any:
        """`given` as a value of this type, and in range given all other `values`, if they are.

        Raises ParameterError, which says type and range in words.
        """
        kind, listed, value = KINDS[self.type], self.type.startswith("list"), given
        checked, values = values is not None, values or {}
        if isinstance(given, str) and re.fullmatch(kind.text, given, re.ASCII):
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                value = ast.literal_eval(given.title() if kind.of is bool else given)
        if listed and not isinstance(value, list | tuple):
            raise self._refused(self.name, given, values)
        accepted = []
        # An element inside quotes is text by intent, so only whole values are read as literals.
        for i, each in enumerate(value if listed else [value]):
            where = f"{self.name}[{i}]" if listed else self.name
            if not fits(each, kind.of):
                raise self._refused(where, each, values)
            accepted.append(kind.of(each))
            if checked and not self._in_range(accepted[i], values):
                others = [f" or {bound}" for bound in self.bounds.values() if bound in values]
                fix = f"Change {self.name}{''.join(others)}."
                raise self._refused(where, accepted[i], values, fix)
        enough = self.min_len <= len(accepted) <= (self.max_len or math.inf)
        if checked and listed and not enough:
            fix = f"Give {self.name} more or fewer elements."
            raise self._refused(self.name, accepted, values, fix)
        return accepted if listed else accepted[0]

    def _in_range(self, value: Any, values: Mapping[str, Any]) -> bool:
        limits = ((BOUNDS[kind][0], values.get(b, b)) for kind, b in self.bounds.items())
        return all(holds(value, b) for holds, b in limits) and value in (self.choices or [value])

    def _refused(
        self, where: str, seen: object, values: Mapping[str, Any], fix: str = ""
    ) -> ParameterError:
        allowed, span, example = [self.type], self.name, KINDS[self.type].example
        if self.type.startswith("list"):
            span, upper = "each element", f" to {self.max_len}" if self.max_len else " or more"
            allowed.append(f"with {self.min_len}{upper} elements")
        if self.choices:
            allowed.append(f"one of {', '.join(map(str, self.choices))}")
        for kind, bound in self.bounds.items():
            limit = f"{bound} ({values[bound]})" if bound in values else bound
            span = BOUNDS[kind][1].format(span, limit)
        if self.bounds or KINDS[self.type].of is float:
            allowed.append(span if self.bounds else "finite")
        fix = fix or f"Write a literal of this type, for example {example}."
        return ParameterError(message(where, seen, ", ".join(allowed), fix))


def read_toml(path: Path, error: type[SuiteError]) -> dict[str, Any]:
    """The tables of a TOML file. Raises `error`, one line that names the file, for another one."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        told = " ".join(str(fault).split())
        raise error(f"data/{path.parent.name}/{path.name}: {told}. Mend the file.") from None


def one_of(name: str, value: str, known: Iterable[str], error: type[SuiteError]) -> str:
    """`value` itself if it is known; raises `error` with all that are and the nearest otherwise."""
    if value not in (known := list(known)):
        raise error(message(name, value, ", ".join(known), nearest(value, known)))
    return value


def read(kind: type[T], row: object, where: str, error: type[SuiteError], **given: Any) -> T:
    """The dataclass `kind` from a table that has its fields as keys, except for those `given`.

    The field `from_` is the key `from`, which Python keeps for itself. Raises `error`,
    headed by `where`, also where the class itself refuses a value with a ValueError.
    """
    if not isinstance(row, dict):
        raise error(message(where, row, "a table", "Write it as a table."))
    hints = _HINTS(kind)
    fields = {name.rstrip("_"): name for name in hints if name not in given}
    for key, value in row.items():
        if key not in fields:
            raise error(f"{where}: unknown key {key!r}. {nearest(key, fields)}")
        hint = hints[fields[key]]
        if not fits(value, hint):
            raise error(message(f"{where}: {key}", value, _allowed(hint), "Correct it."))
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.name not in given
        seen = row.get(field.name, "")
        if required and not str(seen).strip():
            allowed = _allowed(hints[field.name])
            raise error(message(f"{where}: {field.name}", seen, allowed, "Correct it."))
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
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
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
