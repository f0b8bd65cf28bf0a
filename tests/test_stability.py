"""Comparing dictionaries with each other, and the summaries of points and concepts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srclib import metrics
from srclib.errors import DataError

few = settings(deadline=None, max_examples=20)
seeds = st.integers(0, 10**6)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shuffle(seed: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


# --- stability ----------------------------------------------------------------------------------


@few
@given(seeds)
def test_a_run_is_stable_against_its_own_permutation_and_scale(seed: int) -> None:
    W_enc, W_dec, order = draw(seed, 5, 8), draw(seed + 1, 8, 5), shuffle(seed, 8)
    scale = draw(seed + 2, 8).exp()
    found = metrics.stability(W_enc, W_dec, (W_enc * scale)[:, order], (W_dec.T * scale).T[order])
    assert found.equal.all() and found.shared(0.999) == 1
    assert torch.equal(order[found.match_enc], torch.arange(8))
    assert torch.equal(found.match_dec, found.match_enc)


@few
@given(seeds)
def test_each_matching_is_the_best_of_all_permutations(seed: int) -> None:
    enc_a, enc_b, dec_a, dec_b = (draw(seed + i, 4, 3) for i in range(4))
    found = metrics.stability(enc_a.T, dec_a, enc_b.T, dec_b)
    for cos, match, a, b in (
        (found.cos_enc, found.match_enc, enc_a, enc_b),
        (found.cos_dec, found.match_dec, dec_a, dec_b),
    ):
        best = max(
            sum(cosine(a[i], b[j]) for i, j in enumerate(order))
            for order in itertools.permutations(range(4))
        )
        assert float(cos.sum()) == pytest.approx(best)
        assert [cosine(a[i], b[j]) for i, j in enumerate(match)] == pytest.approx(cos.tolist())
    assert found.equal.tolist() == (found.match_enc == found.match_dec).tolist()


def test_shared_asks_for_three_things() -> None:
    """Latent 0: all well; 1: encoder turned away; 2: decoder turned away; 3 and 4: swapped."""
    eye = torch.eye(8, dtype=torch.float64)[:5]
    enc, dec = eye.clone(), eye.clone()
    enc[1, 5] = 2.0  # cosine 1 / sqrt 5 = 0.447
    dec[2, 6] = 2.0
    enc[[3, 4]] = enc[[4, 3]]
    found = metrics.stability(eye.T, eye, enc.T, dec)
    assert found.equal.tolist() == [True, True, True, False, False]
    assert found.shared(0.7) == pytest.approx(1 / 5)
    assert found.shared(0.4) == pytest.approx(3 / 5)
    assert found.cos_enc.tolist() == pytest.approx([1, 5**-0.5, 1, 1, 1])
    assert found.cos_dec.tolist() == pytest.approx([1, 1, 5**-0.5, 1, 1])
    rates = torch.tensor([0.0, 1.0, 0.0, 0.0, 3.0])
    assert found.shared(0.4, rates) == pytest.approx(1 / 4)
    assert found.shared(0.7, torch.tensor([True, True, False, False, False])) == 0.5
    assert math.isnan(found.shared(0.7, torch.zeros(5)))


def test_signs_count_and_zero_rows_match_nothing() -> None:
    eye = torch.eye(3)
    assert metrics.stability(eye, eye, -eye, -eye).shared(0.0) == 0  # all cosines are <= 0
    dead = eye.clone()
    dead[1] = 0
    found = metrics.stability(eye, eye, dead.T, dead)
    assert found.cos_dec.tolist() == [1, 0, 1] and found.cos_enc.tolist() == [1, 0, 1]


def test_alive_in_both_follows_the_decoder_match() -> None:
    eye, order = torch.eye(4), torch.tensor([1, 2, 3, 0])
    found = metrics.stability(eye, eye, eye[:, order], eye[order])
    alive_b = torch.tensor([True, True, False, True])  # row 2 of b is latent 3 of a
    both = found.alive_in_both(torch.tensor([True, False, True, True]), alive_b)
    assert both.tolist() == [True, False, True, False]


def test_runs_of_different_width() -> None:
    """A latent without a partner is not equal, although -1 == -1."""
    eye = torch.eye(4)
    found = metrics.stability(eye, eye, eye[:, :3], eye[:3])
    assert found.match_dec.tolist() == found.match_enc.tolist() == [0, 1, 2, -1]
    assert found.equal.tolist() == [True, True, True, False] and found.cos_dec[3] == 0
    assert found.shared(0.9) == 0.75
    assert found.alive_in_both(torch.ones(4), torch.ones(3)).tolist() == [True, True, True, False]
    other_way = metrics.stability(eye[:, :3], eye[:3], eye, eye)
    assert other_way.shared(0.9) == 1


def test_weights_count_by_their_shares_and_none_is_no_number() -> None:
    eye = torch.eye(4)
    found = metrics.stability(eye, eye, eye[:, :3], eye[:3])
    assert found.shared(0.7, torch.tensor([0.1, 0.1, 0.0, 0.2])) == pytest.approx(0.5)
    assert math.isnan(found.shared(0.7, torch.zeros(4)))


def test_stability_refuses_what_does_not_fit() -> None:
    W = draw(0, 3, 5)  # W_dec
    with pytest.raises(
        DataError, match=r"shapes of W_enc_b, W_dec_b=\(\(3, 5\), \(3, 5\)\).*d_in = 5"
    ):
        metrics.stability(W.T, W, W, W)
    with pytest.raises(
        DataError, match=r"shapes of W_enc_b, W_dec_b=\(\(4, 3\), \(3, 4\)\).*d_in = 5"
    ):
        metrics.stability(W.T, W, W[:, :4].T, W[:, :4])
    with pytest.raises(DataError, match="weights of run a='nan or inf'"):
        metrics.stability(W.T, W / 0, W.T, W)


def test_inputs_are_left_alone() -> None:
    W = draw(0, 3, 5, dtype=torch.float32)
    before = W.clone()
    metrics.stability(W.T, W, W.T, W)
    metrics.geometric_median(W)
    metrics.max_cosine_similarity(W, W)
    assert torch.equal(W, before)


def test_noise_floor_is_the_one_of_independent_dictionaries() -> None:
    """Measured apart from this code for 512 x 64: 0.355; for 1,024 x 128: 0.274."""
    floors = [metrics.noise_floor(512, 64, seed) for seed in (0, 1)]
    assert floors == pytest.approx([0.355, 0.355], abs=0.01) and floors[0] != floors[1]
    assert metrics.noise_floor(512, 64, 0) == floors[0]
    assert metrics.noise_floor(256, 256) < 0.3 < floors[0]


# --- not one-to-one -----------------------------------------------------------------------------


@few
@given(seeds, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_max_cosine_is_a_row_maximum_for_every_block(seed: int, n: int, m: int, block: int) -> None:
    a, b = draw(seed, n, 3), draw(seed + 1, m, 3)
    expected = [max(cosine(row, other) for other in b) for row in a]
    for size in (block, 2048):
        found = metrics.max_cosine_similarity(a, b, block=size)
        assert found.tolist() == pytest.approx(expected)


def test_max_cosine_is_signed_and_zero_for_zero_rows() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert metrics.max_cosine_similarity(a, -a[:1]).tolist() == [-1, 0]
    half = metrics.max_cosine_similarity(a.half(), a.half())
    assert half.dtype == torch.float32 and half.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"b\.shape=\(2, 3\)"):
        metrics.max_cosine_similarity(a, torch.zeros(2, 3))
    with pytest.raises(DataError, match="n >= 1"):
        metrics.max_cosine_similarity(a, a[:0])


def test_recovery_is_signed_inclusive_and_not_one_to_one() -> None:
    features = torch.eye(4)
    W_dec = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]])
    rates = [metrics.feature_recovery_rate(W_dec, features, tau) for tau in (0.5, 0.6, 0.61, 0.8)]
    assert rates == [0.5, 0.5, 0.25, 0.25]  # one latent serves features 0 and 1; 2 has it reversed
    assert metrics.feature_recovery_rate(W_dec, features, 0.81) == 0
    W = draw(3, 50, 7, dtype=torch.float32)
    assert metrics.feature_recovery_rate(2.5 * W, W, 1.0) == 1


def test_displacement_compares_rows_with_themselves() -> None:
    W0 = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    W = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
    assert metrics.displacement(W, W0).tolist() == [1, 0, -1, 0]
    with pytest.raises(DataError, match=r"W0\.shape=\(3, 2\).*\(4, 2\), as W"):
        metrics.displacement(W, W0[:3])


# --- concentration of a concept -----------------------------------------------------------------


def test_effective_features_count_equal_latents() -> None:
    """Class 0 spread evenly over 4 of 6 columns, class 1 in one: EffFeat (4 + 1) / 2."""
    acts = torch.tensor([[2.0, 2, 2, 2, 0, 0], [0, 0, 0, 0, 0, 7], [4, 4, 4, 4, 0, 0]])
    found = metrics.effective_features(acts, torch.tensor([5, 9, 5]))
    assert found == pytest.approx((2.5, (1 / 4 + 1) / 2))
    assert (found.eff_feat, found.top1_conc) == tuple(found)


def test_entropy_is_natural_and_means_are_clipped_after_averaging() -> None:
    labels = torch.zeros(2, dtype=torch.long)
    acts = torch.tensor([[3.0, 4.0, -9.0], [3.0, -2.0, 1.0]])  # means 3, 1, -4
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert metrics.effective_features(acts, labels) == pytest.approx((expected, 0.75))
    scoped = metrics.effective_features(acts[:, 1:], labels)
    assert scoped == pytest.approx((1.0, 1.0))


def test_a_silent_class_has_no_concentration() -> None:
    acts = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert all(map(math.isnan, metrics.effective_features(acts, torch.tensor([0, 1]))))
    with pytest.raises(DataError, match=r"labels\.shape=\(3,\)"):
        metrics.effective_features(acts, torch.zeros(3))
    with pytest.raises(DataError, match="at least one"):
        metrics.effective_features(acts[:0], torch.zeros(0))


# --- the middle of the data ---------------------------------------------------------------------


def spread(x: Tensor, y: Tensor) -> float:
    return float((x - y).norm(dim=1).sum())


@few
@given(seeds, st.integers(1, 12), st.integers(1, 4))
def test_nothing_is_closer_than_the_geometric_median(seed: int, n: int, d: int) -> None:
    x = draw(seed, n, d) * (1 + 10 * (draw(seed + 1, n, 1) > 1))
    y = metrics.geometric_median(x)
    best = spread(x, y)
    steps = torch.cat([0.1 * draw(seed + 2, 20, d), 1e-3 * draw(seed + 3, 20, d)])
    for other in torch.cat([x, x.mean(dim=0, keepdim=True), y + steps]):
        assert best <= spread(x, other) * (1 + 1e-8)


@few
@given(seeds)
def test_geometric_median_moves_with_the_points(seed: int) -> None:
    x = draw(seed, 9, 3)
    Q, shift = torch.linalg.qr(draw(seed + 1, 3, 3))[0], draw(seed + 2, 3)
    moved = metrics.geometric_median(3 * x @ Q + shift)
    expected = 3 * metrics.geometric_median(x) @ Q + shift
    assert moved.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_geometric_median_in_closed_form() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [100.0], [500.0]])
    assert metrics.geometric_median(line) == 2  # in one dimension the median, a row
    square = torch.tensor([[0.0, 0], [0, 2], [4, 0], [4, 2]])
    assert metrics.geometric_median(square).tolist() == pytest.approx([2, 1])
    # Fermat's point of an equilateral triangle, however often each corner is given
    corners = torch.tensor([[0.0, 0], [1, 0], [0.5, 0.75**0.5]], dtype=torch.float64)
    found = metrics.geometric_median(corners.repeat(3, 1))
    assert found.tolist() == pytest.approx([0.5, 0.75**0.5 / 3], abs=1e-8)


def test_geometric_median_leaves_a_row_that_it_starts_on() -> None:
    """The mean, where the iteration starts, is one of the points."""
    held = torch.tensor([[0.0, 0], [1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    assert metrics.geometric_median(held).tolist() == [0, 0]
    pulled = torch.tensor([[0.0, 0], [1, 0], [1, 0.1], [1, -0.1], [-3, 0]])
    assert torch.equal(pulled.mean(dim=0), pulled[0])
    # two rows pull left, one right, and the two at height 0.1 with 2 cos 60 degrees
    expected = [1 - 0.1 / 3**0.5, 0]
    assert metrics.geometric_median(pulled).tolist() == pytest.approx(expected, abs=1e-6)


def test_geometric_median_keeps_the_dtype_and_refuses_what_has_none() -> None:
    x = draw(0, 5, 2, dtype=torch.float32)
    assert metrics.geometric_median(x).dtype == torch.float32
    assert torch.equal(metrics.geometric_median(x[:1]), x[0])
    for bad in (x[:0], x / 0, x[0]):
        with pytest.raises(DataError, match=r"x\.shape"):
            metrics.geometric_median(bad)
