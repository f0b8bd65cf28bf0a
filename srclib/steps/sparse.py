"""Training that computes with the active latents alone: where it is worth it, and its buffers.

After the encoder product four of five products of a step meet acts that are 95 to 99.9 % zeros.
`supports` decides once per run, from the run alone, so that a run gives the same bytes in a list
and by itself; each step then looks at its own density, and above `DENSEST` computes whole tables as
toys do. Both ways are the same formulas (`gradients`) and differ by rounding.

Such runs store W_enc by rows of latents, as W_dec is: gradients arrive row by row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..activations import BatchTopK, JumpReLU, TopK
from ..compute import parallel
from ..compute.fast import largest_places
from ..compute.place import on_cpu
from ..sae import SAE
from .pairs import Pairs

LEAST = 1024  # latents: below, tables are small and pairs gain little over zeros
DENSEST = 0.12  # share of active pairs up to which they were faster at every size tried


class Room:
    """Tables that a run needs in every step, made once: new ones of 30 MB cost page faults."""

    def __init__(self) -> None:
        self.tables: dict[str, Tensor] = {}

    def table(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Of this shape, holding anything; one per name, for all SAEs that train together."""
        n, there = math.prod(shape), self.tables.get(name)
        if there is None or there.numel() < n or there.dtype != dtype:
            there = self.tables[name] = torch.empty(n, dtype=dtype)
        return there[:n].view(shape)

    def select(self, sae: SAE, pre_acts: Tensor, jumps: bool) -> tuple[Pairs, float | None] | None:
        """The pairs of a step and BatchTopK's smallest score kept; None where they are too many.

        jumps: inactive latents within half a bandwidth below their thresholds belong to it.
        """
        if isinstance(sae.activation, TopK | BatchTopK):
            found = self._largest(sae, pre_acts)
        else:
            found = self._above(sae, pre_acts, jumps)
        return None if found is None else (Pairs(found[0], len(pre_acts), sae.d_sae), found[1])

    def _largest(self, sae: SAE, pre_acts: Tensor) -> tuple[np.ndarray, float | None] | None:
        activation, shape = sae.activation, (len(pre_acts), sae.d_sae)
        assert isinstance(activation, TopK | BatchTopK)
        if activation.k > DENSEST * sae.d_sae or not sae.training:
            return None
        scores = pre_acts
        if sae.select_by == "rescaled":
            norms, out = (
                torch.linalg.vector_norm(sae.W_dec, dim=1),
                self.table("scores", shape, pre_acts.dtype),
            )
            scores = torch.mul(pre_acts, norms, out=out)
        mask = self.table("mask", shape, torch.bool)
        if isinstance(activation, TopK):
            places = largest_places(scores, activation.k, mask)
            return None if places is None else (places, None)
        flat = scores.view(1, -1)
        places = largest_places(flat, activation.n_kept(len(pre_acts)), mask.view(1, -1))
        if places is None:
            return None
        kept = flat.numpy()[0, places]
        return places, float(kept.min(initial=math.inf))

    def _above(self, sae: SAE, pre_acts: Tensor, jumps: bool) -> tuple[np.ndarray, None] | None:
        bound: Any = 0.0
        if isinstance(sae.activation, JumpReLU):
            bound = theta = sae.jump_threshold().detach().numpy()
            if jumps:  # a little lower, against rounding: the formulas look at each pair again
                bound = theta - 0.5001 * sae.activation.bandwidth - 1e-6 * theta
        mask = self.table("mask", (len(pre_acts), sae.d_sae), torch.bool).numpy()
        # not `greater`: what is not a number must not count as silent
        np.logical_not(np.less_equal(pre_acts.numpy(), bound, out=mask), out=mask)
        if np.count_nonzero(mask) > DENSEST * mask.size:
            return None
        return np.flatnonzero(mask), None


def supports(sae: SAE) -> bool:
    """Whether a run of this SAE, whose gradients have a closed form, may compute with pairs."""
    alone = parallel.size() == 1  # BatchTopK's cut over ranks reads whole tables
    return type(sae) is SAE and on_cpu(sae.W_dec) and alone and sae.d_sae >= LEAST


def splits_latents(sae: SAE) -> bool:
    """Whether autograd stops at the latents where terms read nothing else: the closed form goes on.

    A wide SAE's weights then get their gradients in place. Toys keep to autograd, and their bits.
    """
    plain = type(sae).activate is SAE.activate  # acts are pre_acts times a support
    return plain and sae.d_sae >= LEAST and parallel.size() == 1
