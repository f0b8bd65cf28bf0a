"""The gradients of reconstruction in closed form, for gated activations.

    mse   = mean_b ||x - x_hat||^2             summed over d_in
    acts  = pre * gate                         gate: the support, constant under the gradient
    G     = 2/B (x_hat - x)                    d mse / d x_hat    [batch, d_in]
    dW_dec = acts^T G        d_pre = (G W_dec^T) * gate           [batch, d_sae]
    dW_enc = (x - b_dec)^T d_pre      db_enc = sum_b d_pre
    db_dec = sum_b G - W_enc db_enc   (the last term where the encoder subtracts b_dec)

Five matrix products and little else: two to three times as fast as autograd at toy sizes. The
tests hold it against autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .sae import SAE


@torch.no_grad()
def reconstruction_gradients(
    sae: SAE, x: Tensor, dead: Tensor | None = None, aux: float = 0.0
) -> tuple[dict[str, Tensor], Tensor]:
    """Overwrite `.grad` of the four parameters, which must exist, for the batch x [batch, d_in].

    dead: bool [d_sae]; these latents also get the gradient of AuxK with coefficient `aux`.
    Returns the losses by name (scalars) and the acts [batch, d_sae]. The activation must be
    ReLU, TopK or BatchTopK; JumpReLU's threshold has a gradient that this does not know.
    """
    dW_enc, db_enc = sae.W_enc.grad, sae.b_enc.grad
    dW_dec, db_dec = sae.W_dec.grad, sae.b_dec.grad
    assert dW_enc is not None and db_enc is not None
    assert dW_dec is not None and db_dec is not None

    centred = sae.centred(x)
    pre_acts = torch.addmm(sae.b_enc, centred, sae.W_enc)
    gate = sae.support(pre_acts)
    acts = pre_acts * gate
    residual = sae.decode(acts).sub_(x)  # [batch, d_in]
    losses = {"mse": torch.dot(residual.flatten(), residual.flatten()) / len(x)}

    G = residual * (2 / len(x))
    d_pre = (G @ sae.W_dec.T).mul_(gate)
    torch.mm(acts.T, G, out=dW_dec)
    if dead is not None and aux:
        losses["auxk"] = _add_auxk(sae, pre_acts, residual, dead.nonzero().flatten(), aux, d_pre)
    torch.mm(centred.T, d_pre, out=dW_enc)
    torch.sum(d_pre, 0, out=db_enc)
    torch.sum(G, 0, out=db_dec)
    if sae.subtract_b_dec:
        db_dec.addmv_(sae.W_enc, db_enc, alpha=-1)
    return losses, acts


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


def _add_auxk(
    sae: SAE, pre_acts: Tensor, residual: Tensor, dead: Tensor, aux: float, d_pre: Tensor
) -> Tensor:
    """Add to dW_dec and to d_pre; a dead latent has no gradient there yet. Returns the loss.

    e_hat = acts_dead W_dec[dead];  loss = weight mean_b ||e_hat - e||^2,  e = x - x_hat constant
    """
    assert sae.W_dec.grad is not None
    gate, weight = auxk_support(pre_acts[:, dead], sae.d_in)
    acts = pre_acts[:, dead] * gate  # [batch, n_dead]
    missing = torch.addmm(residual, acts, sae.W_dec[dead])  # e_hat - e
    G = missing * (2 * aux * weight / len(missing))
    sae.W_dec.grad.index_add_(0, dead, acts.T @ G)
    d_pre.index_add_(1, dead, (G @ sae.W_dec[dead].T).mul_(gate))
    return aux * weight * missing.square().sum() / len(missing)
