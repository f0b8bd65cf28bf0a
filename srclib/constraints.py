"""What weights are held to in training: frozen parameters, unit decoder rows, tied weights.

Gradients are brought in line before clipping and Adam, weights after. A tied SAE has one matrix
V [d_sae, d_in]: W_dec = V and W_enc = unit(V)^T, so that |V_m| is the trained output scale a_m of
latent m and unit(V_m) its direction w_m (Group Bias Adaptation: f(x) = sum_m a_m w_m phi(w_m.x)).
"""

from __future__ import annotations

import torch

from .activations import JumpReLU
from .config import TrainConfig
from .sae import SAE


@torch.no_grad()
def constrain_gradients(sae: SAE, cfg: TrainConfig) -> None:
    """Nothing for frozen parameters, nothing along unit rows, one for tied weights."""
    if cfg.tied:
        _encoder_gradient_to_decoder(sae)
    for p in sae.parameters():
        if not p.requires_grad:  # then Adam's step is 0, and clipping does not count it
            assert p.grad is not None
            p.grad.zero_()
    if cfg.unit_decoder:  # a gradient along a unit row would only change its norm
        W = sae.W_dec
        assert W.grad is not None
        W.grad -= (W.grad * W).sum(dim=1, keepdim=True) * W


@torch.no_grad()
def constrain_weights(sae: SAE, cfg: TrainConfig) -> None:
    """Unit rows, the tied encoder, thresholds that are not negative."""
    if cfg.unit_decoder and sae.W_dec.requires_grad:
        sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
    if cfg.tied:
        norms = torch.linalg.vector_norm(sae.W_dec, dim=1, keepdim=True)  # [d_sae, 1]
        torch.div(sae.W_dec, norms, out=sae.W_enc.data.T)
    if isinstance(sae.activation, JumpReLU) and not sae.activation.log_threshold:
        sae.jump_threshold().data.clamp_(min=0.0)  # as SAELens: acts are never negative


def _encoder_gradient_to_decoder(sae: SAE) -> None:
    """dV_m += (I - w_m w_m^T) dW_enc_m / |V_m| for every latent m; dW_enc = 0.

    By columns of W_enc, whose layout is contiguous: half the time of the same by rows of V.
    """
    w, dw, dV = sae.W_enc, sae.W_enc.grad, sae.W_dec.grad  # [d_in, d_sae] twice, [d_sae, d_in]
    assert dw is not None and dV is not None
    along = (dw * w).sum(dim=0)  # [d_sae]
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1)
    dV += torch.addcmul(dw, w, along, value=-1).div_(norms).T
    dw.zero_()
