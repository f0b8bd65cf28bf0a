"""Tied weights: one matrix V [d_sae, d_in], W_dec = V and W_enc = unit(V)^T, against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from srclib.activations import Activation, JumpReLU, ReLU
from srclib.sae import SAE
from srclib.sources import SparseCodes
from srclib.training.config import TrainConfig
from srclib.training.step import update
from srclib.training.trainer import start, train

SOURCE = SparseCodes(12, 8, 2)


def loss(V: Tensor, b: Tensor, x: Tensor, jump: bool) -> Tensor:
    """f(x) = sum_m a_m w_m phi(w_m . x + b_m) with a = |V|, w = unit(V), as the paper writes it."""
    a = V.norm(dim=1)
    w = V / a[:, None]
    y = x @ w.T + b
    phi = (y - b) * (y > 0) if jump else y.relu()
    return (x - (a * phi) @ w).square().sum(dim=1).mean()


@pytest.mark.parametrize("activation", [ReLU(), JumpReLU()], ids=["relu", "jump"])
def test_the_gradient_is_that_of_one_matrix(activation: Activation) -> None:
    sae = SAE(8, 16, activation, decoder_norm=1.0)
    b = -torch.linspace(0.0, 0.5, 16)
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 1.5, 16)[:, None])
        holder = sae.b_enc if sae.theta is None else sae.theta
        holder.copy_(b if sae.theta is None else -b)
    for parameter in (sae.b_enc, sae.b_dec, *([] if sae.theta is None else [sae.theta])):
        parameter.requires_grad_(False)
    V = sae.W_dec.detach().double().requires_grad_(True)
    loss(V, b.double(), SOURCE.batch(0, 32).double(), sae.theta is not None).backward()
    assert V.grad is not None
    cfg = TrainConfig(10, 32, 1e-3, clip=math.inf, tied=True)
    state = start([sae], cfg)
    update(state, 0, SOURCE, cfg)
    assert sae.W_dec.grad is not None
    torch.testing.assert_close(sae.W_dec.grad.double(), V.grad, atol=1e-6, rtol=1e-4)


def test_the_encoder_follows_and_unit_rows_stay_unit() -> None:
    for unit in (False, True):
        sae = SAE(8, 16, ReLU(), decoder_norm=1.0)
        train(sae, SOURCE, TrainConfig(20, 32, 1e-2, tied=True, unit_decoder=unit))
        norms = sae.W_dec.norm(dim=1)
        torch.testing.assert_close(sae.W_enc.T, sae.W_dec / norms[:, None])
        assert torch.allclose(norms, torch.ones(16)) == unit
