"""Random streams: functions of their names alone, and normal numbers that are normal."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from srclib import rng
from srclib.errors import ParameterError

N = 200_000


@pytest.fixture(scope="module")
def sample() -> np.ndarray[Any, Any]:
    return rng.normals(0, "test", shape=(N,)).double().numpy()


def test_a_stream_is_named_by_all_that_leads_to_it() -> None:
    paths: list[tuple[Any, ...]] = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", 1), (0, "a", -1)]
    drawn = [float(rng.stream(*path).initial_seed()) for path in paths]
    drawn += [float(rng.normals(*path, shape=(1,))) for path in paths]
    assert len(set(drawn)) == len(drawn)


def test_drawing_twice_or_after_others_gives_the_same_numbers() -> None:
    first = rng.normals(3, "a", 7, shape=(5, 4))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    rng.normals(3, "a", 8, shape=(9,))
    assert torch.equal(rng.normals(3, "a", 7, shape=(5, 4)), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [-1, 2**63, 0.0, True, "0"])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(ParameterError, match=r"seed=.*0 <= seed < 2\*\*63"):
        rng.derive(seed, "a")


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 5), (0, 4)])
def test_any_shape_is_served_in_float32(shape: tuple[int, ...]) -> None:
    """Also an odd number of numbers, of which two come from one draw of bits."""
    found = rng.normals(0, "a", shape=shape)
    assert found.shape == shape and found.dtype == torch.float32


def test_a_longer_draw_starts_like_a_shorter_one() -> None:
    assert torch.equal(rng.normals(0, "a", shape=(9,))[:5], rng.normals(0, "a", shape=(5,)))


@pytest.mark.parametrize(("power", "moment"), [(1, 0), (2, 1), (3, 0), (4, 3), (5, 0), (6, 15)])
def test_moments_are_those_of_the_normal(
    power: int, moment: int, sample: np.ndarray[Any, Any]
) -> None:
    values = sample**power
    assert abs(values.mean() - moment) < 5 * values.std() / math.sqrt(N)  # five standard errors


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0, 3.7])
@pytest.mark.parametrize("sign", [-1, 1])
def test_tails_hold_what_they_should(z: float, sign: int, sample: np.ndarray[Any, Any]) -> None:
    expected = N * norm.sf(z)
    assert abs((sign * sample > z).sum() - expected) < 5 * math.sqrt(expected)


def test_the_whole_distribution_is_normal(sample: np.ndarray[Any, Any]) -> None:
    assert kstest(sample, "norm").pvalue > 1e-4


def test_streams_and_neighbours_in_one_are_independent(sample: np.ndarray[Any, Any]) -> None:
    """Values and their squares; both halves of a 64-bit word; another seed, name or step."""
    paths: list[tuple[Any, ...]] = [
        (0, "a", 0),
        (0, "a", 1),
        (0, "a", -1),
        (0, "b", 0),
        (1, "a", 0),
    ]
    others = [rng.normals(*path, shape=(N // 2,)).double().numpy() for path in paths]
    series = [*others, sample[::2], sample[1::2], np.roll(sample[::2], 1)]
    for a, b in itertools.combinations(series, 2):
        for x, y in ((a, b), (a**2, b**2)):
            assert abs(np.corrcoef(x, y)[0, 1]) < 5 / math.sqrt(N // 2)


LOWEST, HIGHEST = -(2**31), 2**31 - 1


def test_no_bits_give_infinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ends, where erfinv would be infinite, and the middle, through normals itself."""
    bits = np.array([LOWEST, LOWEST + 1, -1, 0, 1, 2**30, HIGHEST - 1, HIGHEST], dtype=np.int32)

    class Extreme:
        def __init__(self, seed: int) -> None:
            pass

        def random_raw(self, n: int) -> np.ndarray[Any, Any]:
            return bits.view(np.uint64)[:n]

    monkeypatch.setattr(np.random, "SFC64", Extreme)
    found = rng.normals(0, "a", shape=(len(bits),)).double().numpy()
    assert np.isfinite(found).all() and (np.diff(found) >= 0).all()
    assert found[0] == -found[-1] and found[3] == 0
    assert found[5] == pytest.approx(norm.ppf(0.75), rel=1e-6)
    assert found[-1] == pytest.approx(norm.isf(2.0**-24), rel=1e-6)


def test_the_cut_between_names_counts() -> None:
    paths: list[tuple[str | int, ...]] = [("a", "b"), ("a/b",), ("a, b",), ("a", 1), ("a", "1")]
    assert len({rng.derive(0, *path) for path in paths}) == len(paths)
