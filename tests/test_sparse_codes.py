"""X = H V: exact supports, exact frequencies, rows of norm 1. Statistics are held to five sigma."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from srclib import rng
from srclib.errors import DataError, ParameterError
from srclib.metrics import max_cosine_similarity
from srclib.sources.sparse_codes import SparseCodes, Subsets, inclusion, odds_for

TAIL = 1 / torch.arange(1, 13)
VARIANTS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "mixed": {"s": (1, 4)},
    "sizes": {"sizes": torch.linspace(0.5, 2, 12)},
    "tail": {"frequency": TAIL.sqrt()},
    "pairs": {"s": (2, 3), "pair_rho": 0.5},
}
each_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def make(options: dict[str, Any], seed: int = 0) -> SparseCodes:
    return SparseCodes(**{"n_features": 12, "d_in": 7, "s": 3, "seed": seed} | options)


def within(count: Tensor, p: Tensor | float, n: int) -> bool:
    """Counts of n trials with probability p, to five standard errors."""
    p = torch.as_tensor(p).double()
    return bool(((count / n - p).abs() <= 5 * (p * (1 - p) / n).sqrt()).all())


@each_variant
def test_a_batch_depends_on_the_step_alone(options: dict[str, Any]) -> None:
    source, again = make(options), make(options)
    first = {step: source.batch(step, 6) for step in (3, 0, -1, 1)}
    torch.manual_seed(1)
    for step in sorted(first):
        batch = again.batch(step, 6)
        assert batch.dtype == torch.float32 and batch.shape == (6, 7)
        assert torch.equal(batch, first[step])
    assert len({batch.numpy().tobytes() for batch in first.values()}) == 4
    assert source.identity == again.identity


def test_every_setting_is_in_the_identity() -> None:
    """Two sources with the same identity serve the same batches, and only these."""
    sources = [make(options) for options in VARIANTS.values()]
    sources += [make({}, seed=1), make({"pair_rho": 0.1, "s": 2})]
    sources += [make({"s": 2}), make({"pair_rho": 0.2, "s": 2})]
    names = {str(source.identity) for source in sources}
    batches = {source.batch(0, 200).numpy().tobytes() for source in sources}
    assert len(names) == len(batches) == len(sources)


@each_variant
def test_rows_have_norm_one_and_are_codes_times_features(options: dict[str, Any]) -> None:
    source = make(options)
    x, H = source.batch(2, 50), source.codes(2, 50)
    assert bool((H >= 0).all())
    torch.testing.assert_close(source.features.norm(dim=1), torch.ones(12))
    torch.testing.assert_close(x.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(x, H @ source.features, atol=1e-6, rtol=1e-5)


@each_variant
def test_rows_hold_exactly_s_features_and_shares_are_equal(options: dict[str, Any]) -> None:
    source = make(options)
    for n_batch in (40, 3, 1):
        held = (source.codes(0, n_batch) > 0).sum(dim=1).tolist()
        assert held == list(itertools.islice(itertools.cycle(source.s), n_batch))


@each_variant
def test_features_occur_as_often_as_the_source_says(options: dict[str, Any]) -> None:
    source, n = make(options), 20_000
    assert float(source.frequencies.sum()) == pytest.approx(sum(source.s) / len(source.s))
    counts = (source.codes(0, n) > 0).sum(dim=0)
    assert within(counts, source.frequencies, n)
    asked = torch.as_tensor(options.get("frequency", torch.ones(12))).double()
    torch.testing.assert_close(source.frequencies / source.frequencies.sum(), asked / asked.sum())


@pytest.mark.parametrize("size", [1, 3, 5, 6])
def test_subsets_have_the_law_of_their_odds(size: int) -> None:
    """All subsets of six, one by one: P is proportional to the product of the odds."""
    odds, n = torch.tensor([0.2, 3.0, 1.0, 0.5, 1.0, 9.0]).double(), 20_000
    law = {c: float(odds[list(c)].prod()) for c in itertools.combinations(range(6), size)}
    total = sum(law.values())
    drawn = Subsets(odds, size).draw(n, rng.stream(1, "subsets"))
    rows, counts = drawn.unique(dim=0, return_counts=True)
    found = dict(zip(map(tuple, rows.tolist()), counts.tolist(), strict=True))
    assert set(found) <= set(law)
    count = torch.tensor([found.get(c, 0) for c in law]).double()
    assert within(count, torch.tensor([p / total for p in law.values()], dtype=torch.float64), n)
    members = [sum(p for c, p in law.items() if i in c) / total for i in range(6)]
    expected = torch.tensor(members, dtype=torch.float64)
    torch.testing.assert_close(inclusion(odds, size), expected)


@pytest.mark.parametrize("wanted", [[0.5] * 4, [0.95, 0.6, 0.4, 0.05], [0.999, 0.999, 0.002]])
def test_odds_are_found_for_any_wanted_frequencies(wanted: list[float]) -> None:
    p = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(inclusion(odds_for(p, 2), 2), p, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("s", "rho"), [(2, 1.0), (2, 0.3), (3, 2 / 3), (4, 0.0), ((1, 4), 0.0)])
def test_pairs_occur_together_as_often_as_asked(s: int | tuple[int, ...], rho: float) -> None:
    source, n = make({"s": s, "pair_rho": rho}), 20_000
    held = source.codes(0, n) > 0
    together = (held[:, ::2] & held[:, 1::2]).sum(dim=0)
    assert within(together, rho * source.frequencies[::2], n)
    if rho == 0:
        assert not bool(together.any())


def test_rho_of_a_mixture_is_that_of_all_its_rows() -> None:
    held = make({"s": (2, 5), "pair_rho": 0.6}).codes(0, 20_000) > 0
    together, single = (held[:, ::2] & held[:, 1::2]).sum(), held.sum()
    assert float(2 * together / single) == pytest.approx(0.6, abs=0.01)


def ratios(**options: Any) -> Any:
    """Ratio of the two coefficients of a row, in random order: the scale of the row cancels."""
    H = make({"s": 2} | options).codes(0, 3000)
    return (H[:, :6].sum(dim=1) / H[:, 6:].sum(dim=1))[(H[:, :6] > 0).sum(dim=1) == 1].numpy()


def test_sizes_multiply_the_coefficients_of_their_features() -> None:
    np.testing.assert_allclose(ratios(), 1, rtol=1e-5)
    sizes = torch.tensor([3.0] * 6 + [1.0] * 6)
    np.testing.assert_allclose(ratios(sizes=sizes), 3, rtol=1e-5)


def test_a_random_dictionary_of_the_same_seed_shares_nothing() -> None:
    F = SparseCodes(64, 42, 3, seed=5).features
    for name in ("dictionary", "features"):
        other = torch.randn(64, 42, generator=rng.stream(5, name))
        assert float(max_cosine_similarity(F, other).max()) < 0.9
    bare = torch.randn(64, 42, generator=torch.Generator().manual_seed(5))
    assert float(max_cosine_similarity(F, bare).max()) < 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"s": 13}, "s=13: allowed is at most n_features=12"),
        ({"s": (3, 20)}, "s=20: .*n_features=12"),
        ({"s": 0}, "s=0"),
        ({"s": 2.5}, "s=2.5"),
        ({"s": True}, "s=True"),
        ({"s": ()}, r"s=\(\): .*at least one"),
        ({"d_in": 1}, "d_in=1: allowed is a whole number >= 2"),
        ({"sizes": torch.ones(3)}, r"sizes\.shape=\(3,\): allowed is \(12,\)"),
        ({"sizes": torch.zeros(12)}, "sizes=0.0: allowed is finite numbers > 0"),
        ({"frequency": torch.full((12,), math.nan)}, "frequency=nan"),
        ({"frequency": TAIL.square()}, r"Feature 0 is too frequent: flatten the tail or lower s"),
        ({"pair_rho": 0.7}, r"pair_rho=0.7: allowed is 0 <= pair_rho <= 0\.6667 for s=\(3,\)"),
        ({"pair_rho": -0.1, "s": 2}, "pair_rho=-0.1"),
        ({"pair_rho": 0.1, "s": 7}, r"n_features=12: allowed is even and >= 2 s = 14"),
        ({"pair_rho": 0.1, "n_features": 11}, "n_features=11: allowed is even"),
        ({"pair_rho": 0.1, "frequency": TAIL}, "None beside pair_rho"),
    ],
)
def test_sources_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ParameterError, DataError), match=words):
        make(options)


def test_what_the_caller_passed_is_his_own() -> None:
    frequency, sizes = TAIL.sqrt().double(), torch.ones(12)
    kept = frequency.clone(), sizes.clone()
    source = make({"frequency": frequency, "sizes": sizes})
    before = source.batch(0, 9)
    assert torch.equal(frequency, kept[0]) and torch.equal(sizes, kept[1])
    frequency.zero_(), sizes.zero_()
    assert torch.equal(source.batch(0, 9), before)
