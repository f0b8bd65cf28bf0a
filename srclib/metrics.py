"""One definition per number: pure functions of tensors.

Shapes: x, x_hat [batch, d_in]; W_dec [d_sae, d_in]; features [n_features, d_in].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .errors import DataError, ParameterError, message
from .kernels import kth_largest

RECOVERED = 0.98  # a feature counts as recovered when its matched cosine is above this


@torch.no_grad()
def unit_rows(W: Tensor) -> Tensor:
    """Rows divided by their norm; a zero row stays zero."""
    return W / W.norm(dim=1, keepdim=True).clamp(min=torch.finfo(W.dtype).tiny)


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
def decoder_pairwise_cosine(W_dec: Tensor) -> float:
    """c_dec = 2 / (h (h - 1)) sum_{i<j} |cos(W_i, W_j)|   (Sparse but Wrong, eq. 4).

    Takes any dictionary with one row per latent; for the encoder pass `W_enc.T`.
    """
    h = len(W_dec)
    if h < 2:
        raise DataError(message("len(W_dec)", h, "at least 2 rows", "One row has no pairs."))
    unit = unit_rows(W_dec.double())
    cosines = (unit @ unit.T).abs()
    return float((cosines.sum() - cosines.diag().sum()) / (h * (h - 1)))


@torch.no_grad()
def nth_decoder_projection(x: Tensor, W_dec: Tensor, b_dec: Tensor, n: int) -> float:
    """s_n^dec: Z = (x - b_dec) W_dec^T with unit rows, flattened, descending, element n * batch.

    Zero-based: exactly n * batch projections exceed it. Sparse but Wrong, appendix A.9.
    Raises ParameterError unless 0 <= n < d_sae.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < len(W_dec):
        fix = "n well above any plausible L0 and below d_sae / 2 tells most."
        allowed = f"a whole number with 0 <= n < d_sae={len(W_dec)}"
        raise ParameterError(message("n", n, allowed, fix))
    Z = (x - b_dec) @ unit_rows(W_dec).T  # [batch, d_sae]
    return kth_largest(Z, n * len(x) + 1)


class Match(NamedTuple):
    """A one-to-one assignment of latents to features."""

    mcc: float
    """mean over features of the matched cosine; an unmatched feature counts as 0"""
    cosines: Tensor
    """[n_features] signed cosine of each feature with its latent, 0 without one"""
    assignment: Tensor
    """[n_features] index of the latent matched to each feature, -1 without one"""


@torch.no_grad()
def match_to_features(W_dec: Tensor, features: Tensor) -> Match:
    """The assignment of latents to features with the largest sum of signed cosines."""
    cosines = (unit_rows(features.double()) @ unit_rows(W_dec.double()).T).cpu()
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    matched = torch.zeros(len(features), dtype=torch.float64)
    assignment = torch.full((len(features),), -1)
    matched[rows] = cosines[rows, columns]
    assignment[rows] = torch.from_numpy(columns)
    return Match(float(matched.mean()), matched, assignment)


@torch.no_grad()
def cosine_matrix(W_dec: Tensor, features: Tensor) -> Tensor:
    """[n_features, n_features]: row i is the latent matched to feature i, against all features.

    A feature without a latent has a row of zeros. What the papers draw as a heat map.
    """
    assignment = match_to_features(W_dec, features).assignment
    cosines = unit_rows(W_dec.double()) @ unit_rows(features.double()).T
    matrix = cosines[assignment.clamp(min=0)]
    matrix[assignment < 0] = 0.0
    return matrix
