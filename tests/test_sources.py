"""Batches: pure functions of the step, and toys that are true to their statistics."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from srclib import sources
from srclib.errors import DataError, ParameterError
from srclib.sources import Centred, Rows, Scaled, Source, ToyFeatures, random_correlation
from srclib.sources.implied import Implied


def numbered(n_rows: int, d_in: int = 2) -> Tensor:
    """Row i holds i: a row says where it comes from."""
    return torch.arange(n_rows).float().unsqueeze(1).repeat(1, d_in)


def corr_with_feature_0(rho: float) -> Tensor:
    corr = torch.eye(5, dtype=torch.float64)
    corr[0, 1:] = corr[1:, 0] = rho
    return corr


SOURCES: dict[str, Callable[[], Source]] = {
    "toy": lambda: ToyFeatures(5, 8, 0.3, seed=1),
    "correlated toy": lambda: ToyFeatures(5, 8, 0.3, corr=corr_with_feature_0(0.4)),
    "superposed toy": lambda: ToyFeatures(5, 3, 0.3, overlap_steps=2),
    "rows": lambda: Rows(numbered(30, 8), held_out=7),
    "scaled": lambda: Scaled(Rows(numbered(30, 8), held_out=7), 3.0),
    "centred": lambda: Centred(Rows(numbered(30, 8), held_out=7), torch.arange(8.0)),
}
each_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


@each_source
def test_a_batch_depends_on_the_step_alone(make: Callable[[], Source]) -> None:
    """Whatever was read before, in whatever order, and whatever the global generator holds."""
    steps = [3, 0, -1, 17, 3, -2]
    torch.manual_seed(0)
    source = make()
    first = {step: source.batch(step, 6) for step in steps}
    torch.manual_seed(99)
    again = make()
    for step in sorted(steps):
        batch = again.batch(step, 6)
        assert batch.dtype == torch.float32 and batch.shape == (6, again.d_in)
        assert torch.equal(batch, first[step])
    assert source.identity == again.identity


@each_source
def test_spoiling_a_batch_spoils_no_other(make: Callable[[], Source]) -> None:
    source = make()
    kept = source.batch(4, 6).clone()
    source.batch(4, 6).fill_(-1)
    assert torch.equal(source.batch(4, 6), kept)


@each_source
def test_steps_and_evaluation_steps_differ(make: Callable[[], Source]) -> None:
    source = make()
    batches = [source.batch(step, 3) for step in (-2, -1, 0, 1)]
    assert len({batch.numpy().tobytes() for batch in batches}) == 4


def test_features_are_orthonormal_where_they_fit() -> None:
    F = ToyFeatures(20, 20, 0.1, seed=3).features
    torch.testing.assert_close(F @ F.T, torch.eye(20), atol=1e-5, rtol=0)


def test_more_features_than_dimensions_are_spread_as_far_as_they_go() -> None:
    """2 d_in rows in d_in dimensions: no better than the Welch bound, better than random rows."""
    rough, spread = (ToyFeatures(8, 4, 0.1, overlap_steps=n).features for n in (0, 400))
    for F in (rough, spread):
        torch.testing.assert_close(F.norm(dim=1), torch.ones(8))
    overlap = [float((F @ F.T).square().sum() - 8) for F in (rough, spread)]
    assert overlap[1] < overlap[0] and overlap[1] >= 8 * 8 / 4 - 8 - 1e-4


def test_superposed_features_reach_the_welch_bound():
    """n unit rows in d < n dimensions have a mean squared cosine of at least (n-d) / (d(n-1))."""
    n, d = 50, 40
    for seed in range(3):
        features = ToyFeatures(n, d, 0.1, seed=seed).features.double()
        cosines = (features @ features.T).fill_diagonal_(0)
        welch = ((n - d) / (d * (n - 1))) ** 0.5
        assert cosines.square().sum().div(n * (n - 1)).sqrt() == pytest.approx(welch, rel=1e-3)
        assert cosines.abs().max() < 0.3  # the official generator: .21; from long rows .68


def test_seeds_and_streams_are_their_own() -> None:
    one, two = (ToyFeatures(5, 8, 0.3, seed=s) for s in (1, 2))
    assert not torch.equal(one.features, two.features)
    assert not torch.equal(one.codes(0, 9), two.codes(0, 9))
    assert one.identity != two.identity


@pytest.mark.parametrize("corr", [None, corr_with_feature_0(0.4)], ids=["independent", "rho 0.4"])
def test_features_fire_as_often_as_asked(corr: Tensor | None) -> None:
    p = torch.tensor([0.05, 0.1, 0.3, 0.5, 0.9])
    toy, n = ToyFeatures(5, 8, p, corr=corr), 40_000
    fires = toy.codes(0, n) > 0
    assert toy.true_l0 == pytest.approx(float(p.sum()))
    bound = 5 * (p * (1 - p) / n).sqrt()  # five standard errors
    assert bool(((fires.float().mean(dim=0) - p).abs() < bound).all())


def test_magnitudes_have_mean_one_and_the_wanted_spread() -> None:
    codes = ToyFeatures(5, 8, 0.5, magnitude_std=0.2).codes(0, 20_000)
    active = codes[codes > 0]
    assert float(active.mean()) == pytest.approx(1, abs=0.01)
    assert float(active.std()) == pytest.approx(0.2, rel=0.03)
    constant = ToyFeatures(5, 8, 0.5, magnitude_std=0.0).codes(0, 500)
    assert set(constant.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rho", [-0.4, 0.4])
def test_firing_correlation_is_that_of_the_copula(rho: float) -> None:
    """At p = 1/2 the binary correlation of a Gaussian copula is (2 / pi) asin(rho) exactly."""
    toy = ToyFeatures(5, 8, 0.5, corr=corr_with_feature_0(rho))
    phi = toy.firing_correlation(50_000)
    expected = torch.eye(5, dtype=torch.float64)
    expected[0, 1:] = expected[1:, 0] = 2 / torch.pi * torch.asin(torch.tensor(rho))
    assert float((phi - expected).abs().max()) < 0.025


@pytest.mark.parametrize("rho", [-0.5, 0.5])
def test_an_exactly_singular_correlation_is_served(rho: float) -> None:
    """|rho| = 0.5 has the eigenvalue 0; the jitter lets it be factored and changes nothing else."""
    corr = corr_with_feature_0(rho)
    copy = corr.clone()
    toy = ToyFeatures(5, 8, 0.4, corr=corr)
    assert bool(torch.isfinite(toy.batch(0, 100)).all())
    assert toy.corr is not None and float((toy.corr - copy).abs().max()) < 1e-6
    assert torch.equal(corr, copy)


def test_features_that_always_agree_fire_together() -> None:
    """Rank one: only the jitter makes it positive definite, and it is too small to be seen."""
    fires = ToyFeatures(5, 8, 0.4, corr=torch.ones(5, 5)).codes(0, 200) > 0
    assert bool((fires == fires[:, :1]).all()) and 0 < int(fires[:, 0].sum()) < 200


def test_correlation_may_have_any_float_type() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        toy = ToyFeatures(5, 8, 0.4, corr=corr_with_feature_0(0.25).to(dtype))
        assert torch.equal(
            toy.codes(0, 50), ToyFeatures(5, 8, 0.4, corr_with_feature_0(0.25)).codes(0, 50)
        )


def official_random_correlation(g: int, seed: int) -> Any:
    """The official recipe, step by step as the paper's notes tell it, without clever indexing."""
    R = random.Random(seed)
    pairs = [(i, j) for i in range(g) for j in range(i + 1, g)]
    n_corr = len(pairs) - int(len(pairs) * 0.3)
    drawn = R.sample(pairs, n_corr)
    C = np.eye(g)
    for pair in drawn[: int(n_corr * 0.5)]:
        C[pair] = C[pair[::-1]] = R.uniform(0.3, 0.9)
    for pair in drawn[int(n_corr * 0.5) :]:
        C[pair] = C[pair[::-1]] = -R.uniform(0.3, 0.9)
    values, V = np.linalg.eigh(C)
    fixed = V @ np.diag(np.maximum(values, 1e-6)) @ V.T
    outer = np.sqrt(np.outer(np.diag(fixed), np.diag(fixed)))
    return fixed / outer


