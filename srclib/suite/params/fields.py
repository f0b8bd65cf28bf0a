"""One parameter: its type, its range, and the strict conversion of what a caller gave.

papermill and the command line deliver `false`, `1e-3` and `[5, 11]` as text. Text that
is exactly a literal of the parameter's type is converted; everything else is refused.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ParameterError, message
from ...errors import nearest as nearest

Scalar = int | float | bool | str
Value = Scalar | list[int] | list[float] | list[str]

EXAMPLES = {  # every type there is, with one literal for the error messages
    "int": "3",
    "float": "1e-3",
    "bool": "true",
    "str": "abc",
    "list[int]": "[5, 11]",
    "list[float]": "[1.8, 2.0]",
    "list[str]": "['a', 'b']",
}
_INT = re.compile(r"[+-]?(0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOL = {"true": True, "True": True, "false": False, "False": False}
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "min": ("<=", operator.le),
    "above": ("<", operator.lt),
    "max": ("<=", operator.le),
    "below": ("<", operator.lt),
}


@dataclass(frozen=True)
class Field:
    """The type and range of one parameter; bounds hold for each element of a list.

    `bounds` maps min, max (inclusive), above, below (exclusive) to a number or to the
    name of another parameter. `choices` is empty when every value of the type is allowed.
    """

    name: str
    type: str
    help: str
    bounds: Mapping[str, float | str] = field(default_factory=dict)
    choices: tuple[Scalar, ...] = ()
    min_len: int = 1  # an empty list would run nothing and look like a success
    max_len: int | None = None

    @property
    def element(self) -> str:
        """The type of one element: `float` for `float` and for `list[float]`."""
        return self.type.removeprefix("list[").removesuffix("]")

    @property
    def is_list(self) -> bool:
        return self.type.startswith("list[")

    def convert(self, given: object) -> Value:
        """`given` as a value of this type; raises ParameterError when it is not one."""
        if not self.is_list:
            return self._scalar(given, self.name)
        elements = _list_literal(given) if isinstance(given, str) else given
        if not isinstance(elements, list | tuple):
            raise self._refuse(self.name, given)
        # An element inside quotes is text by intent, so only whole values are converted from text.
        return [  # type: ignore[return-value]  # all elements have the one element type
            self._scalar(e, f"{self.name}[{i}]", from_text=False) for i, e in enumerate(elements)
        ]

    def check(self, value: Value, values: Mapping[str, Value]) -> None:
        """Raise ParameterError unless `value` is in range, given all other `values`."""
        elements: list[Scalar] = list(value) if isinstance(value, list) else [value]
        if self.is_list and not self.min_len <= len(elements) <= (self.max_len or math.inf):
            raise self._refuse(self.name, value, values, f"Give {self.name} more or fewer elements")
        for i, element in enumerate(elements):
            if not self._in_range(element, values):
                where = f"{self.name}[{i}]" if self.is_list else self.name
                names = [self.name, *(b for b in self.bounds.values() if isinstance(b, str))]
                raise self._refuse(where, element, values, f"Change {' or '.join(names)}")

    def allowed(self, values: Mapping[str, Value] | None = None) -> str:
        """The type and range in words, with the bounds' values where they are known."""
        parts = [self.type]
        if self.is_list and (self.min_len, self.max_len) != (0, None):
            upper = f" to {self.max_len}" if self.max_len else " or more"
            parts.append(f"with {self.min_len}{upper} elements")
        if self.choices:
            parts.append(f"one of {', '.join(map(str, self.choices))}")
        if self.bounds:
            parts.append(self._range(values or {}))
        elif self.element == "float":
            parts.append("finite")
        return ", ".join(parts)

    def _in_range(self, element: Scalar, values: Mapping[str, Value]) -> bool:
        if self.choices and element not in self.choices:
            return False
        for kind, bound in self.bounds.items():
            limit: Any = values[bound] if isinstance(bound, str) else bound
            _, holds = _BOUNDS[kind]
            low, high = (limit, element) if kind in ("min", "above") else (element, limit)
            if not holds(low, high):
                return False
        return True

    def _range(self, values: Mapping[str, Value]) -> str:
        text = "each element" if self.is_list else self.name
        for kind, bound in self.bounds.items():
            known = isinstance(bound, str) and bound in values
            limit = f"{bound} ({values[str(bound)]})" if known else str(bound)
            sign, _ = _BOUNDS[kind]
            parts = [limit, sign, text] if kind in ("min", "above") else [text, sign, limit]
            text = " ".join(parts)
        return text

    def _scalar(self, given: object, where: str, from_text: bool = True) -> Scalar:
        value = given
        if from_text and isinstance(given, str):
            value = _text_literal(given, self.element)
        match self.element, value:
            case ("bool", bool(value)) | ("str", str(value)):
                return value
            case "int", int() if not isinstance(value, bool):
                return int(value)
            case "float", int() | float() if not isinstance(value, bool):
                number = _finite(value)
                if number is not None:
                    return number
        raise self._refuse(where, given)

    def _refuse(
        self,
        where: str,
        seen: object,
        values: Mapping[str, Value] | None = None,
        fix: str | None = None,
    ) -> ParameterError:
        fix = fix or f"Write a literal of this type, for example {EXAMPLES[self.type]}"
        return ParameterError(message(where, seen, self.allowed(values), f"{fix}."))


def _finite(number: int | float) -> float | None:
    try:
        value = float(number)
    except OverflowError:  # an int beyond the range of floats
        return None
    return value if math.isfinite(value) else None


def _text_literal(text: str, kind: str) -> object:
    """Text as the literal it spells, or the text itself where it spells none of `kind`."""
    if kind == "bool":
        return _BOOL.get(text, text)
    if kind == "int" and _INT.fullmatch(text) and len(text) < 1000:
        return int(text)
    if kind == "float" and _FLOAT.fullmatch(text):
        return float(text)
    return text


def _list_literal(text: str) -> object:
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
