"""What two programs say of the same thing, and whether it is the same."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from srclib import SAE
from srclib.objectives import Context, Objective
from srclib.training.backward import backward


class Row(NamedTuple):
    """gap: the largest difference, in units of the largest number that is compared."""

    what: str
    of: str
    against: str
    gap: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.gap <= self.allowed  # False for NaN


def agree(
    what: str, of: str, against: str, theirs: object, ours: object, allowed: float = 1e-6
) -> Row:
    """A row of two tensors or numbers of one shape. What is zero everywhere proves nothing."""
    a, b = (torch.as_tensor(each).detach().double() for each in (theirs, ours))
    assert a.shape == b.shape, f"{what} of {of}: {tuple(a.shape)} is not {tuple(b.shape)}"
    largest = float(a.abs().max())
    gap = float((a - b).abs().max()) / largest if largest else float("nan")
    return Row(what, of, against, gap, allowed)


def our_loss(sae: SAE, objective: Objective, x: Tensor, context: Context) -> Tensor:
    """All terms of one update in float64; the gradients are left in the SAE's parameters."""
    sae.double().train()
    for p in sae.parameters():
        p.grad = torch.zeros_like(p)
    return torch.stack([*backward(objective, sae, x, context).losses.values()]).sum()