@pytest.mark.parametrize(("g", "seed"), [(50, 42), (12, 7)])
def test_random_correlation_is_the_official_one(g: int, seed: int) -> None:
    found = random_correlation(g, seed)
    np.testing.assert_allclose(found.numpy(), official_random_correlation(g, seed), atol=1e-12)
    assert torch.equal(found.diag(), torch.ones(g).double())
    assert float(torch.linalg.eigvalsh(found)[0]) > -1e-9  # what ToyFeatures takes
    ToyFeatures(g, g, 0.1, corr=found)


def test_random_correlation_leaves_the_global_generator_alone() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    random_correlation(6, 0)
    assert random.random() == expected


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_impossible_probabilities(p: float) -> None:
    with pytest.raises(ParameterError, match=r"p=.*0 < p < 1"):
        ToyFeatures(3, 4, p)
    with pytest.raises(ParameterError, match=r"p=.*0 < p < 1"):
        ToyFeatures(3, 4, torch.tensor([0.5, p, 0.5]))


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_impossible_magnitudes(sigma: float) -> None:
    with pytest.raises(ParameterError, match=r"magnitude_std=.*a finite number"):
        ToyFeatures(3, 4, 0.5, magnitude_std=sigma)


def test_one_probability_per_feature() -> None:
    with pytest.raises(ParameterError, match=r"len\(p\)=2: allowed is n_features=3"):
        ToyFeatures(3, 4, torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("corr", "words"),
    [
        (torch.eye(4), r"corr\.shape=\(4, 4\): allowed is \(5, 5\)"),
        (2 * torch.eye(5), "symmetric matrix with unit diagonal"),
        (torch.eye(5) + torch.ones(5, 5).triu(1) / 9, "symmetric matrix with unit diagonal"),
        (torch.full((5, 5), float("nan")), "symmetric matrix with unit diagonal"),
        (corr_with_feature_0(0.6), "smallest eigenvalue of corr=-0.1.*>= 0.*clip eigenvalues"),
    ],
)
def test_matrices_that_are_no_correlation(corr: Tensor, words: str) -> None:
    with pytest.raises((DataError, ParameterError), match=words):
        ToyFeatures(5, 8, 0.4, corr=corr)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.9, 0.3), (0.3, 1.0)])
