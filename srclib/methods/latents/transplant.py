"""Does what some latents write help a model that has not learnt them yet?

After the abstract of the second version of Inaba et al. 2025 (arXiv:2503.06394v2), whose procedure
was not available: the formulation is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
def fitted(given: Tensor, wanted: Tensor) -> Tensor:
    """[d + 1, d]: the least-squares affine map from states [n, d] of one model to another's."""
    ones = given.new_ones(len(given), 1)
    return torch.linalg.lstsq(torch.cat([given, ones], 1), wanted).solution


@torch.no_grad()
def said_anew(sae: SAE, x: Tensor, earlier: Tensor, back: Tensor) -> Tensor:
    """[n_texts, context - 1, d_sae]: what each latent says of `x` and did not of `earlier`.

    x, earlier [n_texts, context - 1, d]: unit vectors of the model that `sae` reads and of another
    one on the same texts; back: the map of `fitted` from the other's states to these.
    """
    mapped = earlier.flatten(0, 1) @ back[:-1] + back[-1]
    return (sae.encode(x.flatten(0, 1)) - sae.encode(mapped)).view(*x.shape[:-1], -1)


@torch.no_grad()
def graft(sae: SAE, anew: Tensor, group: Sequence[int], onto: Tensor) -> Tensor:
    """[n_texts, context - 1, d]: sum_f anew_f W_dec[f] over `group`, turned as by the map `onto`.

    Only the difference moves: what other latents write, in the same span too, stays.
    """
    group = list(group)
    return anew[..., group] @ sae.W_dec[group] @ onto[:-1]


@torch.no_grad()
def grafted_losses(
    model: PreTrainedModel, layer: int, ids: Tensor, way: Tensor, dose: float
) -> Tensor:
    """Losses [n_texts, context - 2] of `model`, in nats, on the words behind the first.

    ids [n_texts, context], BOS first. The state behind block `layer` moves by `dose` times the
    `way` of `graft` times its own norm. Dose 0 changes nothing.
    """

    def edit(state: Tensor) -> Tensor:
        behind = state[:, 1:]
        moved = behind + dose * way * behind.norm(dim=-1, keepdim=True)
        return torch.cat([state[:, :1], moved], dim=1)

    with edited(model, layer, "out", edit):
        return token_losses(model, ids, batch_tokens=ids.numel())[:, 1:]


def grafted_changes(
    model: PreTrainedModel,
    layer: int,
    ids: Tensor,
    ways: Mapping[str, Tensor],
    doses: Sequence[float],
    counted: Tensor,
) -> dict[tuple[str, float], dict[str, float]]:
    """Change of the loss by (group, dose), on even texts (`chosen`) and on odd ones (`measured`).

    ways: by group, from `graft`; counted [n_texts, context - 2]: the words whose losses count.
    """

    def halves(way: Tensor, dose: float) -> list[float]:
        losses = grafted_losses(model, layer, ids, way, dose)
        return [losses[i::2][counted[i::2]].mean().item() for i in (0, 1)]

    plain, found = halves(torch.zeros(()), 0.0), {}
    for name, way in ways.items():
        for dose in doses:
            moved = halves(way, dose) if way.any() else plain  # an empty group
            pairs = zip(("chosen", "measured"), moved, plain, strict=True)
            found[name, dose] = {half: after - before for half, after, before in pairs}
    return found


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
