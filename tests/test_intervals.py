"""Each interval against the library or the sentence that defines it, number for number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from srclib.errors import DataError, ParameterError
from srclib.metrics import clustered_t, value_range, wilson


def test_a_range_is_of_the_units_and_knows_no_number_where_one_is_missing() -> None:
    assert value_range([0.3, 0.1, 0.2]) == (0.1, 0.3)
    assert value_range(np.array([2.0])) == (2.0, 2.0)
    assert all(map(math.isnan, value_range([1.0, math.nan])))
    with pytest.raises(DataError, match="at least one number"):
        value_range([])


def test_a_count_has_scipys_interval() -> None:
    for n in (1, 5, 40):
        for hits in range(n + 1):
            assert wilson(hits, n) == tuple(stats.binomtest(hits, n).proportion_ci(method="wilson"))
    assert wilson(np.int64(3), np.int64(7), 0.9) == wilson(3, 7, 0.9) != wilson(3, 7)


def test_a_mean_share_has_the_formula_of_the_checkpoints_page() -> None:
    shares, n, z = np.linspace(0, 1, 37) ** 2, np.arange(37) * 11 + 1, 1.96
    centre = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    found = [wilson(share, k) for share, k in zip(shares, n, strict=True)]
    assert found == list(zip(centre - half, centre + half, strict=True))
    assert wilson(0.25, 40) == pytest.approx(wilson(10, 40), abs=1e-4)
    assert all(map(math.isnan, wilson(math.nan, 3)))


@pytest.mark.parametrize(("successes", "n"), [(4, 3), (-1, 3), (1.5, 3), (-0.1, 3), (0, 0)])
def test_more_successes_than_trials_are_refused(successes: float, n: int) -> None:
    with pytest.raises(ParameterError, match=r"successes=|n=0"):
        wilson(successes, n)


def linearised(values: list[float], clusters: list[int]) -> tuple[float, float]:
    """se^2 = P / (P - 1) sum_p (h_p - mean n_p)^2 / n^2, cluster by cluster."""
    names, mean = sorted(set(clusters)), sum(values) / len(values)
    own = [[v for v, c in zip(values, clusters, strict=True) if c == name] for name in names]
    squares = sum((sum(each) - mean * len(each)) ** 2 for each in own)
    error = math.sqrt(len(names) / (len(names) - 1) * squares) / len(values)
    half = stats.t.ppf(0.975, len(names) - 1) * error
    return mean - half, mean + half


def test_a_clustered_interval_is_of_people_not_of_swaps() -> None:
    people = [i // 20 for i in range(200)]
    together = torch.tensor([p % 2 == 0 for p in people])  # all or nothing per person
    mixed = torch.arange(200) % 2 == 0
    wide, narrow, alone = (
        clustered_t(*each) for each in ((together, people), (mixed, people), (together, range(200)))
    )
    assert narrow == (0.5, 0.5) and wide[1] - wide[0] > 0.4
    assert 0.1 < alone[1] - alone[0] < 0.16  # 2 * 1.96 * sqrt(.25 / 200) = 0.139
    assert clustered_t(together.double(), people) == pytest.approx(
        linearised(together.double().tolist(), people), rel=1e-12
    )
    assert clustered_t(mixed, [7] * 200) == (0.5, 0.5)
    assert all(map(math.isnan, clustered_t([], [])))
    with pytest.raises(DataError, match=r"len\(clusters\)=3: allowed is 200"):
        clustered_t(mixed, people[:3])


def test_a_clustered_interval_covers_with_a_dozen_people() -> None:
    """Thirteen people with rates of their own, seven swaps each; a percentile bootstrap: 0.91."""
    draw, covered = torch.Generator().manual_seed(0), 0
    people = [p for p in range(13) for _ in range(7)]
    for _ in range(1000):
        rates = torch.rand(13, generator=draw)  # of mean one half
        hits = torch.rand(13, 7, generator=draw) < rates[:, None]
        low, high = clustered_t(hits.flatten(), people)
        covered += low <= 0.5 <= high
    assert 930 <= covered <= 970


def test_clusters_of_one_size_have_the_t_interval_of_their_means() -> None:
    hits = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]]).double()
    people = [p for p in range(4) for _ in range(3)]
    low, high = clustered_t(hits.flatten(), people)
    own = hits.mean(dim=1)
    half = 3.182446305284263 * own.std().item() / 2  # t with 3 degrees of freedom, 97.5 %
    assert (low, high) == pytest.approx((own.mean().item() - half, own.mean().item() + half))
    assert low < 0 <= clustered_t(hits.bool().flatten(), people)[0]  # a share is none
