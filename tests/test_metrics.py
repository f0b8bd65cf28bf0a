"""Each number against a closed form, an invariance or a slow and obvious computation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srclib import metrics
from srclib.activations import BatchTopK
from srclib.errors import DataError, ParameterError
from srclib.methods.mirror import start_from
from srclib.sae import SAE
from srclib.sources import ToyFeatures

few = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 10**6)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(seed: int, d: int) -> Tensor:
    return torch.linalg.qr(draw(seed, d, d))[0]


def noisy(seed: int, n: int = 20, d: int = 4) -> tuple[Tensor, Tensor]:
    x = draw(seed, n, d) + 3
    return x, x + 0.3 * draw(seed + 1, n, d)


# --- reconstruction -----------------------------------------------------------------------------


@few
@given(seeds)
def test_the_mean_explains_nothing_and_the_input_everything(seed: int) -> None:
    x, _ = noisy(seed)
    assert metrics.fvu(x, x.mean(dim=0).expand_as(x)) == 1
    assert metrics.fvu(x, x) == 0 and metrics.uncentred_variance_explained(x, x) == 1
    assert metrics.mse(x, x) == 0


@few
@given(seeds, st.floats(0.01, 100))
def test_fvu_moves_with_nothing_but_the_error(seed: int, scale: float) -> None:
    """Shift, scale, rotation and order of the inputs leave it where it is."""
    x, x_hat = noisy(seed)
    Q, order, shift = rotation(seed, 4), torch.randperm(20), draw(seed + 2, 4)
    expected = metrics.fvu(x, x_hat)
    for f in (
        lambda t: t * scale,
        lambda t: t + shift,
        lambda t: t @ Q,
        lambda t: t[order],
        lambda t: t[:, [2, 0, 3, 1]],
    ):
        assert metrics.fvu(f(x), f(x_hat)) == pytest.approx(expected, rel=1e-9)
    doubled = x + 2 * (x_hat - x)
    assert metrics.fvu(x, doubled) == pytest.approx(4 * expected, rel=1e-9)


@few
@given(seeds)
def test_mse_fvu_and_uncentred_score_tell_of_one_error(seed: int) -> None:
    x, x_hat = noisy(seed)
    variance = float((x - x.mean(0)).square().sum(1).mean())
    power = float(x.square().sum(1).mean())
    mse = metrics.mse(x, x_hat)
    assert metrics.fvu(x, x_hat) * variance == pytest.approx(mse)
    assert (1 - metrics.uncentred_variance_explained(x, x_hat)) * power == pytest.approx(mse)


def test_mse_is_summed_over_the_width() -> None:
    assert metrics.mse(torch.zeros(3, 8), torch.ones(3, 8)) == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_activations_have_no_fvu(value: float, dtype: torch.dtype) -> None:
    x = torch.full((1000, 3), value, dtype=dtype)
    assert math.isnan(metrics.fvu(x, torch.zeros_like(x)))
    assert math.isnan(metrics.fvu(x, x))
    score = metrics.uncentred_variance_explained(x, x)
    assert math.isnan(score) if value == 0 else score == 1


# --- activity -----------------------------------------------------------------------------------


def test_alive_counts_rows_not_sizes() -> None:
    acts = torch.zeros(20_000, 4)
    acts[0, 1] = 100.0
    acts[:2, 2] = 0.1
    acts[:, 3] = -1.0  # a threshold below 0 lets negative values through
    assert metrics.firing_rate(acts).tolist() == pytest.approx([0, 5e-5, 1e-4, 1])
    assert metrics.alive(acts).tolist() == [False, False, True, True]
    assert metrics.l0(acts) == 1 + 3 / 20_000 == float(metrics.firing_rate(acts).sum())


# --- decoder geometry ---------------------------------------------------------------------------


@pytest.mark.parametrize("h", [2, 5])
def test_orthonormal_rows_share_nothing_and_equal_rows_everything(h: int) -> None:
    assert metrics.decoder_pairwise_cosine(rotation(0, 5)[:h]) == pytest.approx(0, abs=1e-15)
    assert metrics.decoder_pairwise_cosine(draw(0, 1, 5).repeat(h, 1)) == pytest.approx(1)


@few
@given(seeds, st.integers(2, 6))
def test_c_dec_is_the_mean_over_pairs(seed: int, h: int) -> None:
    W = draw(seed, h, 4)
    pairs = [abs(float(a @ b / (a.norm() * b.norm()))) for a, b in itertools.combinations(W, 2)]
    found = metrics.decoder_pairwise_cosine(W)
    assert found == pytest.approx(sum(pairs) / len(pairs))
    signs = torch.tensor([1.0, -1.0] * h)[:h].unsqueeze(1)
    scales = torch.rand(h, 1).double() + 0.5
    for same in (W @ rotation(seed, 4), W[torch.randperm(h)], W * signs, W * scales):
        assert metrics.decoder_pairwise_cosine(same) == pytest.approx(found)


@few
@given(st.lists(st.floats(-0.9, 0.9), min_size=2, max_size=5))
def test_theorem_2_one_shared_direction(gammas: list[float]) -> None:
    """W_i = sqrt(1 - g_i^2) f_i + g_i u: c_dec is the mean of |g_i g_j|  (paper, A.6)."""
    h, gamma = len(gammas), torch.tensor(gammas, dtype=torch.float64)
    basis = rotation(1, h + 1)
    W = (1 - gamma**2).sqrt().unsqueeze(1) * basis[:h] + gamma.unsqueeze(1) * basis[h]
    expected = [abs(a * b) for a, b in itertools.combinations(gammas, 2)]
    found = metrics.decoder_pairwise_cosine(W)
    assert found == pytest.approx(sum(expected) / len(expected), abs=1e-12)


def test_one_row_has_no_pairs() -> None:
    with pytest.raises(DataError, match=r"len\(W_dec\)=1: allowed is at least 2 rows"):
        metrics.decoder_pairwise_cosine(torch.ones(1, 3))


def slow_projections(x: Tensor, W: Tensor, b: Tensor) -> list[float]:
    """All (x - b) . W_i / |W_i|, in float64, descending."""
    x, W, b = x.double(), W.double(), b.double()
    values = [float((row - b) @ w / w.norm()) for row in x for w in W]
    return sorted(values, reverse=True)


@few
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.data())
def test_nth_projection_is_an_entry_of_the_full_sort(
    seed: int, n_batch: int, h: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(0, h - 1))
    x, W, b = draw(seed, n_batch, 4), draw(seed + 1, h, 4), draw(seed + 2, 4)
    found = metrics.nth_decoder_projection(x, W, b, n)
    descending = slow_projections(x, W, b)
    assert found == pytest.approx(descending[n * n_batch])
    assert sum(value > found + 1e-9 for value in descending) == n * n_batch
    single = metrics.nth_decoder_projection(x.float(), W.float(), b.float(), n)
    assert single == pytest.approx(found, abs=1e-5)


@few
@given(seeds, st.floats(0.1, 10))
def test_nth_projection_sees_directions_not_lengths(seed: int, scale: float) -> None:
    x, W, b = draw(seed, 9, 4), draw(seed + 1, 5, 4), draw(seed + 2, 4)
    s = metrics.nth_decoder_projection(x, W, b, 2)
    Q, shift = rotation(seed, 4), draw(seed + 3, 4)
    lengths = torch.rand(5, 1).double() + 0.5
    assert metrics.nth_decoder_projection(x, W * lengths, b, 2) == pytest.approx(s)
    assert metrics.nth_decoder_projection(x @ Q, W @ Q, b @ Q, 2) == pytest.approx(s)
    assert metrics.nth_decoder_projection(x + shift, W, b + shift, 2) == pytest.approx(s)
    assert metrics.nth_decoder_projection(scale * x, W, scale * b, 2) == pytest.approx(scale * s)


@pytest.mark.parametrize("n", [-1, 5, 2.0, True])
def test_nth_projection_refuses(n: int) -> None:
    with pytest.raises(
        ParameterError, match=r"n=(5: allowed is 0 <= n < d_sae=5|.*a whole number >= 0)"
    ):
        metrics.nth_decoder_projection(torch.ones(3, 4), torch.ones(5, 4), torch.zeros(4), n)


def test_a_zero_row_stays_zero() -> None:
    for dtype in (torch.float32, torch.float64):
        W = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=dtype)
        torch.testing.assert_close(
            metrics.unit_rows(W), torch.tensor([[0.6, 0.8], [0, 0]], dtype=dtype)
        )


# --- ground truth -------------------------------------------------------------------------------


@few
@given(seeds)
def test_a_planted_permutation_is_found(seed: int) -> None:
    features = metrics.unit_rows(draw(seed, 6, 8))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    scales = torch.rand(6, 1).double() + 0.5
    match = metrics.match_to_features((scales * features)[order], features)
    assert torch.equal(order[match.assignment], torch.arange(6))
    torch.testing.assert_close(match.cosines, torch.ones(6).double())
    assert match.mcc == pytest.approx(1)


@few
@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_no_assignment_is_better(seed: int, h: int, g: int) -> None:
    """Against all assignments, by hand; an unmatched feature counts as 0."""
    W, F = draw(seed, h, 3), draw(seed + 1, g, 3)
    cosines = metrics.unit_rows(F) @ metrics.unit_rows(W).T
    if h >= g:
        choices = [
            sum(float(cosines[i, j]) for i, j in enumerate(js))
            for js in itertools.permutations(range(h), g)
        ]
    else:
        choices = [
            sum(float(cosines[i, j]) for j, i in enumerate(fs))
            for fs in itertools.permutations(range(g), h)
        ]
    match = metrics.match_to_features(W, F)
    assert match.mcc == pytest.approx(max(choices) / g)
    unmatched = match.assignment < 0
    assert int(unmatched.sum()) == max(g - h, 0) and not match.cosines[unmatched].any()
    used = match.assignment[~unmatched]
    assert len(set(used.tolist())) == min(g, h)
    assert torch.allclose(match.cosines[~unmatched], cosines[~unmatched, used])


def test_a_mirrored_latent_is_no_match() -> None:
    F = torch.eye(3)
    match = metrics.match_to_features(torch.stack([F[0], F[1], -F[2]]), F)
    assert match.cosines.tolist() == [1, 1, -1] and match.mcc == pytest.approx(1 / 3)
    assert match.assignment.tolist() == [0, 1, 2]


def test_a_feature_without_a_latent_counts_as_nothing() -> None:
    F = torch.eye(3)
    match = metrics.match_to_features(F[[2, 0]], F)
    assert match.assignment.tolist() == [1, -1, 0] and match.cosines.tolist() == [1, 0, 1]
    assert match.mcc == pytest.approx(2 / 3)


def test_cosine_matrix_is_the_identity_for_a_shuffled_truth() -> None:
    F = rotation(0, 4)
    shuffled = metrics.cosine_matrix(F[[2, 0, 3, 1]] * 5, F)
    torch.testing.assert_close(shuffled, torch.eye(4).double())
    missing = metrics.cosine_matrix(F[[2, 0]], F)
    torch.testing.assert_close(missing, torch.diag(torch.tensor([1.0, 0, 1, 0]).double()))


def test_the_true_dictionary_is_perfect_with_room_and_only_then() -> None:
    toy = ToyFeatures(6, 10, 0.4)
    x = toy.batch(0, 300)
    error = []
    for k in (6, 1):
        sae = start_from(SAE(10, 6, BatchTopK(k)), toy.features)
        error.append(metrics.fvu(x, sae(x).x_hat))
        assert metrics.match_to_features(sae.W_dec, toy.features).mcc == pytest.approx(1)
    assert error[0] < 1e-12 and error[1] > 0.1


def test_metrics_leave_their_arguments_alone() -> None:
    x, W, b = draw(0, 9, 4), draw(1, 5, 4), draw(2, 4)
    copies = [t.clone() for t in (x, W, b)]
    metrics.nth_decoder_projection(x, W, b, 1)
    metrics.match_to_features(W, x)
    metrics.cosine_matrix(W, x)
    metrics.fvu(x, x + 1)
    assert all(torch.equal(a, c) for a, c in zip((x, W, b), copies, strict=True))


# --- other runs, and the latents one asks about ---------------------------------------------------


def test_a_run_is_consistent_with_any_order_and_length_of_its_rows() -> None:
    W = draw(1, 6, 4)
    other = W[torch.tensor([3, 0, 5, 1, 2, 4])] * torch.linspace(0.1, 9, 6)[:, None]
    torch.testing.assert_close(metrics.consistency(W, [other]), torch.ones(6).double())


def test_runs_are_averaged() -> None:
    W = draw(1, 6, 4)
    turned = -W
    one = metrics.consistency(W, [W])
    both = metrics.consistency(W, [W, turned])
    torch.testing.assert_close(both, (one + metrics.consistency(W, [turned])) / 2)
    assert bool((both < one).all())


def test_without_another_run_there_is_no_consistency() -> None:
    with pytest.raises(DataError, match="others"):
        metrics.consistency(torch.eye(3), [])


def test_z_score_of_one_spike_is_known() -> None:
    """One 1 among n - 1 zeros: (1 - 1/n) / sqrt(1/n (1 - 1/n)) = sqrt(n - 1)."""
    spike = torch.zeros(50, 3)
    spike[7, 0] = 1.0
    spike[:, 1] = 4.0  # never varies
    spike[3, 2] = 2.0
    expected = torch.tensor([49.0**0.5, 0.0, 49.0**0.5], dtype=torch.float64)
    torch.testing.assert_close(metrics.z_score(spike), expected)


def test_z_score_ignores_shift_and_scale() -> None:
    x = draw(2, 40, 5)
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


# --- what would be a number of something else -----------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int32])
def test_errors_are_taken_in_float64_whatever_the_inputs(dtype: torch.dtype) -> None:
    x, x_hat = torch.tensor([[200.0, 3.0]]), torch.tensor([[199.0, 5.0]])
    exact = metrics.mse(x, x_hat), metrics.uncentred_variance_explained(x, x_hat)
    x, x_hat = x.to(dtype), x_hat.to(dtype)
    assert (metrics.mse(x, x_hat), metrics.uncentred_variance_explained(x, x_hat)) == exact
    wide = torch.full((1, 2), 60_000.0, dtype=torch.float16)
    assert metrics.mse(wide, -wide) == pytest.approx(2 * 120_000.0**2)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_activity_counts_as_none(number: float) -> None:
    acts = torch.tensor([[1.0, 0.0], [number, 0.0]])
    for metric in (metrics.l0, metrics.firing_rate, metrics.alive, metrics.z_score):
        with pytest.raises(DataError, match="acts='NaN or infinite': allowed is finite numbers"):
            metric(acts)
    rows = torch.eye(2)
    assert math.isnan(metrics.feature_recovery_rate(rows * number, rows, 0.9))


def test_a_dictionary_of_another_width_is_refused() -> None:
    x, W, features = draw(0, 5, 3), draw(1, 4, 3), draw(2, 4, 2)
    for b_dec in (torch.zeros(1), torch.zeros(5, 1), torch.zeros(2)):
        with pytest.raises(DataError, match=r"b_dec\.shape=.*allowed is \(3,\)"):
            metrics.nth_decoder_projection(x, W, b_dec, 1)
    with pytest.raises(DataError, match=r"features\.shape=\(4, 2\): allowed is \[n, 3\]"):
        metrics.match_to_features(W, features)
    for alive in (torch.ones(4, dtype=torch.int64), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(DataError, match=r"alive=.*allowed is bool \(4,\)"):
            metrics.most_prominent(draw(3, 4), 0.5, alive)
