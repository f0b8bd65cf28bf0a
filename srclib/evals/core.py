"""SAEBench "core": does the model still predict with the SAE in place, and how does it encode?"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..metrics import unit_rows


def loss_recovered(ce_clean: float, ce_sae: float, ce_zero: float) -> float:
    """(CE_zero - CE_sae) / (CE_zero - CE_clean): 1 as without the SAE, 0 as with zeros.

    Mean cross entropies of one model on one text (any unit) with the residual left alone, replaced
    by decode(encode(x)), and replaced by zeros, at every position. Below 0 where the SAE is worse
    than zeros. NaN when zeros cost nothing. As in SAEBench.
    """
    gap = ce_zero - ce_clean
    return (ce_zero - ce_sae) / gap if gap != 0 else math.nan


class CodeStatistics(NamedTuple):
    """How an SAE encodes a batch."""

    l0: float
    """mean number of active latents"""
    l1: float
    """mean sum of |acts|"""
    alive: float
    """share of latents that are `alive`"""
    cosine: float
    """mean cos(x, x_hat)"""
    l2_ratio: float
    """mean ||x_hat|| / ||x||; below 1: shrinkage"""
    relative_bias: float
    """E ||x_hat||^2 / E x . x_hat; 1 for an unbiased reconstruction"""


@torch.no_grad()
def code_statistics(x: Tensor, acts: Tensor, x_hat: Tensor) -> CodeStatistics:
    """x, x_hat: [batch, d_in]; acts: [batch, d_sae].

    As in SAEBench, but for two things. Rows of x that are zero have no direction: they are left
    out of `cosine` and `l2_ratio` (NaN when all are). Unexplained variance is `metrics.fvu`:
    release 0.6.0 computes a number of that name without subtracting the mean.
    """
    present = x.norm(dim=1) > 0
    inside, outside = x[present].double(), x_hat[present].double()
    cosines = (unit_rows(inside) * unit_rows(outside)).sum(dim=1)
    ratios = outside.norm(dim=1) / inside.norm(dim=1)
    power = x_hat.double().square().sum()
    overlap = (x.double() * x_hat.double()).sum()
    return CodeStatistics(
        l0=float(acts.count_nonzero() / len(acts)),
        l1=float(acts.abs().sum(dtype=torch.float64) / len(acts)),
        alive=float(alive(acts).double().mean()),
        cosine=float(cosines.mean()),
        l2_ratio=float(ratios.mean()),
        relative_bias=float(power / overlap) if overlap != 0 else math.nan,
    )


@torch.no_grad()
def firing_rate(acts: Tensor) -> Tensor:
    """[d_sae] float64: the share of rows on which each latent is active. acts: [batch, d_sae]."""
    return acts.count_nonzero(dim=0).double() / len(acts)


def alive(acts: Tensor, min_rate: float = 1e-4) -> Tensor:
    """[d_sae] bool: active on at least `min_rate` of the rows, and on one. acts: [batch, d_sae].

    The least rate needs 10,000 rows or more to mean anything.
    """
    rate = firing_rate(acts)
    return (rate >= min_rate) & (rate > 0)
