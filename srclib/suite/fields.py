"""One parameter: its type, its range, and the strict conversion of what a caller gave.

papermill and the command line deliver `false`, `1e-3` and `[5, 11]` as text. Text that
is exactly a literal of the parameter's type is converted; everything else is refused.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ParameterError, message

Scalar = int | float | bool | str
Value = Scalar | list[int] | list[float] | list[str]
Type = Literal["int", "float", "bool", "str", "list[int]", "list[float]", "list[str]"]

_EXAMPLES = {"int": "3", "float": "1e-3", "bool": "true", "str": "abc"}
_EXAMPLES |= {"list[int]": "[5, 11]", "list[float]": "[1.8, 2.0]", "list[str]": "['a', 'b']"}
_BOOL = {"true": True, "True": True, "false": False, "False": False}
_HOLDS: dict[str, Any] = {
    "min": operator.ge,
    "above": operator.gt,
    "max": operator.le,
    "below": operator.lt,
}


@dataclass(frozen=True)
class Field:
    """One parameter as its row in the profile file states it; bounds hold for each element.

    min, max (inclusive), above, below (exclusive): a number or another parameter's name.
    default: the value of each profile that has none of its own.
    """

    name: str
    type: Type
    help: str
    min: float | str | None = None
    above: float | str | None = None
    max: float | str | None = None
    below: float | str | None = None
    choices: list[Scalar] | None = None
    min_len: int = 1  # an empty list would run nothing and look like a success
    max_len: int | None = None
    default: Any = None
    smoke: Any = None
    laptop: Any = None
    full: Any = None
    paper: Any = None

    @property
    def element(self) -> str:
        """The type of one element: `float` for `float` and for `list[float]`."""
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def bounds(self) -> dict[str, float | str]:
        """The bounds that are set, by kind."""
        return {kind: getattr(self, kind) for kind in _HOLDS if getattr(self, kind) is not None}

    def value_at(self, profile: str) -> object:
        """What the profile file sets for a profile; raises ParameterError when it sets nothing."""
        own = getattr(self, profile)
        if own is None and self.default is None:
            fix = f"Add `{profile} = ...` or `default = ...`."
            raise ParameterError(f"parameters.{self.name}: no value for {profile}. {fix}")
        return self.default if own is None else own

    def convert(self, given: object) -> Value:
        """`given` as a value of this type; raises ParameterError when it is not one."""
        value = _literal(given, self.type) if isinstance(given, str) else given
        if self.element == self.type:
            return self._scalar(value, self.name)
        if not isinstance(value, list | tuple):
            raise self._refuse(self.name, given)
        # An element inside quotes is text by intent, so only whole values are read as literals.
        return [self._scalar(e, f"{self.name}[{i}]") for i, e in enumerate(value)]  # type: ignore[return-value]

    def check(self, value: Value, values: Mapping[str, Any]) -> None:
        """Raise ParameterError unless `value` is in range, given all other `values`."""
        is_list = isinstance(value, list)
        elements: list[Any] = list(value) if isinstance(value, list) else [value]
        if is_list and not self.min_len <= len(elements) <= (self.max_len or math.inf):
            raise self._refuse(self.name, value, values, f"Give {self.name} more or fewer elements")
        limits = {k: values[b] if isinstance(b, str) else b for k, b in self.bounds.items()}
        for i, element in enumerate(elements):
            held = all(_HOLDS[kind](element, limit) for kind, limit in limits.items())
            if not held or element not in (self.choices or [element]):
                where = f"{self.name}[{i}]" if is_list else self.name
                names = [self.name, *(b for b in self.bounds.values() if isinstance(b, str))]
                raise self._refuse(where, element, values, f"Change {' or '.join(names)}")

    def _scalar(self, value: object, where: str) -> Scalar:
        match self.element, value:
            case ("bool", bool(value)) | ("str", str(value)):
                return value
            case "int", int() if not isinstance(value, bool):
                return int(value)
            case "float", int() | float() if not isinstance(value, bool):
                if abs(value) <= sys.float_info.max:  # no nan, no whole number beyond floats
                    return float(value)
        raise self._refuse(where, value)

    def _refuse(
        self, where: str, seen: object, values: Mapping[str, Any] | None = None, fix: str = ""
    ) -> ParameterError:
        """Says the type and range in words, with the values of bounds that are parameters."""
        is_list, values = self.element != self.type, values or {}
        allowed: list[str] = [self.type]
        if is_list and (self.min_len, self.max_len) != (0, None):
            upper = f" to {self.max_len}" if self.max_len else " or more"
            allowed.append(f"with {self.min_len}{upper} elements")
        if self.choices:
            allowed.append(f"one of {', '.join(map(str, self.choices))}")
        if self.bounds:
            text = "each element" if is_list else self.name
            for kind, bound in self.bounds.items():
                limit = f"{bound} ({values[str(bound)]})" if bound in values else str(bound)
                sign = "<=" if kind in ("min", "max") else "<"
                low = kind in ("min", "above")
                text = f"{limit} {sign} {text}" if low else f"{text} {sign} {limit}"
            allowed.append(text)
        elif self.element == "float":
            allowed.append("finite")
        fix = fix or f"Write a literal of this type, for example {_EXAMPLES[self.type]}"
        return ParameterError(message(where, seen, ", ".join(allowed), f"{fix}."))


def _literal(text: str, kind: str) -> object:
    """Text as the literal it spells, or the text itself where it spells none of `kind`."""
    if kind == "bool":
        return _BOOL.get(text, text)
    number = kind in ("int", "float") and re.fullmatch(r"[-+.eE\d]+", text, re.ASCII)
    if number or (kind.startswith("list") and text.startswith("[") and text.endswith("]")):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    return text
