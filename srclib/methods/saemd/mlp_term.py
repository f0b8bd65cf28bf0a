"""What the MLP adds to the output of its block: the term that SAE-MD starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...lm.sites import mlp_pass

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def mlp_share(model: PreTrainedModel, layer: int, ids: Tensor) -> dict[str, float]:
    """How much of a block's output is its MLP's term f, of the rest x - f; over all tokens.

        share = E|f|^2 / E|x|^2    residual = E|x - f|^2 / E|x|^2    cosine = E cos(f, x)

    negative: share of (neuron, token) entries below 0. float64.
    """
    seen = mlp_pass(model, layer, ids)
    out, term = seen.out.flatten(0, 1).double(), seen.term.flatten(0, 1).double()
    power = out.square().sum()
    return {
        "share": float(term.square().sum() / power),
        "residual": float((out - term).square().sum() / power),
        "cosine": float(torch.nn.functional.cosine_similarity(term, out).mean()),
        "negative": float((seen.neurons < 0).double().mean()),
    }
