"""Handles on a relation: vectors [swaps, d_model] as a function of the strength alpha.

h [swaps, d_model] is what stands at the site, a and b [swaps] are the relations that are asked for
and wanted. `steering.swap_latents` is the handle of an SAE without slots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import metrics
from ...activations import ReLU, TopK
from ...objectives import Objective
from ...sae import SAE
from . import LINEAR_LAYER_NORM, steering, terms

if TYPE_CHECKING:
    from . import AlignSAE

Handle = Callable[[float], Tensor]


def slots(sae: AlignSAE, unit: Tensor, h: Tensor, a: Tensor, b: Tensor) -> Handle:
    """Slot a to 0, slot b to alpha times its unit. unit [K]; a = b lowers one slot."""
    return lambda alpha: steering.swap_slots(sae, h, a, b, alpha * unit[b])


def latents(sae: SAE, chosen: Tensor, unit: Tensor, h: Tensor, a: Tensor, b: Tensor) -> Handle:
    """As `slots`, through any latents: chosen [K], one per relation."""
    off, on = chosen[a, None], chosen[b, None]
    return lambda alpha: steering.rewrite(sae, h, off, on, alpha * unit[b, None])


def along(h: Tensor, step: Tensor, length: Tensor | None = None) -> Handle:
    """h + alpha step, [swaps, d_model] each. length: gives the rows of `step` its own norms."""
    if length is not None:
        step = metrics.unit_rows(step) * length.norm(dim=1, keepdim=True)
    return partial(steering.add, h, step)


def silencers(
    sae: AlignSAE, unit: Tensor, means: Tensor, h: Tensor, out: Tensor
) -> dict[str, Handle]:
    """What takes relations out [swaps] of h, the more the larger the strength.

    slot: at strength 1 the slot is 0, at 2 minus its unit. means: less the offset of a class mean
    from the mean of all, whole at strength 1. unit [K], means [K, d_model].
    """
    slot = slots(sae, unit, h, out, out)
    offset = along(h, (means.mean(dim=0) - means)[out])
    return {"slot": lambda strength: slot(1 - strength), "means": offset}


def own_strength(
    sae: AlignSAE, acts: Tensor, unit: Tensor, means: Tensor, h: Tensor, a: Tensor, b: Tensor
) -> dict[str, Handle]:
    """Slots and difference of means, each row as strong as it shows its own relation a.

    acts [swaps, K] of the slots, unit [K], means [K, d_model] of the classes.
    """
    slot = acts.gather(1, a[:, None])[:, 0] / unit[a].clamp(min=1e-6)
    centre = means.mean(dim=0)
    offset = (means - centre)[a]
    shown = ((h - centre) * offset).sum(dim=1) / offset.square().sum(dim=1)
    step = (means[b] - means[a]) * shown[:, None]
    return {
        "AlignSAE, own strength": lambda t: steering.swap_slots(sae, h, a, b, t * slot * unit[b]),
        "means, own strength": along(h, step),
    }


def class_means(x: Tensor, relation: Tensor) -> Tensor:
    """[K, d_model]: mean of the vectors of each relation, none of which is without rows."""
    return torch.stack([x[relation == r].mean(dim=0) for r in range(int(relation.max()) + 1)])


def probe_weights(x: Tensor, relation: Tensor) -> Tensor:
    """[K, d_model]: weights of a logistic regression of the relation on the vectors."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=2000).fit(x.numpy(), relation.numpy())
    return torch.from_numpy(fitted.coef_).float()


def unsupervised(arm: str, d_in: int, d_sae: int, seed: int) -> tuple[SAE, Objective]:
    """An SAE without labels that starts as an AlignSAE of its size does, and what it minimises.

    arm: "plain", ReLU with reconstruction and sparsity as in stage 2 from the start, as published;
    or "TopK 4", of whose latents the 4 largest are active, with reconstruction alone.
    """
    plain = arm == "plain"
    activation = ReLU() if plain else TopK(int(arm.removeprefix("TopK ")))
    norm = LINEAR_LAYER_NORM
    sae = SAE(d_in, d_sae, activation, seed=seed, decoder_norm=norm, subtract_b_dec=False)
    error = terms.Reconstruction()
    return sae, Objective((error, terms.Sparsity(1e-3)) if plain else (error,))
