"""Activations that a user brings, and sources in other units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from .. import rng
from ..errors import DataError, ParameterError, message
from ..store import files
from . import Labelled, Source


class Rows:
    """Serves the rows of a tensor [n_rows, d_in], or of a `.safetensors` or `.npy` file.

    The rows are copied to float32; the caller's tensor is never changed. Each epoch visits every
    training row once, in an order of its own. `held_out` rows, drawn by the seed, are set aside
    for evaluation. With `repeat=False` there is one epoch only, and `train` refuses to ask for
    more. labels [n_rows, ...]: what supervised terms of an objective learn from, one per row.

    Raises DataError for another file type (pickles are refused unread), another shape, NaN.
    """

    def __init__(
        self,
        x: Tensor | str | Path,
        *,
        labels: Tensor | None = None,
        held_out: int = 0,
        repeat: bool = True,
        seed: int = 0,
    ) -> None:
        name = "x" if isinstance(x, Tensor) else Path(x).name
        rows = x.detach() if isinstance(x, Tensor) else _read(Path(x))
        _check(name, rows)
        if not 0 <= held_out < len(rows):
            fix = "Hold out fewer rows."
            raise ParameterError(message("held_out", held_out, f"0 <= held_out < {len(rows)}", fix))
        if labels is not None and len(labels) != len(rows):
            fix = "Give one label per row."
            raise DataError(message("len(labels)", len(labels), f"{len(rows)} rows", fix))
        self._x = rows.to(torch.float32, copy=True).contiguous()
        self._labels = None if labels is None else labels.detach().clone().contiguous()
        shuffled = torch.randperm(len(rows), generator=rng.stream(seed, "rows", "split"))
        self._held_out, self._training = shuffled[:held_out], shuffled[held_out:].sort().values
        self.d_in, self.repeat, self.seed = rows.shape[1], repeat, seed
        self.n_samples = None if repeat else len(self._training)
        self._content = [
            [files.sha256(t.numpy().tobytes()), str(t.dtype), *t.shape]
            for t in (self._x, self._labels)
            if t is not None
        ]
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "source": "Rows",
            "content": self._content,
            "shape": list(self._x.shape),
            "held_out": len(self._held_out),
            "repeat": self.repeat,
            "seed": self.seed,
        }

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in]; negative steps read the held-out rows."""
        return self._x[self._picks(step, n_batch)]

    def labels(self, step: int, n_batch: int) -> Tensor | None:
        """[n_batch, ...], row by row those of `batch(step, n_batch)`; None where none are given."""
        return None if self._labels is None else self._labels[self._picks(step, n_batch)]

    def _picks(self, step: int, n_batch: int) -> Tensor:
        """Which rows a batch holds, [n_batch]."""
        if step < 0:
            return self._held_out[evaluation_picks(step, n_batch, len(self._held_out))]
        return in_turn(step, n_batch, len(self._training), self._epoch)

    def _epoch(self, epoch: int) -> Tensor:
        """The rows of one epoch in its order; the last is remembered, which changes speed only."""
        epoch = epoch if self.repeat else 0
        if self._order[0] != epoch:
            generator = rng.stream(self.seed, "rows", "epoch", epoch)
            order = torch.randperm(len(self._training), generator=generator)
            self._order = epoch, self._training[order]
        return self._order[1]


def in_turn(step: int, n_batch: int, size: int, part: Callable[[int], Tensor]) -> Tensor:
    """Batch `step` of the endless stream `part(0), part(1), ...`, each `size` long: [n_batch, ...].

    A part is an epoch in its own order, or a block of activations.
    """
    index, start = divmod(step * n_batch, size)  # Python's integers: no overflow
    picks = list[Tensor]()
    while n_batch > 0:
        picks.append(part(index)[start : start + n_batch])
        n_batch -= len(picks[-1])
        index, start = index + 1, 0
    return torch.cat(picks)


