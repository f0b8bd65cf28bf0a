"""Does a latent come back in another run, and which latents does one ask about?

Group Bias Adaptation (arXiv:2506.14002) reports the share of neurons whose maximum cosine
similarity (MCS) with another run exceeds a threshold, among the alpha most prominent ones by some
score. How runs are averaged, alpha and the scores are our reading: no source defines them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message
from .dictionary import max_cosine_similarity


@torch.no_grad()
def consistency(W: Tensor, others: Sequence[Tensor]) -> Tensor:
    """[d_sae] MCS of each row of W [d_sae, d_in] with another run's dictionary, mean over runs.

    Not one-to-one: where W has more rows than there are features, it rewards duplicates and
    punishes surplus rows. Draw the same for random dictionaries beside it.
    Raises DataError without another run.
    """
    if not others:
        raise DataError(message("others", "none", "at least one other run", "Train two seeds."))
    return torch.stack([max_cosine_similarity(W, other) for other in others]).mean(dim=0)


@torch.no_grad()
def z_score(pre_acts: Tensor) -> Tensor:
    """[d_sae] (max - mean) / std over inputs of pre_acts [n, d_sae]; 0 where nothing varies."""
    values = pre_acts.double()
    std = values.std(dim=0, correction=0)
    return torch.where(std > 0, (values.amax(dim=0) - values.mean(dim=0)) / std, 0.0)


@torch.no_grad()
def most_prominent(score: Tensor, alpha: float, alive: Tensor | None = None) -> Tensor:
    """Indices of the ceil(alpha d_sae) latents with the largest score [d_sae], largest first.

    alive: bool [d_sae]; dead latents are left out, alpha still counts all of them.
    Raises ParameterError unless 0 < alpha <= 1, DataError for a score that is NaN.
    """
    if not 0 < alpha <= 1:
        raise ParameterError(message("alpha", alpha, "0 < alpha <= 1", "1 takes every latent."))
    if bool(score.isnan().any()):
        fix = "Score latents on inputs without NaN."
        raise DataError(message("score", "NaN", "numbers", fix))
    wanted = math.ceil(alpha * len(score) - 1e-6)  # 1e-6: 0.07 of 100 is 7, not 7.000...1
    order = score.argsort(descending=True, stable=True)
    return order[alive[order]][:wanted] if alive is not None else order[:wanted]
