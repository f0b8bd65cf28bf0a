"""SAEBench's core statistics, written as its core evaluation does (commit 8042bb3), and ours.

Its environment is not needed for that: these are formulas on tensors.
"""

from __future__ import annotations

import pytest
import torch
from tiny import draw
from tiny_lm import D, ids, tiny_lm

import srclib
from srclib import metrics, report_card
from srclib.lm.harvest import token_losses
from srclib.lm.sites import edited
from srclib.report_card.diagnosis import rows_of


def theirs(x: torch.Tensor, x_hat: torch.Tensor, acts: torch.Tensor) -> dict[str, float]:
    """Over [n, d] inputs, reconstructions and [n, d_sae] activations, all in one batch."""
    squares = (x - x_hat).pow(2).sum(dim=-1)
    spread = (x - x.mean(dim=0)).pow(2).sum(dim=-1)
    total = x.pow(2).sum(dim=-1).mean(dim=0) - x.pow(2).mean(dim=0).mean() ** 2
    return {
        "explained_variance_legacy": (1 - squares / spread).mean().item(),
        "explained_variance": (1 - squares.mean() / total).item(),
        "l0": (acts != 0).sum(dim=-1).float().mean().item(),
        "feature_density": (acts > 0).float().mean(dim=0).mean().item(),
        "mse": squares.mean().item(),
    }


def test_what_has_two_names_is_one_number() -> None:
    sae = srclib.SAE(12, 48, srclib.TopK(5), seed=3)
    x = draw(4, 800, 12) + 2
    with torch.no_grad():
        out = sae(x)
    found, ours = theirs(x, out.x_hat, out.acts), report_card.explained(sae, x)
    assert ours["mean over inputs"] == pytest.approx(found["explained_variance_legacy"])
    assert ours[report_card.UNIT] == pytest.approx(found["explained_variance"])
    assert metrics.l0(out.acts) == pytest.approx(found["l0"])
    assert float(metrics.firing_rate(out.acts).mean()) == pytest.approx(found["feature_density"])
    spread = (x - x.mean(0)).square().sum(1).mean().item()
    assert metrics.fvu(x, out.x_hat) * spread == pytest.approx(found["mse"])


def test_its_ce_loss_score_is_the_loss_recovered() -> None:
    """(ablated - spliced) / (ablated - clean), ablated: the site set to zero."""
    model, tokens = tiny_lm("gpt2"), ids(5, 40, 8)
    sae = srclib.SAE(D, 64, srclib.TopK(8), seed=1).eval()
    rows = {row.name: row for row in report_card.report(sae, model=model, tokens=tokens, layer=1)}
    with torch.no_grad():
        clean = token_losses(model, tokens).mean()
        with edited(model, 1, "out", torch.zeros_like):
            ablated = token_losses(model, tokens).mean()
        with edited(model, 1, "out", lambda h: sae(h.flatten(0, 1)).x_hat.view_as(h)):
            spliced = token_losses(model, tokens).mean()
    score = float((ablated - spliced) / (ablated - clean))
    row = rows["loss recovered"]  # the mean over twenty parts of the texts
    assert rows_of(model, tokens, 1, "out").shape[1] == D
    assert row.low <= score <= row.high
