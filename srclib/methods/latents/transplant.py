"""Does what some latents write help a model that has not learnt them yet?

After the abstract of the second version of Inaba et al. 2025 (arXiv:2503.06394v2), whose procedure
was not available: the formulation is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...lm.harvest import token_losses
from ...lm.sites import edited
from ...sae import SAE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Graft(NamedTuple):
    """What some latents of one model's state say, in the basis of another's."""

    there: Tensor  # [n_texts, context - 1, d] the state that they alone would give, of norm about 1
    inside: Tensor  # [d, r] orthonormal: the span in which they write


@torch.no_grad()
def fitted(given: Tensor, wanted: Tensor) -> Tensor:
    """[d + 1, d]: the least-squares affine map from states [n, d] of one model to another's."""
    ones = given.new_ones(len(given), 1)
    return torch.linalg.lstsq(torch.cat([given, ones], 1), wanted).solution


@torch.no_grad()
def graft(sae: SAE, x: Tensor, group: Sequence[int], onto: Tensor) -> Graft:
    """sum_f z_f W_dec[f] + b_dec over `group`, through the map `onto` of `fitted`.

    x [n_texts, context - 1, d]: unit vectors of the model that `sae` reads.
    """
    group, turn = list(group), onto[:-1]
    rows = sae.W_dec[group]
    said = sae.encode(x.flatten(0, 1))[:, group] @ rows + sae.b_dec
    r = int(torch.linalg.matrix_rank(rows @ turn)) if group else 0
    inside = torch.linalg.svd(rows @ turn, full_matrices=False).Vh[:r].T
    return Graft((said @ turn + onto[-1]).view_as(x), inside)


@torch.no_grad()
def grafted_losses(
    model: PreTrainedModel, layer: int, ids: Tensor, grafted: Graft, dose: float
) -> Tensor:
    """Losses [n_texts, context - 2] of `model`, in nats, on the words behind the first.

    ids [n_texts, context], BOS first. Inside the span of the graft the state behind block `layer`
    moves by `dose` of the way to what the graft says, times its own norm. Dose 0 changes nothing.
    """
    there, inside = grafted

    def edit(state: Tensor) -> Tensor:
        behind = state[:, 1:]
        way = there * behind.norm(dim=-1, keepdim=True) - behind
        return torch.cat([state[:, :1], behind + dose * way @ inside @ inside.T], dim=1)

    with edited(model, layer, "out", edit):
        return token_losses(model, ids, batch_tokens=ids.numel())[:, 1:]


def alike(
    wanted: Sequence[int],
    among: Sequence[int],
    strength: np.ndarray,
    generator: torch.Generator,
    n_nearest: int = 8,
) -> list[int]:
    """For each latent of `wanted` another one of `among`, each once, drawn from those of nearest
    `strength` [d_sae], such as their mean activation."""
    chosen: list[int] = []
    for f in wanted:
        rest = np.setdiff1d(among, chosen)
        near = rest[np.argsort(abs(strength[rest] - strength[f]))[:n_nearest]]
        chosen.append(int(near[int(torch.randint(len(near), (), generator=generator))]))
    return chosen
