"""Evaluation rows of their own for a source that holds none out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, message
from ..store import files
from .rows import Wrapped


@dataclass(frozen=True)
class HeldOut(Wrapped):
    """Trains as another source does; negative steps read `test` [n_rows, d_in], over and over.

    For rows that come from another text than those of training. Raises DataError when the widths
    differ.
    """

    test: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        if self.test.ndim != 2 or self.test.shape[1] != self.d_in or not len(self.test):
            allowed = f"[n_rows, d_in={self.d_in}]"
            fix = "Take both from one site of one model."
            raise DataError(message("test.shape", tuple(self.test.shape), allowed, fix))

    @cached_property
    def identity(self) -> dict[str, Any]:  # hashed once: the source may be a large model
        test = files.tensors_sha256([self.test])
        return {"source": "HeldOut", "of": self.source.identity, "test": test}

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in] float32."""
        if step >= 0:
            return self.source.batch(step, n_batch)
        start = (-step - 1) * n_batch
        return self.test[torch.arange(start, start + n_batch) % len(self.test)]
