"""How well inputs are rebuilt: x, x_hat [batch, d_in]."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def mse(x: Tensor, x_hat: Tensor) -> float:
    """mean_b ||x - x_hat||^2: summed over d_in, averaged over the batch."""
    return float((x - x_hat).double().square().sum(dim=1).mean())


@torch.no_grad()
def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Fraction of variance unexplained, sum ||x - x_hat||^2 / sum ||x - mean x||^2.

    Centred; both sums run over batch and dimension. NaN where the variance is zero.
    """
    x, x_hat = x.double(), x_hat.double()
    variance = (x - x.mean(dim=0)).square().sum()
    # Rounding leaves a constant input with a variance of about eps^2 |x|^2, not exactly 0.
    if variance <= 1e-24 * x.square().sum():
        return math.nan
    return float((x - x_hat).square().sum() / variance)


@torch.no_grad()
def uncentred_variance_explained(x: Tensor, x_hat: Tensor) -> float:
    """1 - mean ||x - x_hat||^2 / mean ||x||^2, as the Sparse but Wrong notebooks draw it.

    Uncentred: predicting the mean scores above 0. NaN where x is zero.
    """
    power = x.double().square().sum()
    if power == 0:
        return math.nan
    return float(1 - (x - x_hat).double().square().sum() / power)


@torch.no_grad()
def l0(acts: Tensor) -> float:
    """Mean number of latents of a row that are not 0. acts: [n, d_sae]."""
    return float((acts != 0).sum(dim=1).double().mean())
