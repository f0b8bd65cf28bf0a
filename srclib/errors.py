"""The errors that the suite raises on purpose.

A message has four parts: the parameter or file by name, the value seen, what is
allowed, and what to do next. `message` builds it, so that none is forgotten.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class SuiteError(Exception):
    """Something a person can mend. The command line prints it as one line."""


class ParameterError(SuiteError, ValueError):
    """A parameter is unknown, ill-typed or out of range."""


class DataError(SuiteError, ValueError):
    """Activations, corpora or files do not have the promised form."""


class CheckpointError(SuiteError, ValueError):
    """A saved SAE or training state is incomplete, altered or of another run."""


class ClaimError(SuiteError, ValueError):
    """A claims ledger and its measurements do not fit together."""


class NotebookError(SuiteError, RuntimeError):
    """A notebook failed, or its output may not be published."""


def message(name: str, seen: object, allowed: str, fix: str) -> str:
    """`k=60: allowed is 0 < k <= d_sae. Lower k or raise d_sae.`"""
    return f"{name}={seen!r}: allowed is {allowed}. {fix}"


def nearest(name: object, names: Iterable[object]) -> str:
    """A sentence that points from a misspelt name to the closest valid one."""
    best = difflib.get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.0)
    return f"The nearest valid name is {best[0]!r}." if best else "There is no valid name."


def whole(name: str, value: object, low: int = 0) -> int:
    """`value`, if it is a whole number of at least `low`; raises ParameterError otherwise."""
    if type(value) is not int or value < low:
        raise ParameterError(message(name, value, f"a whole number >= {low}", f"Correct {name}."))
    return value


def positive(name: str, value: object, fix: str) -> None:
    """Raises ParameterError unless `value` is a finite number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:  # type: ignore[operator]
        raise ParameterError(message(name, value, "a finite number > 0", fix))
