"""The theorem's algorithm: its step against autograd, its independence, and what it finds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srclib import metrics, rng
from srclib.errors import ParameterError
from srclib.methods.gba_theory import (
    BETA,
    modified_ba,
    moved_pairs,
    octaves,
    resonance_band,
    steps_until,
    width_needed,
    with_common_part,
)
from srclib.sources import SparseCodes

SOURCE = SparseCodes(24, 16, 2, seed=3)


def after(n_steps: int, n_neurons: int = 40, p: float = 1 / 12, seed: int = 0) -> Tensor:
    steps = modified_ba(SOURCE, n_neurons, p, n_batch=600, seed=seed)
    return next(itertools.islice(steps, n_steps - 1, None))


def test_a_step_follows_the_gradient_of_one_decoupled_neuron() -> None:
    """d/dw of -phi(w.x + b) (w.x), the part of the loss of order a, in float64 by autograd."""
    p, n_batch, lr = 0.1, 600, 10.0
    start = F.normalize(rng.normals(0, "modified_ba", "start", shape=(5, 16)), dim=1).double()
    x = SOURCE.batch(0, n_batch).double()
    for w, ours in zip(start, after(1, 5, p), strict=True):
        w = w.clone().requires_grad_(True)
        h = x @ w
        b = -h.detach().sort(descending=True).values[round(p * n_batch) - 1]
        phi = F.softplus(BETA * (h + b), threshold=1e9) / BETA
        (phi * h).mean().backward()
        assert w.grad is not None
        expected = F.normalize(w.detach() + lr / p * w.grad, dim=0)
        torch.testing.assert_close(ours.double(), expected, atol=1e-5, rtol=1e-4)


def test_neurons_do_not_see_each_other() -> None:
    torch.testing.assert_close(after(3, 40)[:11], after(3, 11), atol=1e-6, rtol=1e-5)


def test_rows_stay_on_the_sphere_and_seeds_differ() -> None:
    W = after(2)
    torch.testing.assert_close(W.norm(dim=1), torch.ones(len(W)))
    assert not torch.allclose(W, after(2, seed=1))


def test_alone_in_its_inputs_every_feature_is_found() -> None:
    """With s = 1 an input is a feature, so a neuron that fires on one kind of input is right."""
    alone = SparseCodes(24, 16, 1, seed=3)
    steps = modified_ba(alone, 400, 1 / 24, n_batch=600)
    W = next(itertools.islice(steps, 9, None))
    chance = F.normalize(rng.normals(9, "chance", shape=(400, 16)), dim=1)
    assert metrics.feature_recovery_rate(chance, alone.features, 0.95) < 0.1
    assert metrics.feature_recovery_rate(W, alone.features, 0.95) == 1.0


@pytest.mark.parametrize("p", [0.0, 1e-4, 1.0, math.nan])
def test_a_frequency_that_no_batch_can_show_is_refused(p: float) -> None:
    with pytest.raises((ParameterError, ValueError)):
        next(modified_ba(SOURCE, 4, p, n_batch=600))


def test_the_width_needed_counts_leading_rows() -> None:
    features = torch.eye(4)
    W = torch.cat([features[2:3], -features[:1], features[0:1], features[2:3], features[1:2]])
    assert width_needed(W, features, 0.25, 0.9) == 1
    assert width_needed(W, features, 0.5, 0.9) == 3
    assert width_needed(W, features, 0.75, 0.9) == 5
    assert math.isnan(width_needed(W, features, 1.0, 0.9))
    assert width_needed(W, features, 0.74, 0.9) == 5  # a share is reached, not rounded


def test_steps_are_counted_between_two_and_one_more_where_never() -> None:
    assert steps_until([0.45, 0.9, 1.0], 0.9) == 2
    assert steps_until([0.9, 1.0], 0.45) == 0.5
    assert steps_until([0.5, 0.7, 1.1], 0.9) == pytest.approx(2.5)
    assert steps_until([0.1, 0.2, 0.3], 0.9) == 4


def test_octaves_reach_from_the_first_good_place_to_the_last() -> None:
    scores = {0.25: 0.1, 0.5: 0.3, 1.0: 0.8, 2.0: 0.5, 4.0: 0.0}
    assert octaves(scores, 0.4) == 1
    assert octaves(scores, 0.3) == 2
    assert octaves(scores, 0.8) == octaves(scores, 0.9) == 0


def test_the_band_has_the_edge_that_binds() -> None:
    assert resonance_band(64, 16, 3) == (1 / 64, 64 ** (-2 / 3))  # both powers of n agree at s = 3
    assert resonance_band(64, 2, 3) == (1 / 64, 2 / 64)  # few dimensions
    low, high = resonance_band(64, 64, 2)
    assert low == pytest.approx(high)  # at s = 2 the band is a point


def test_moved_pairs_give_the_same_inputs_where_partners_always_come_together() -> None:
    source = SparseCodes(24, 16, 4, seed=3, pair_rho=1.0)
    other = moved_pairs(source.features, 0.5)
    torch.testing.assert_close(source.codes(-1, 99) @ other, source.batch(-1, 99))
    moved = (other - source.features).norm(dim=1)
    torch.testing.assert_close(moved, torch.full((24,), 0.5))


def test_a_common_part_has_its_share_and_leaves_the_rest_alone() -> None:
    V = with_common_part(SOURCE.features, 0.3)
    rest = with_common_part(SOURCE.features, 0.0)
    torch.testing.assert_close(V.norm(dim=1), torch.ones(24))
    torch.testing.assert_close(V @ V.T, 0.3 + 0.7 * rest @ rest.T, atol=1e-5, rtol=1e-5)
    with pytest.raises(ParameterError, match="share"):
        with_common_part(SOURCE.features, 1.0)
