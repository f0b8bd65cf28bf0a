"""The gradients of an SAE in closed form.

    mse   = mean_b ||x - x_hat||^2             summed over d_in
    G     = 2/B (x_hat - x)                    d mse / d x_hat    [batch, d_in]
    A     = G W_dec^T                          d mse / d acts     [batch, d_sae]
    d_pre = A * gate                           gate: the support, constant under the gradient
    dW_dec = acts^T G        dW_enc = (x - b_dec)^T d_pre         db_enc = sum_b d_pre
    db_dec = sum_b G - W_enc db_enc            (the last term where the encoder subtracts b_dec)

A penalty mean_b sum_i phi(acts_i ||W_i||) adds to A and dW_dec. JumpReLU's threshold has the
straight-through gradient dtheta = -sum_b A (theta / bandwidth) kernel, to which a term g(L0) adds
-g' mean_b kernel / bandwidth. AuxK adds for dead latents. Five matrix products and little else:
two to three times as fast as autograd at toy sizes. The tests hold all of it against autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from . import parallel
from .activations import JumpReLU, kernel
from .place import on_cpu
from .sae import SAE


class Pass(NamedTuple):
    """What one forward and backward pass leaves behind besides the gradients."""

    losses: dict[str, Tensor]  # the terms of the objective by name, scalars
    acts: Tensor  # [batch, d_sae]
    smallest_kept: float | Tensor | None  # of BatchTopK's scores, infinite where it kept none


class Penalty(Protocol):
    """A sparsity penalty mean_b sum_i phi(u_i) on the scaled acts u = acts * ||W_dec||."""

    @property
    def name(self) -> str: ...

    def phi(self, u: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """phi(u) and its derivative, elementwise [batch, d_sae], coefficient and warm-up in."""
        ...


class OfL0(Protocol):
    """A term g(L0) of the batch-mean number of active JumpReLU latents."""

    @property
    def name(self) -> str: ...

    def of(self, l0: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """g and its derivative, scalars, coefficient and warm-up in."""
        ...


@torch.no_grad()
def closed_form_gradients(
    sae: SAE,
    x: Tensor,
    step: int = 0,
    penalties: Sequence[Penalty] = (),
    targets: Sequence[OfL0] = (),
    dead: Tensor | None = None,
    aux: float = 0.0,
) -> Pass:
    """Overwrite every `.grad` of the SAE, which must exist, for the batch x [batch, d_in].

    dead: bool [d_sae]; these latents also get the gradient of AuxK with coefficient `aux`.
    """
    dW_enc, db_enc = sae.W_enc.grad, sae.b_enc.grad
    dW_dec, db_dec = sae.W_dec.grad, sae.b_dec.grad
    assert dW_enc is not None and db_enc is not None
    assert dW_dec is not None and db_dec is not None

    centred = sae.centred(x)
    pre_acts = torch.addmm(sae.b_enc, centred, sae.W_enc)
    gate, smallest_kept = sae.select(pre_acts)
    acts = pre_acts * gate
    residual = sae.decode(acts).sub_(x)  # [batch, d_in]
    losses = {"mse": torch.dot(residual.flatten(), residual.flatten()) / len(x)}

    G = residual * (2 / len(x))
    A = G @ sae.W_dec.T
    torch.mm(acts.T, G, out=dW_dec)
    for penalty in penalties:
        losses[penalty.name] = _add_penalty(sae, acts, penalty, step, A)
    d_pre = A * gate
    if isinstance(sae.activation, JumpReLU) and (targets or _reads_threshold(sae, sae.activation)):
        slope = torch.zeros_like(losses["mse"])
        for target in targets:
            losses[target.name], more = target.of(parallel.mean_(gate.sum() / len(x)), step)
            slope += more
        asked = slope if targets else None
        _threshold_gradient(sae, sae.activation, pre_acts, gate, A, asked, d_pre)
    if dead is not None and aux:
        losses["auxk"] = _add_auxk(sae, pre_acts, residual, dead, aux, d_pre)
    torch.mm(centred.T, d_pre, out=dW_enc)
    torch.sum(d_pre, 0, out=db_enc)
    torch.sum(G, 0, out=db_dec)
    if sae.subtract_b_dec:
        db_dec.addmv_(sae.W_enc, db_enc, alpha=-1)
    return Pass(losses, acts, smallest_kept)


def _add_penalty(sae: SAE, acts: Tensor, penalty: Penalty, step: int, A: Tensor) -> Tensor:
    """Add to A and dW_dec: phi' ||W_i|| for acts_i, phi' acts_i W_i / ||W_i|| for row i."""
    assert sae.W_dec.grad is not None
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1).clamp_(min=1e-12)
    value, slope = penalty.phi(acts * norms, step)
    slope = slope / len(acts)
    A.addcmul_(slope, norms.expand_as(slope))
    sae.W_dec.grad.addcmul_(((slope * acts).sum(0) / norms)[:, None], sae.W_dec)
    return value.sum() / len(acts)


def _reads_threshold(sae: SAE, activation: JumpReLU) -> bool:
    """False where a frozen threshold's gradient has no reader: a quarter of a step is saved."""
    assert sae.theta is not None and sae.theta.grad is not None
    sae.theta.grad.zero_()
    return sae.theta.requires_grad or activation.through_pre


def _threshold_gradient(
    sae: SAE,
    activation: JumpReLU,
    pre_acts: Tensor,
    gate: Tensor,
    A: Tensor,
    l0_slope: Tensor | None,
    d_pre: Tensor,
) -> None:
    """Set dtheta; with `through_pre` the kernel also passes gradient to the pre-activation.

    l0_slope: derivative of the loss with respect to the batch-mean L0, None where nothing asks.
    """
    assert sae.theta is not None and sae.theta.grad is not None
    theta, width = sae.jump_threshold(), activation.bandwidth
    near = kernel(pre_acts, theta, width)
    jump = A * near
    jump *= theta / width
    torch.sum(jump, 0, out=sae.theta.grad)
    if l0_slope is not None:
        if activation.l0_on == "f":  # kernel(acts): where inactive, all stand at 0
            inactive = (1 - gate.mean(0)) * (theta < width / 2)
            share = near.mul_(gate).mean(0) + inactive
        else:
            share = near.mean(0)
        sae.theta.grad.add_(share * (l0_slope / width))
    sae.theta.grad.mul_(-theta if activation.log_threshold else -1.0)
    if activation.through_pre:
        d_pre += jump


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


def _add_auxk(
    sae: SAE, pre_acts: Tensor, residual: Tensor, dead: Tensor, aux: float, d_pre: Tensor
) -> Tensor:
    """Add to dW_dec and to d_pre; a dead latent has no gradient there yet. Returns the loss.

    e_hat = acts_dead W_dec[dead];  loss = weight mean_b ||e_hat - e||^2,  e = x - x_hat constant
    """
    assert sae.W_dec.grad is not None
    rows, gate, weight = auxk_rows(pre_acts, dead, sae.d_in)
    acts = pre_acts[:, rows] * gate  # [batch, n_dead]
    missing = torch.addmm(residual, acts, sae.W_dec[rows])  # e_hat - e
    G = missing * (2 * aux * weight / len(missing))
    sae.W_dec.grad[rows] += acts.T @ G
    d_pre[:, rows] += (G @ sae.W_dec[rows].T).mul_(gate)
    return aux * weight * missing.square().sum() / len(missing)
