"""Geometry of a dictionary, one row per latent, alone, beside another one and beside the truth.

For the encoder pass `W_enc.T`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..compute.fast import kth_largest
from ..errors import DataError, ParameterError, message, whole

RECOVERED = 0.98  # a feature counts as recovered when its matched cosine is above this
ROUNDING = 1e-6  # float32 rows have cosines that are known to about 1e-7


@torch.no_grad()
def unit_rows(W: Tensor) -> Tensor:
    """Rows divided by their norm; a zero row stays zero."""
    return W / W.norm(dim=1, keepdim=True).clamp(min=torch.finfo(W.dtype).tiny)


@torch.no_grad()
def decoder_pairwise_cosine(W_dec: Tensor) -> float:
    """c_dec = 2 / (h (h - 1)) sum_{i<j} |cos(W_i, W_j)|   (Sparse but Wrong, eq. 4)."""
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
    Raises ParameterError unless 0 <= n < d_sae, DataError unless x is a matrix as wide as b_dec.
    """
    if whole("n", n) >= len(W_dec):
        fix = "n well above any plausible L0 and below d_sae / 2 tells most."
        raise ParameterError(message("n", n, f"0 <= n < d_sae={len(W_dec)}", fix))
    if x.ndim != 2:
        fix = "Flatten texts and tokens into rows."
        raise DataError(message("x.shape", tuple(x.shape), "[n, d_in]", fix))
    if b_dec.shape != x.shape[1:]:
        fix = "Pass the decoder's bias of the same SAE."
        raise DataError(message("b_dec.shape", tuple(b_dec.shape), f"{tuple(x.shape[1:])}", fix))
    Z = (x - b_dec) @ unit_rows(W_dec).T  # [batch, d_sae]
    return kth_largest(Z, n * len(x) + 1)


@torch.no_grad()
def max_cosine_similarity(a: Tensor, b: Tensor, *, block: int = 2048) -> Tensor:
    """[len(a)] the largest signed cosine of each row of `a` with any row of `b`.

    Not one-to-one: several rows of `a` may have the same nearest row. A zero row has cosine 0
    with everything. At least float32; beyond its inputs it needs `block` * `block` numbers.
    Raises DataError when the widths differ or `b` has no rows.
    """
    if a.shape[1:] != b.shape[1:] or len(b) == 0:
        allowed, fix = f"[n >= 1, {a.shape[-1]}], the width of a", "Rows are directions."
        raise DataError(message("b.shape", tuple(b.shape), allowed, fix))
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    b_unit = unit_rows(b.to(dtype))
    nearest = torch.full((len(a),), -torch.inf, dtype=dtype, device=a.device)
    for a_part, best in zip(a.split(block), nearest.split(block), strict=True):
        a_unit = unit_rows(a_part.to(dtype))
        for b_part in b_unit.split(block):
            cosines = a_unit @ b_part.T  # [block, block]
            torch.maximum(best, cosines.amax(dim=1), out=best)
    return nearest


@torch.no_grad()
def displacement(W: Tensor, W0: Tensor) -> Tensor:
    """[d_sae] cosine of each row of W with the same row of W0; 1: has not turned, 0 for zero rows.

    Between the trained and the initial decoder it tells how far latents went from their start.
    """
    if W.shape != W0.shape:
        allowed, fix = f"{tuple(W.shape)}, as W", "Row i is compared with row i."
        raise DataError(message("W0.shape", tuple(W0.shape), allowed, fix))
    return (unit_rows(W.double()) * unit_rows(W0.double())).sum(dim=1)


@torch.no_grad()
def consistency(W: Tensor, others: Sequence[Tensor]) -> Tensor:
    """[d_sae] `max_cosine_similarity` of W [d_sae, d_in] with other runs, mean over the runs.

    GBA (arXiv:2506.14002); how runs are averaged is our reading. Not one-to-one: where W has more
    rows than there are features, it rewards duplicates and punishes surplus rows. Draw the same
    for random dictionaries beside it. Raises DataError without another run.
    """
    if not others:
        raise DataError(message("others", "none", "at least one other run", "Train two seeds."))
    return torch.stack([max_cosine_similarity(W, other) for other in others]).mean(dim=0)


class Match(NamedTuple):
    """A one-to-one assignment of latents to features."""

    mcc: float  # mean over features of the matched cosine; an unmatched feature counts as 0
    cosines: Tensor  # [n_features] signed cosine of each feature with its latent, 0 without one
    assignment: Tensor  # [n_features] latent matched to each feature, -1 without one


@torch.no_grad()
def match_to_features(W_dec: Tensor, features: Tensor) -> Match:
    """The assignment of latents to features with the largest sum of signed cosines.

    Raises DataError when the widths differ.
    """
    if W_dec.shape[1:] != features.shape[1:]:
        allowed, fix = f"[n, {W_dec.shape[-1]}], the width of W_dec", "Rows are directions."
        raise DataError(message("features.shape", tuple(features.shape), allowed, fix))
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


@torch.no_grad()
def feature_recovery_rate(W_dec: Tensor, features: Tensor, tau: float) -> float:
    """FRR: the share of features with max_i cos(W_i, feature) >= tau  (arXiv:2506.14002).

    Signed, and not one-to-one: one latent may serve two features. The bound gives way by
    `ROUNDING`, so that a feature copied into the decoder is recovered at tau = 1. NaN where a
    dictionary is not finite.
    """
    nearest = max_cosine_similarity(features.double(), W_dec.double())
    if not bool(nearest.isfinite().all()):
        return math.nan
    return float((nearest >= tau - ROUNDING).double().mean())