def test_impossible_strengths(low: float, high: float) -> None:
    with pytest.raises(ParameterError, match="0 < low <= high < 1"):
        random_correlation(5, 0, low=low, high=high)


def test_every_source_is_handed_out_when_it_is_asked_for() -> None:
    for name, home in sources._HOME.items():
        assert getattr(sources, name).__module__ == f"srclib.sources.{home}"
        assert name in dir(sources)
    with pytest.raises(AttributeError, match="has no attribute 'Row'"):
        sources.Row  # noqa: B018


def test_a_child_never_fires_without_its_parent() -> None:
    how = {"parents": {4: 0, 5: 0, 6: 1}, "seed": 3}
    source = Implied(8, 8, torch.linspace(0.4, 0.1, 8), **how)
    plain = ToyFeatures(8, 8, torch.linspace(0.4, 0.1, 8), seed=3)
    codes, before = source.codes(5, 20_000), plain.codes(5, 20_000)
    for child, parent in how["parents"].items():
        fires = codes[:, child] > 0
        assert fires.any() and (codes[fires, parent] > 0).all()
        assert torch.equal(codes[:, child], before[:, child]), "children are left as they were"
    assert torch.equal(codes[:, [2, 3, 7]], before[:, [2, 3, 7]])
    assert float((codes > 0).double().sum(1).mean()) == pytest.approx(source.true_l0, abs=0.03)
    assert source.identity != plain.identity
    for bad in ({9: 0}, {4: 5, 5: 0}, {1: -1}):
        with pytest.raises(ParameterError, match="parents="):
            Implied(8, 8, 0.2, parents=bad)
    with pytest.raises(ParameterError, match="corr="):
        Implied(8, 8, 0.2, torch.eye(8), parents={1: 0})
