"""A source whose rows have norm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import DataError
from .tensor import Wrapped


def unit(x: Tensor) -> Tensor:
    """x / ||x||, each vector [..., d_in] by its own norm. Raises DataError for a vector of 0."""
    norm = x.norm(dim=-1, keepdim=True)
    if not bool((norm > 0).all()):
        n = int((norm == 0).sum())
        raise DataError(f"{n} vectors are 0, which have no direction. Mask padding and BOS first.")
    return x / norm


@dataclass(frozen=True)
class Unit(Wrapped):
    """Another source with every row divided by its own norm, so 1 is the error of predicting 0.

    Inaba et al. 2025 (arXiv:2503.06394v1), the official code's "Scalar" normalisation: no mean is
    subtracted and nothing is measured on the data set.
    """

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": "Unit", "of": self.source.identity}

    def batch(self, step: int, n_batch: int) -> Tensor:
        return unit(self.source.batch(step, n_batch))
