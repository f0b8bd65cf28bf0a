"""JumpReLU training against the library's rules written out in float64, and a planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import draw

from srclib import SAE, JumpReLU, TrainConfig, metrics, train
from srclib.objectives import L0Target, SquaredError
from srclib.sources import Rows, ToyFeatures

EPS, TARGET, WARM, RAMP, STEPS, BATCH, LR = 0.3, 3.0, 2, 4, 8, 16, 1e-2
X = draw(5, 40, 6)


def rect(u: np.ndarray) -> np.ndarray:
    return (np.abs(u) < 0.5).astype(float)


def by_the_rules(
    weights: dict[str, np.ndarray], batches: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """dictionary_learning's JumpReLU trainer, section by section, for n_steps = len(batches)."""
    w = {name: value.astype(float) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in w.items()}
    for t, x in enumerate(batches):
        n = len(x)
        pre = x @ w["W_enc"] + w["b_enc"]
        fires = pre > w["theta"]
        f = pre * fires
        error = f @ w["W_dec"] + w["b_dec"] - x
        g = {name: np.zeros_like(value) for name, value in w.items()}
        g["b_dec"] = 2 / n * error.sum(0)
        g["W_dec"] = 2 / n * f.T @ error
        d_f = 2 / n * error @ w["W_dec"].T
        g["W_enc"], g["b_enc"] = x.T @ (d_f * fires), (d_f * fires).sum(0)
        l0 = fires.sum() / n
        slope = 2 * min(t / RAMP, 1) * (l0 / TARGET - 1) / TARGET
        jump = -w["theta"] / EPS * rect((pre - w["theta"]) / EPS)
        step = -1 / EPS * rect((f - w["theta"]) / EPS)
        g["theta"] = (d_f * jump).sum(0) + slope * step.mean(0)
        g["W_dec"] -= (g["W_dec"] * w["W_dec"]).sum(1, keepdims=True) * w["W_dec"]
        norm = np.sqrt(sum((each**2).sum() for each in g.values()))
        rate = LR * min(t / WARM, 1) * min(1, (len(batches) - t) / 2)
        for name in w:
            each = g[name] / max(norm, 1.0)  # clipped to 1
            second[name] = 0.999 * second[name] + 0.001 * each**2
            corrected = np.sqrt(second[name] / (1 - 0.999 ** (t + 1)))
            w[name] -= rate * each / (corrected + 1e-8)  # beta_1 = 0
        w["W_dec"] /= np.linalg.norm(w["W_dec"], axis=1, keepdims=True)
    return w


@pytest.mark.parametrize("threshold", [0.2, 0.05], ids=["idle outside", "idle inside the kernel"])
def test_training_is_the_librarys_rules(threshold: float) -> None:
    activation = JumpReLU(threshold=threshold, bandwidth=EPS)
    sae = SAE(6, 9, activation, seed=2, decoder_norm=1.0, subtract_b_dec=False)
    source = Rows(X, repeat=True)
    cfg = TrainConfig(
        STEPS, BATCH, LR, betas=(0.0, 0.999), lr_warmup=WARM, lr_decay=2, unit_decoder=True
    )
    before = {name: p.detach().numpy().copy() for name, p in sae.named_parameters()}
    expected = by_the_rules(before, [source.batch(t, BATCH).numpy() for t in range(STEPS)])
    train(sae, source, cfg, objective=SquaredError() + L0Target(TARGET, warmup=RAMP))
    for name, p in sae.named_parameters():
        moved = np.abs(expected[name] - before[name]).max()
        assert moved > 1e-3, name
        error = np.abs(p.detach().numpy() - expected[name]).max()
        assert error < 1e-3 * moved, (name, error, moved)


def test_the_first_update_leaves_everything_where_it_is() -> None:
    """The learning rate starts at 0."""
    sae = SAE(6, 9, JumpReLU(), seed=2, decoder_norm=1.0)
    before = [p.detach().clone() for p in sae.parameters()]
    cfg = TrainConfig(1, BATCH, LR, lr_warmup=1)
    train(sae, Rows(X), cfg, objective=SquaredError() + L0Target(TARGET))
    assert all(torch.equal(a, b) for a, b in zip(before, sae.parameters(), strict=True))


def test_a_planted_dictionary_is_found_at_its_own_l0() -> None:
    toy = ToyFeatures(10, 16, 0.2, seed=4)  # orthonormal, independent, mean L0 of 2
    sae = SAE(16, 10, JumpReLU(bandwidth=0.05), seed=1, decoder_norm=1.0, subtract_b_dec=False)
    cfg = TrainConfig(1500, 256, 3e-3, betas=(0.0, 0.999), lr_decay=300, unit_decoder=True)
    train(sae, toy, cfg, objective=SquaredError() + L0Target(toy.true_l0, warmup=100))
    x = toy.batch(-1, 4096)
    out = sae.eval()(x)
    assert metrics.match_to_features(sae.W_dec, toy.features).mcc > 0.95
    assert float((out.acts > 0).sum(1).float().mean()) == pytest.approx(toy.true_l0, rel=0.1)
    assert metrics.fvu(x, out.x_hat) < 0.05
