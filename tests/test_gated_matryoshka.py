"""Gated SAEs and nested ones against their sentences, in float64 and as what they fold into."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib import SAE, BatchTopK, TrainConfig, train
from srclib.errors import ParameterError
from srclib.methods import gated
from srclib.methods.gated import GatedSAE
from srclib.methods.matryoshka import Nested
from srclib.objectives import AuxK, Context, SquaredError
from srclib.sources import ToyFeatures

TOY = ToyFeatures(12, 16, 0.2)
CFG = TrainConfig(200, 64, 3e-3, unit_decoder=True, log_every=0)
HERE = Context(0, None)


def trained() -> GatedSAE:
    sae = GatedSAE(16, 12, seed=1)
    train(sae, TOY, CFG, objective=gated.objective(0.05))
    return sae.eval()


def losses(sae: GatedSAE, x: Tensor) -> dict[str, float]:
    """As the paper writes them, in float64."""
    W, V, b, c = (each.detach().double() for each in (sae.W_enc, sae.W_dec, sae.b_dec, sae.b_enc))
    r, b_mag = sae.r.detach().double(), sae.b_mag.detach().double()
    gate = (x.double() - b) @ W + c
    size = (x.double() - b) @ (W * r.exp()) + b_mag
    acts = torch.where(gate > 0, size.clamp(min=0), 0.0)
    plain = gate.clamp(min=0)
    return {
        "mse": float((x - acts @ V - b).square().sum(1).mean()),
        "gate_l1": 0.05 * float(plain.sum(1).mean()),
        "gate_mse": float((x - plain @ V - b).square().sum(1).mean()),
    }


def test_a_gated_sae_computes_the_papers_losses() -> None:
    sae, x = trained(), TOY.batch(-1, 256)
    out = sae(x)
    for term in gated.objective(0.05).terms:
        assert term(sae, x, out, HERE).item() == pytest.approx(losses(sae, x)[term.name], rel=1e-4)


def test_it_learns_and_its_sizes_are_its_own() -> None:
    start, sae, x = GatedSAE(16, 12, seed=1), trained(), TOY.batch(-1, 256)
    assert SquaredError()(sae, x, sae(x), HERE) < 0.5 * SquaredError()(start, x, start(x), HERE)
    assert sae.r.abs().max() > 0.01 and sae.b_mag.abs().max() > 0.01


def test_folded_is_the_same_function() -> None:
    sae, x = trained(), TOY.batch(-1, 1000)
    with torch.no_grad():
        sae.b_enc[:4] += 0.3  # gates that open where sizes are negative
        own, other = sae(x), sae.folded()(x)
    assert torch.equal(own.acts > 0, other.acts > 0)
    torch.testing.assert_close(own.x_hat, other.x_hat, rtol=0, atol=1e-5)


def test_the_gates_error_does_not_move_the_decoder() -> None:
    sae, x = GatedSAE(16, 12), TOY.batch(0, 64)
    gated.GateError()(sae, x, sae(x), HERE).backward()
    assert sae.W_dec.grad is None and sae.W_enc.grad is not None


def test_closed_forms_are_refused() -> None:
    with pytest.raises(ParameterError, match="two paths"):
        train(GatedSAE(16, 12), TOY, CFG)


def test_nested_is_the_mean_over_prefixes() -> None:
    sae, x = SAE(16, 12, BatchTopK(3), seed=2), TOY.batch(-1, 128)
    out = sae(x)
    each = [
        (x - out.acts[:, :m] @ sae.W_dec[:m] - sae.b_dec).double().square().sum(1).mean()
        for m in (3, 6, 12)
    ]
    found = Nested((3, 6, 12))(sae, x, out, HERE)
    assert found.item() == pytest.approx((sum(each) / 3).item(), rel=1e-5)
    assert Nested((12,))(sae, x, out, HERE).item() == pytest.approx(
        SquaredError()(sae, x, out, HERE).item(), rel=1e-5
    )


def test_nested_saes_train_with_auxk_and_order_their_latents() -> None:
    """Frequent features stand in the first latents."""
    p = torch.linspace(0.4, 0.02, 12, dtype=torch.float64)
    toy = ToyFeatures(12, 16, p)
    sae = SAE(16, 12, BatchTopK(2.5), seed=3, decoder_norm=1.0)
    cfg = TrainConfig(500, 128, 1e-2, unit_decoder=True, log_every=0)
    train(sae, toy, cfg, objective=Nested((3, 6, 12)) + AuxK())
    which = (sae.W_dec @ toy.features.T).argmax(dim=1)  # the feature of each latent
    assert p[which[:3]].mean() > p[which[6:]].mean() + 0.05


@pytest.mark.parametrize("widths", [(), (6, 3, 12), (0, 12), (3, 6)])
def test_widths_that_do_not_nest_are_refused(widths: tuple[int, ...]) -> None:
    sae, x = SAE(16, 12, BatchTopK(3)), TOY.batch(0, 8)
    with pytest.raises(ParameterError, match="widths"):
        Nested(widths)(sae, x, sae(x), HERE)
