"""AuxK: dead latents reconstruct what the others miss (Gao et al. 2024); see `objectives.AuxK`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..compute.place import on_cpu
from ..sae import SAE


def auxk_support(dead_pre: Tensor, d_in: int) -> tuple[Tensor, float]:
    """Which dead latents reconstruct the residual, and with which weight.

    dead_pre: raw pre-activations of the dead latents [batch, n_dead]. Per input the
    k_aux = d_in // 2 largest are used, as many as there are; the weight is
    min(n_dead / k_aux, 1) for the wanted k_aux. Returns a float mask and the weight.
    """
    n_dead, k_aux = dead_pre.shape[1], max(d_in // 2, 1)
    if n_dead <= k_aux:
        return torch.ones_like(dead_pre), n_dead / k_aux
    picks = dead_pre.topk(k_aux, dim=1, sorted=False).indices
    return torch.zeros_like(dead_pre).scatter_(1, picks, 1.0), 1.0


def auxk_rows(pre_acts: Tensor, dead: Tensor, d_in: int) -> tuple[Any, Tensor, Any]:
    """(rows, gate, weight): pre_acts[:, rows] * gate reconstruct the residual, see `auxk_support`.

    dead: bool [d_sae]. On the CPU the rows are the dead latents; on an accelerator, where to count
    them would make it wait, they are all, and the gate leaves the living ones out.
    """
    if on_cpu(dead):
        rows = dead.nonzero().flatten()
        return rows, *auxk_support(pre_acts[:, rows], d_in)
    k_aux = max(d_in // 2, 1)
    scores = pre_acts.masked_fill(~dead, -math.inf)
    values, picks = scores.topk(min(k_aux, len(dead)), dim=1, sorted=False)
    gate = torch.zeros_like(pre_acts).scatter_(1, picks, (values > -math.inf).to(pre_acts.dtype))
    return slice(None), gate, (dead.sum() / k_aux).clamp(max=1)


def add_auxk(
    sae: SAE, pre_acts: Tensor, residual: Tensor, dead: Tensor, aux: float
) -> tuple[Tensor, Any, Tensor]:
    """Add to dW_dec. Returns the loss, the latents that helped, and what to add to their d_pre.

    e_hat = acts_dead W_dec[dead];  loss = weight mean_b ||e_hat - e||^2,  e = x - x_hat constant
    """
    assert sae.W_dec.grad is not None
    rows, gate, weight = auxk_rows(pre_acts, dead, sae.d_in)
    acts = pre_acts[:, rows] * gate  # [batch, n_dead]
    missing = torch.addmm(residual, acts, sae.W_dec[rows])  # e_hat - e
    G = missing * (2 * aux * weight / len(missing))
    sae.W_dec.grad[rows] += acts.T @ G
    more = (G @ sae.W_dec[rows].T).mul_(gate)
    return aux * weight * missing.square().sum() / len(missing), rows, more