def evaluation_picks(step: int, n_batch: int, n_held_out: int) -> Tensor:
    """Which held-out rows the negative `step` reads, in order and round again, [n_batch]."""
    if not n_held_out:
        fix = "Make the source with held_out=..., or do not evaluate."
        raise DataError(message("held_out", 0, "at least 1 row for evaluation", fix))
    start = (-step - 1) * n_batch
    return torch.arange(start, start + n_batch) % n_held_out


@dataclass(frozen=True)
class Wrapped:
    """Another source, row by row in other units."""

    source: Source

    @property
    def d_in(self) -> int:
        return self.source.d_in

    @property
    def n_samples(self) -> int | None:
        return self.source.n_samples

    def labels(self, step: int, n_batch: int) -> Tensor | None:
        """Those of the source: other units leave each row what it is."""
        source: object = self.source
        return source.labels(step, n_batch) if isinstance(source, Labelled) else None


@dataclass(frozen=True)
class Scaled(Wrapped):
    """`factor` times another source. `SAE.fold_input_scale(factor)` undoes it after training."""

    factor: float

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            fix = "sqrt(d_in) over the mean norm is usual."
            raise ParameterError(message("factor", self.factor, "a finite number > 0", fix))

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": "Scaled", "of": self.source.identity, "factor": self.factor}

    def batch(self, step: int, n_batch: int) -> Tensor:
        return self.source.batch(step, n_batch) * self.factor


@dataclass(frozen=True)
class Centred(Wrapped):
    """Another source minus a fixed `mean` [d_in], such as that of its held-out rows."""

    mean: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        if self.mean.shape != (self.d_in,) or not bool(torch.isfinite(self.mean).all()):
            allowed = f"[d_in={self.d_in}], finite"
            fix = "Take the mean over the rows of a batch: batch(-1, n).mean(dim=0)."
            raise ParameterError(message("mean.shape", tuple(self.mean.shape), allowed, fix))

    @property
    def identity(self) -> dict[str, Any]:
        mean = files.tensors_sha256([self.mean])
        return {"source": "Centred", "of": self.source.identity, "mean": mean}

    def batch(self, step: int, n_batch: int) -> Tensor:
        x = self.source.batch(step, n_batch)
        return x - self.mean.to(x.device)


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


def unit(x: Tensor) -> Tensor:
    """x / ||x||, each vector [..., d_in] by its own norm. Raises DataError for a vector of 0."""
    norm = x.norm(dim=-1, keepdim=True)
    if not bool((norm > 0).all()):
        n = int((norm == 0).sum())
        raise DataError(f"{n} vectors are 0, which have no direction. Mask padding and BOS first.")
    return x / norm


def _check(name: str, rows: Tensor) -> None:
    if rows.ndim != 2 or min(rows.shape) == 0:
        fix = "Flatten texts and positions into rows."
        raise DataError(message(f"{name}.shape", tuple(rows.shape), "[n_rows, d_in]", fix))
    if not rows.is_floating_point():
        raise DataError(message(f"{name}.dtype", rows.dtype, "a float type", "Convert it."))
    bad = (~torch.isfinite(rows)).any(dim=1).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows). "
            "Allowed are finite activations: drop those rows."
        )


def _read(path: Path) -> Tensor:
    """One 2-d tensor from a file that cannot execute anything."""
    if not path.exists():
        raise DataError(f"{path}: no such file. Give a .safetensors or .npy file of activations.")
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        tensors = load_file(path) if path.suffix == ".safetensors" else None
    except Exception as error:  # readers of headers raise whatever they stumble over
        kind, why = path.suffix.removeprefix("."), " ".join(str(error).split())[:300]
        raise DataError(f"{path.name}: not a plain {kind} file ({why}). Save it again.") from None
    if tensors is None:
        raise DataError(
            f"{path.name}: refused unread. Allowed are .safetensors and .npy, which cannot run "
            "code; save the tensor with safetensors.torch.save_file."
        )
    if len(tensors) != 1:
        names = ", ".join(sorted(tensors)) or "none"
        raise DataError(f"{path.name}: holds {names}; allowed is exactly one tensor.")
    return next(iter(tensors.values()))
