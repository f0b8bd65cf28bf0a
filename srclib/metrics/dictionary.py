"""Geometry of a dictionary: one row per latent. For the encoder pass `W_enc.T`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message
from ..fast import kth_largest


@torch.no_grad()
def unit_rows(W: Tensor) -> Tensor:
    """Rows divided by their norm; a zero row stays zero."""
    return W / W.norm(dim=1, keepdim=True).clamp(min=torch.finfo(W.dtype).tiny)


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


@torch.no_grad()
def max_cosine_similarity(a: Tensor, b: Tensor, *, block: int = 2048) -> Tensor:
    """[len(a)] the largest signed cosine of each row of `a` with any row of `b`.

    Not one-to-one: several rows of `a` may have the same nearest row. A zero row has cosine 0
    with everything. At least float32; beyond its inputs it needs `block` * `block` numbers.
    Raises DataError when the widths differ or `b` has no rows.
    """
    if a.shape[1:] != b.shape[1:] or len(b) == 0:
        fix = "Compare dictionaries of one space, with rows as directions."
        allowed = f"[n, {a.shape[-1]}] with n >= 1, the width of a"
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
    Raises DataError when the shapes differ.
    """
    if W.shape != W0.shape:
        fix = "Row i is compared with row i."
        raise DataError(message("W0.shape", tuple(W0.shape), f"{tuple(W.shape)}, as W", fix))
    return (unit_rows(W.double()) * unit_rows(W0.double())).sum(dim=1)
