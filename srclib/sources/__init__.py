"""Where activations come from.

A source is deterministic: `batch(step, n_batch)` is a pure function of the source and the step.
So a resumed run needs no fast-forward, evaluation cannot steal training data, and several SAEs
can share one stream.

Modules of srclib import a source from its own file, so that their keys cover it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from .rows import Centred as Centred
    from .rows import Rows as Rows
    from .rows import Scaled as Scaled
    from .rows import Unit as Unit
    from .rows import unit as unit
    from .sparse_codes import SparseCodes as SparseCodes
    from .toy import ToyFeatures as ToyFeatures
    from .toy import random_correlation as random_correlation

SEED_STRIDE = 2**32  # batches of one seed are consecutive; another seed reads other batches

_HOME = {
    **dict.fromkeys(("Rows", "Scaled", "Centred", "Unit", "unit"), "rows"),
    **dict.fromkeys(("ToyFeatures", "random_correlation"), "toy"),
    "SparseCodes": "sparse_codes",
}


class Source(Protocol):
    """What `train` needs.

    Steps >= 0 are training batches; steps < 0 are evaluation batches, which share nothing with
    them. `n_samples` is None for an endless source; `train` refuses a run that would need more.
    `identity` says, in JSON values, everything the batches depend on: it is part of cache keys
    and of checkpoints.
    """

    @property
    def d_in(self) -> int: ...

    @property
    def n_samples(self) -> int | None: ...

    @property
    def identity(self) -> dict[str, Any]: ...

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in], float32, newly allocated."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """A source that also knows something of each row, for supervised terms of an objective."""

    def labels(self, step: int, n_batch: int) -> Tensor | None:
        """[n_batch, ...], row by row of `batch(step, n_batch)`."""
        ...


def __getattr__(name: str) -> Any:
    """Each source loads when it is first used."""
    if name in _HOME.values():
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
