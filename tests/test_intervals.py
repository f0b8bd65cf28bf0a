"""Each interval against the library or the sentence that defines it, number for number."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from srclib.errors import DataError
from srclib.metrics import clustered_t, wilson


def test_a_count_has_scipys_interval() -> None:
    for n in (1, 5, 40):
        for hits in range(n + 1):
            assert wilson(hits, n) == pytest.approx(
                tuple(stats.binomtest(hits, n).proportion_ci(method="wilson"))
            )
    with pytest.raises(ValueError, match="Allowed are 0 to n"):
        wilson(4, 3)


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
    assert narrow == wilson(5, 10) and wide[1] - wide[0] > 0.4
    assert 0.1 < alone[1] - alone[0] < 0.16  # 2 * 1.96 * sqrt(.25 / 200) = 0.139
    assert clustered_t(together.double(), people) == pytest.approx(
        linearised(together.double().tolist(), people), rel=1e-12
    )
    assert clustered_t(mixed, [7] * 200) == wilson(0.5, 1)
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


def test_a_clustered_interval_of_a_share_ends_where_shares_end() -> None:
    hits = [True, True, True, False]
    assert clustered_t(hits, ["a", "a", "b", "b"]) == (0.0, 1.0)
    low, high = clustered_t([float(hit) for hit in hits], ["a", "a", "b", "b"])
    assert low < 0 and high > 1, "of numbers it does not"
