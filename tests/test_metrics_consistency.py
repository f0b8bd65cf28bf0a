"""Consistency between runs, Z-scores and the choice of prominent latents."""

from __future__ import annotations

import pytest
import torch

from srclib import metrics
from srclib.errors import DataError, ParameterError
from srclib.rng import normals

W = normals(1, "W", shape=(6, 4))


def test_a_run_is_consistent_with_any_order_and_length_of_its_rows() -> None:
    other = W[torch.tensor([3, 0, 5, 1, 2, 4])] * torch.linspace(0.1, 9, 6)[:, None]
    torch.testing.assert_close(metrics.consistency(W, [other]), torch.ones(6))


def test_runs_are_averaged() -> None:
    turned = -W
    one = metrics.consistency(W, [W])
    both = metrics.consistency(W, [W, turned])
    torch.testing.assert_close(both, (one + metrics.consistency(W, [turned])) / 2)
    assert bool((both < one).all())


def test_without_another_run_there_is_no_consistency() -> None:
    with pytest.raises(DataError, match="others"):
        metrics.consistency(W, [])


def test_z_score_of_one_spike_is_known() -> None:
    """One 1 among n - 1 zeros: (1 - 1/n) / sqrt(1/n (1 - 1/n)) = sqrt(n - 1)."""
    spike = torch.zeros(50, 3)
    spike[7, 0] = 1.0
    spike[:, 1] = 4.0  # never varies
    spike[3, 2] = 2.0
    expected = torch.tensor([49.0**0.5, 0.0, 49.0**0.5], dtype=torch.float64)
    torch.testing.assert_close(metrics.z_score(spike), expected)


def test_z_score_ignores_shift_and_scale() -> None:
    x = normals(2, "x", shape=(40, 5)).double()
    torch.testing.assert_close(metrics.z_score(3 * x - 7), metrics.z_score(x))
    assert not torch.allclose(metrics.z_score(-x), metrics.z_score(x))


def test_the_largest_scores_are_chosen_first_and_the_dead_left_out() -> None:
    score = torch.tensor([0.1, 5.0, 3.0, 9.0, 3.0])
    assert metrics.most_prominent(score, 0.5).tolist() == [3, 1, 2]  # ceil(2.5); ties in order
    alive = torch.tensor([True, True, True, False, True])
    assert metrics.most_prominent(score, 0.5, alive).tolist() == [1, 2, 4]
    assert metrics.most_prominent(score, 1.0, alive).tolist() == [1, 2, 4, 0]
    for share in range(1, 101):  # in floating point 0.07 * 100 is above 7
        assert len(metrics.most_prominent(torch.arange(100.0), share / 100)) == share


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1.5, float("nan")])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(ParameterError, match="alpha"):
        metrics.most_prominent(torch.ones(3), alpha)


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(DataError, match="score"):
        metrics.most_prominent(torch.tensor([1.0, float("nan")]), 0.5)
