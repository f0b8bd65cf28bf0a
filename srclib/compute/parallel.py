"""One training over several processes that `torchrun` started, each with a device of its own.

    torchrun --nproc-per-node 4 train_my_sae.py      # the script calls srclib.train or srclib.sweep

`train` is then data parallel: each rank reads its share of every batch, and what a step needs of
the whole batch is reduced: gradients (one flat vector, before clipping), BatchTopK's cut, the L0
that a target compares, and which latents fired. `sweep` is SAE parallel: each rank trains its share
of the runs, and of a block of activations each forwards a share and gathers the rest.

Without torchrun there is one rank, and every function here gives back what it gets.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from ..errors import ParameterError, message

T = TypeVar("T")
_apart = 0  # inside `alone`, ranks do different things


def start() -> None:
    """Join the ranks of torchrun, once; nothing without it."""
    if "RANK" in os.environ and "MASTER_ADDR" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    return dist.get_rank() if _started() else 0


def size() -> int:
    """Ranks that share a batch: 1 inside `alone`."""
    return dist.get_world_size() if _started() and not _apart else 1


def ranks() -> int:
    """All ranks, also inside `alone`."""
    return dist.get_world_size() if _started() else 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, every rank trains SAEs of its own: nothing of a step is reduced."""
    global _apart
    _apart += 1
    try:
        yield
    finally:
        _apart -= 1


def share(x: T, n_batch: int) -> T:
    """This rank's rows of a batch. Raises ParameterError where ranks would get unequal shares."""
    if size() == 1 or x is None:
        return x
    if n_batch % size():
        fix = "Choose another n_batch, or number of ranks."
        raise ParameterError(message("n_batch", n_batch, f"a multiple of {size()} ranks", fix))
    n = n_batch // size()
    rows: T = x[rank() * n : (rank() + 1) * n]  # type: ignore[index]
    return rows


def mean_(x: Tensor) -> Tensor:
    """In place, the mean over ranks."""
    if size() > 1:
        dist.all_reduce(x)
        x /= size()
    return x


def max_(x: Tensor) -> Tensor:
    """In place, the elementwise maximum over ranks."""
    if size() > 1:
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def gathered(x: Tensor) -> Tensor:
    """The tensors of all ranks (of equal shapes), one behind the other."""
    if size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def mine(tasks: Sequence[T]) -> list[T]:
    """This rank's share of independent tasks."""
    return list(tasks[rank() :: ranks()])


def barrier() -> None:
    """Wait for all ranks."""
    if ranks() > 1:
        dist.barrier()


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()
