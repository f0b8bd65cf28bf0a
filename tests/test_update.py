"""One step of training by hand: Adam, thresholds, dead latents."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import CFG, TOY, make, same

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.objectives import AuxK, SquaredError
from srclib.sae import SAE
from srclib.training.trainer import TrainConfig, train


def by_hand(sae: SAE, cfg: TrainConfig) -> None:
    """torch's own Adam and autograd, written plainly."""
    adam = torch.optim.Adam(sae.parameters(), lr=cfg.lr, betas=cfg.betas)
    for step in range(cfg.n_steps):
        x = TOY.batch(step, cfg.n_batch)
        loss = (sae(x).x_hat - x).square().sum(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        if cfg.unit_decoder:
            W, gradient = sae.W_dec.detach(), sae.W_dec.grad
            gradient -= (gradient * W).sum(1, keepdim=True) * W
        torch.nn.utils.clip_grad_norm_(sae.parameters(), cfg.clip)
        adam.param_groups[0]["lr"] = cfg.lr_at(step)
        adam.step()
        if cfg.unit_decoder:
            sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
        if sae.theta is not None:
            sae.theta.data.clamp_(min=0.0)


@pytest.mark.parametrize("unit_decoder", [False, True])
@pytest.mark.parametrize("clip", [0.5, 1e9])
@pytest.mark.parametrize("activation", [ReLU(), TopK(2), JumpReLU(bandwidth=0.1)], ids=repr)
def test_an_update_is_adam_on_the_clipped_gradient(
    activation: Activation, clip: float, unit_decoder: bool
) -> None:
    """On one whose part along the rows was dropped first, for unit rows."""
    cfg = replace(CFG, n_steps=10, clip=clip, lr_warmup=3, lr_decay=4, betas=(0.8, 0.99))
    cfg = replace(cfg, unit_decoder=unit_decoder)
    found, expected = (SAE(8, 6, activation, decoder_norm=1.0) for _ in range(2))
    train(found, TOY, cfg, objective=SquaredError())
    by_hand(expected, cfg)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_thresholds_stay_where_acts_are() -> None:
    """A wide kernel drives them down fast; below 0, negative acts would pass."""
    sae = make(JumpReLU(threshold=0.01, bandwidth=2.0))
    lowest = []

    def observe(record: dict[str, Any]) -> None:
        lowest.append(float(sae.jump_threshold().detach().min()))

    train(sae, TOY, replace(CFG, lr=0.03, log_every=1), observe=observe)
    assert min(lowest) == 0


def test_clipping_can_be_switched_off() -> None:
    """math.inf is a bound that no gradient reaches."""
    free, bounded = make(TopK(2)), make(TopK(2))
    train(free, TOY, replace(CFG, clip=math.inf))
    train(bounded, TOY, replace(CFG, clip=1e9))
    assert same(free, bounded)


def test_learning_rate_table() -> None:
    cfg = TrainConfig(n_steps=10, n_batch=1, lr=2.0, lr_warmup=4, lr_decay=5)
    rates = [cfg.lr_at(step) for step in range(10)]
    assert rates == pytest.approx([0, 0.5, 1, 1.5, 2, 2, 1.6, 1.2, 0.8, 0.4])
    assert {TrainConfig(n_steps=10, n_batch=1, lr=2.0).lr_at(step) for step in range(10)} == {2.0}


def test_unit_decoder_keeps_rows_at_norm_one() -> None:
    sae = SAE(8, 6, TopK(2), decoder_norm=1.0)
    norms = []
    cfg = replace(CFG, unit_decoder=True, log_every=1)
    train(sae, TOY, cfg, observe=lambda record: norms.append(sae.W_dec.detach().norm(dim=1)))
    torch.testing.assert_close(torch.stack(norms), torch.ones(30, 6))
    free = SAE(8, 6, TopK(2), decoder_norm=1.0)
    train(free, TOY, CFG)
    assert float((free.W_dec.detach().norm(dim=1) - 1).abs().max()) > 1e-3


def test_threshold_is_the_average_of_the_smallest_kept_score() -> None:
    """The loop by hand, with the start at zero divided out."""
    weights: list[SAE] = [make(BatchTopK(1.5))]
    cfg = replace(CFG, log_every=1)
    trained = make(BatchTopK(1.5))
    train(trained, TOY, cfg, observe=lambda record: weights.append(copy.deepcopy(trained)))
    average = 0.0
    for step, sae in enumerate(weights[:-1]):
        acts = sae.train().encode(TOY.batch(step, 16)).detach()
        scores = acts * sae.W_dec.detach().norm(dim=1)
        average = 0.99 * average + 0.01 * float(scores[acts > 0].min())
        expected = average / (1 - 0.99 ** (step + 1))
        assert float(weights[step + 1].threshold) == pytest.approx(expected, rel=1e-5)


def test_threshold_gives_about_the_l0_it_was_trained_with() -> None:
    sae = make(BatchTopK(1.5))
    history = train(sae, TOY, replace(CFG, n_batch=256, n_steps=300, eval_every=300)).history
    assert history[-1]["l0"] <= 1.5
    assert history[-1]["eval_l0"] == pytest.approx(1.5, rel=0.15)


@pytest.mark.parametrize("activation", [ReLU(), TopK(2)], ids=repr)
def test_other_activations_have_no_threshold(activation: Activation) -> None:
    sae = make(activation)
    train(sae, TOY, CFG)
    assert float(sae.threshold) == 0


def with_dead(n_dead: int, activation: Activation) -> SAE:
    """The last latents can never fire: their bias is far below zero."""
    sae = make(activation, d_sae=12)
    with torch.no_grad():
        sae.b_enc[12 - n_dead :] = -100
    return sae


@pytest.mark.parametrize("n_dead", [0, 1, 4, 7, 12])
@pytest.mark.parametrize("activation", [TopK(2), BatchTopK(2)], ids=repr)
def test_dead_latents_are_counted_and_stay_finite(activation: Activation, n_dead: int) -> None:
    """None, some, more than AuxK's d_in // 2 = 4, all: right counts, finite losses, no 0/0."""
    sae = with_dead(n_dead, activation)
    cfg = replace(CFG, n_steps=12, log_every=1, lr=1e-4, dead_window=5)
    history = train(sae, TOY, cfg).history
    numbers = [v for record in history for v in record.values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    assert all(bool(torch.isfinite(p).all()) for p in sae.parameters())
    dead = [record["dead"] for record in history]
    assert dead[:5] == [0] * 5 and min(dead[5:]) >= n_dead
    # Silent for 6 > dead_window steps after step 6, so step 7 is the first with a loss for them.
    assert [("auxk" in record) for record in history[:7]] == [False] * 6 + [dead[5] > 0]


def test_auxk_moves_what_nothing_else_would() -> None:
    found = []
    for objective in (SquaredError() + AuxK(), SquaredError()):
        sae = with_dead(4, TopK(2))
        before = sae.W_dec[8:].detach().clone()
        train(sae, TOY, replace(CFG, dead_window=2), objective=objective)
        found.append(torch.equal(sae.W_dec[8:], before))
    assert found == [False, True]


class Odd:
    """A term without a closed form."""

    name = "odd"

    def __call__(self, sae: SAE, x: Any, out: Any, context: Any) -> Any:
        return out.acts.square().mean()


@pytest.mark.parametrize("objective", [None, SquaredError() + Odd()], ids=["closed", "autograd"])
def test_what_needs_no_gradient_stays_and_the_rest_learns(objective: Any) -> None:
    sae = SAE(8, 6, TopK(2), seed=3, decoder_norm=1.0)
    sae.W_dec.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in sae.named_parameters()}
    train(sae, TOY, replace(CFG, unit_decoder=True), objective=objective)
    for name, p in sae.named_parameters():
        assert torch.equal(p, before[name]) == (name == "W_dec"), name
