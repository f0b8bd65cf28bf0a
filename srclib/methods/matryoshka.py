"""The Matryoshka objective (Bussmann et al. 2025, arXiv:2503.17547): SAEs nested in one another.

The first m latents of each of several widths must reconstruct alone, so that general features
stand first and wider ones cannot absorb them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ParameterError, message
from ..objectives import Context, _Addable
from ..sae import SAE, SAEOutput


@dataclass(frozen=True)
class Nested(_Addable):
    """mean over m of mean_b ||x - acts[:, :m] W_dec[:m] - b_dec||^2, in place of SquaredError.

    widths: increasing, the last one d_sae. Paper: the sum over m; here the mean, so that learning
    rates and other terms compare with those of a plain SAE.
    """

    widths: tuple[int, ...]
    name = "nested"

    def __post_init__(self) -> None:
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 1:
            fix = "Give prefixes such as (64, 256, 1024)."
            raise ParameterError(message("widths", self.widths, "increasing, from 1", fix))

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if self.widths[-1] != sae.d_sae:
            fix = "End with all latents."
            raise ParameterError(message("widths[-1]", self.widths[-1], f"d_sae={sae.d_sae}", fix))
        errors, missing, start = [], x - sae.b_dec, 0
        for m in self.widths:  # what the latents before m leave, less what those up to m say
            missing = missing - out.acts[:, start:m] @ sae.W_dec[start:m]
            errors.append(missing.square().sum(dim=1).mean())
            start = m
        return torch.stack(errors).mean()
