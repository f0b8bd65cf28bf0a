"""Does what some latents write help a model that has not learnt them yet?

After the abstract of the second version of Inaba et al. 2025 (arXiv:2503.06394v2), whose procedure
was not available: the formulation is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...lm.harvest import token_losses
from ...lm.sites import edited
from ...sae import SAE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def transplanted_loss(
    model: PreTrainedModel,
    layer: int,
    ids: Tensor,
    counted: Tensor,
    sae: SAE,
    x: Tensor,
    group: Sequence[int],
) -> float:
    """Mean loss of `model`, in nats, with the part of another model's state that `group` writes.

    ids [n_texts, context], BOS first. counted [n_texts, context - 2] bool: over which tokens behind
    BOS and the first word the mean is. x [n_texts, context - 1, d]: unit vectors of the other
    model, which `sae` reads. Inside the span of the group's decoder rows the state behind block
    `layer` becomes sum_f z_f W_dec[f] + b_dec, times its norm. An empty group changes nothing.
    """
    group = list(group)
    rows = sae.W_dec[group]
    inside = torch.linalg.qr(rows.T).Q  # [d, n_group]
    part = sae.encode(x.flatten(0, 1))[:, group] @ rows
    part = (part + sae.b_dec @ inside @ inside.T).view_as(x)

    def edit(state: Tensor) -> Tensor:
        behind = state[:, 1:]
        new = behind - behind @ inside @ inside.T + part * behind.norm(dim=-1, keepdim=True)
        return torch.cat([state[:, :1], new], dim=1) if group else state

    with edited(model, layer, "out", edit):
        losses = token_losses(model, ids, batch_tokens=ids.numel())[:, 1:]
    return losses[counted].mean().item()


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
