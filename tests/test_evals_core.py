"""Core numbers, pooling, balancing and the probe that the evaluations share."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srclib.errors import DataError
from srclib.evals.bench import loss_recovered
from srclib.evals.probes import (
    equal_cells,
    fit_probe,
    k_sparse_f1,
    mean_pool,
    most_telling,
    one_vs_rest,
    sparse_probing,
)

few = settings(deadline=None, max_examples=20)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- core ---------------------------------------------------------------------------------------


def test_loss_recovered_is_one_for_the_model_and_zero_for_zeros() -> None:
    assert loss_recovered(2.0, 2.0, 6.0) == 1 and loss_recovered(2.0, 6.0, 6.0) == 0
    assert loss_recovered(2.0, 3.0, 6.0) == 0.75
    assert loss_recovered(2.0, 8.0, 6.0) == -0.5
    assert math.isnan(loss_recovered(2.0, 2.0, 2.0))


# --- what the evaluations share -----------------------------------------------------------------


def test_pooling_ignores_masked_tokens_whatever_they_hold() -> None:
    values = draw(1, 3, 5, 2)
    mask = torch.tensor([[1, 1, 0, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()
    expected = torch.stack([v[m].mean(dim=0) for v, m in zip(values, mask, strict=True)])
    values[~mask] = math.nan
    assert torch.allclose(mean_pool(values, mask), expected)


@few
@given(st.integers(0, 10**6), st.lists(st.integers(1, 40), min_size=2, max_size=5))
def test_one_vs_rest_is_balanced_and_even(seed: int, sizes: list[int]) -> None:
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    rows = one_vs_rest(labels, 0, seed)
    assert len(rows.unique()) == len(rows)
    counts = torch.bincount(labels[rows], minlength=len(sizes))
    assert counts[0] == counts[1:].sum() > 0
    # no class gives two more than another that still has some
    spare = [counts[c] for c in range(1, len(sizes)) if counts[c] < sizes[c]]
    assert not spare or counts[1:].max() <= min(spare) + 1
    quota = -(-sizes[0] // (len(sizes) - 1))
    assert counts[0] == min(sizes[0], sum(min(n, quota) for n in sizes[1:]))


def test_draws_depend_on_seed_and_name_alone() -> None:
    labels = torch.arange(300) % 3
    first = one_vs_rest(labels, 1, 7, "a")
    assert torch.equal(first, one_vs_rest(labels, 1, 7, "a"))
    assert not torch.equal(first, one_vs_rest(labels, 1, 8, "a"))
    assert not torch.equal(first, one_vs_rest(labels, 1, 7, "b"))
    with pytest.raises(DataError, match=r"rows of class 5 against others=0"):
        one_vs_rest(labels, 5, 0)


def test_equal_cells() -> None:
    cells = torch.tensor([0, 0, 0, 1, 2, 2, 1, 3])
    rows = equal_cells(cells, 3, 0)
    assert torch.bincount(cells[rows]).tolist() == [2, 2, 2]
    with pytest.raises(DataError, match=r"without rows=\[4\]"):
        equal_cells(cells, 5, 0)


def test_probe_finds_the_direction_in_any_unit() -> None:
    x, w = draw(2, 2000, 4).double(), torch.tensor([1.0, -2.0, 0.0, 0.5]).double()
    labels = x @ w > 0.3
    probe = fit_probe(x + 5, labels)
    assert probe.accuracy(x + 5, labels) > 0.98
    assert torch.cosine_similarity(probe.w, w, dim=0) > 0.99
    for unit in (1e-4, 1e4):
        same = fit_probe(unit * (x + 5), labels)
        assert torch.allclose(same.w * unit, probe.w, rtol=1e-6)
        assert same.b == pytest.approx(probe.b, rel=1e-6)


def test_probe_weighs_classes_alike_only_when_asked() -> None:
    """Equal clouds, 9 to 1: plain gives up on the rare class, reweighed meets it half way."""
    labels = torch.arange(5000) % 10 == 0
    x = draw(3, 5000, 1) + 0.5 * labels[:, None]
    plain, fair = fit_probe(x, labels), fit_probe(x, labels, reweigh=True)
    assert not plain.predict(x).any()
    assert -fair.b / float(fair.w) == pytest.approx(0.25, abs=0.1)


def test_probe_of_constants_is_chance_and_of_one_class_an_error() -> None:
    x, labels = torch.full((10, 2), 3.3), torch.arange(10) % 2 == 0
    assert fit_probe(x, labels).accuracy(x, labels) == 0.5
    for few_labels in (torch.zeros(10).bool(), torch.zeros(0).bool()):
        with pytest.raises(DataError, match=r"share of positives in labels=0\.0"):
            fit_probe(x[: len(few_labels)], few_labels)


# --- sparse probing -----------------------------------------------------------------------------


def planted(n: int, share: float) -> tuple[Tensor, Tensor]:
    """Three classes; latent c fires on `share` of class c and nowhere else; 5 noise latents."""
    labels = torch.arange(3 * n) % 3
    acts = draw(4, 3 * n, 8).abs()
    acts[:, :3] = 0
    for c in range(3):
        rows = (labels == c).nonzero().flatten()
        acts[rows[: int(share * n)], c] = 2.0
    return acts, labels


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_latent_reads_what_it_marks(share: float) -> None:
    """It is right on all negatives and on `share` of the positives: (1 + share) / 2."""
    acts, labels = planted(200, share)
    scores = sparse_probing(acts, labels, acts, labels, ks=(1, 8))
    assert scores[1] == pytest.approx((1 + share) / 2)
    assert scores[1] - 0.05 < scores[8] <= 1 and list(scores) == [1, 8]


def test_a_latent_that_falls_silent_tells_as_much() -> None:
    acts, labels = planted(100, 1.0)
    inverted = torch.cat([2 - acts[:, :3], acts[:, 3:]], dim=1)
    assert sparse_probing(inverted, labels, inverted, labels, ks=(1,))[1] == 1
    assert most_telling(inverted, labels == 1, 1).tolist() == [1]


def test_latents_are_chosen_on_training_rows_and_judged_on_test_rows() -> None:
    acts, labels = planted(200, 1.0)
    moved = acts.clone()
    moved[:, [0, 1, 2]] = acts[:, [1, 2, 0]]  # the test set uses other latents
    assert sparse_probing(acts, labels, moved, labels, ks=(1,))[1] < 0.55
    louder = acts.clone()
    louder[:, 7] = 9.0 * (labels == 0)  # would be chosen if the test rows had a say
    assert sparse_probing(acts, labels, louder, labels, ks=(1,))[1] == 1
    assert sparse_probing(acts[:, 3:], labels, acts[:, 3:], labels, ks=(2,))[2] < 0.6


def test_residual_baselines_are_the_same_call() -> None:
    """A direction spread evenly over all channels: the full probe reads it, one channel cannot."""
    labels = torch.arange(1000) % 2
    x = draw(5, 1000, 50)
    x = x + 0.5 * (2 * labels[:, None] - 1)
    scores = sparse_probing(x[:800], labels[:800], x[800:], labels[800:], ks=(1, 50))
    assert scores[1] < 0.8 and scores[50] > 0.97


def test_k_sparse_f1_selects_with_the_same_rule() -> None:
    acts, labels = planted(100, 1.0)
    assert k_sparse_f1(acts, labels == 2, acts, labels == 2, 1) == 1
    acts[:, 2] = 0
    assert k_sparse_f1(acts, labels == 2, acts, labels == 2, 1) < 1


def test_latents_of_a_probe_are_chosen_on_the_training_set() -> None:
    """Latent 0 tells the class in training, latent 1 in the test; a probe that looked is right."""
    labels = torch.arange(200) % 2 == 0
    noise = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(4))
    acts, test_acts = 0.1 * noise
    acts[:, 0] += 4 * labels
    acts[:, 1] += labels
    test_acts[:, 1] += 4 * labels
    assert k_sparse_f1(acts, labels, test_acts, labels, 2) > 0.9
    assert k_sparse_f1(acts, labels, test_acts, labels, 1) < 0.7
