"""Where activations come from.

A source is deterministic: `batch(step, n_batch)` is a pure function of the source and the step.
So a resumed run needs no fast-forward, evaluation cannot steal training data, and several SAEs
can share one stream.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


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


def __getattr__(name: str) -> ModuleType:
    """`srclib.sources.toy` and its like load when they are first used."""
    if name in ("toy", "tensor", "unit", "sparse_codes", "streamed", "subsets"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
