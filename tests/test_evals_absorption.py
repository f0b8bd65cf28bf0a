"""Absorption against the sentence that defines it, and on a dictionary that absorbs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srclib.errors import DataError
from srclib.evals.absorption import absorbed, absorption, main_latents
from srclib.evals.probes import Samples


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_word(
    x: Tensor, z: Tensor, W_dec: Tensor, direction: Tensor, main: list[int]
) -> tuple[float, bool]:
    """The definition, word by word, for unit rows."""
    p = direction / direction.norm()
    a = float(x @ p)
    cosines = [float(w @ p) for w in W_dec]
    t = [float(z[i]) * c for i, c in enumerate(cosines)]
    m = sum(t[i] for i in main)
    rivals = [t[i] for i in range(len(t)) if i not in main and cosines[i] >= 0.1 and t[i] > 0]
    s = sum(sorted(rivals, reverse=True)[:3])
    if m >= a or s / a < 0.4:
        fraction = 0.0
    elif m <= 0:
        fraction = 1.0
    else:
        u = min(s, a - m)
        fraction = min(max(u / (u + m), 0), 1)
    top = max(range(len(t)), key=lambda i: t[i])
    silent = all(abs(float(z[i])) < 1e-8 for i in main)
    return fraction, silent and a > 0 and cosines[top] >= 0.025 and t[top] / a >= 0.4


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.2, 3))
def test_absorbed_is_the_definition(seed: int, n_main: int, size: float) -> None:
    W_dec = torch.nn.functional.normalize(draw(seed, 9, 3), dim=1)
    z = draw(seed + 1, 12, 9).clamp(min=0) * (draw(seed + 2, 12, 9) > 0)
    x = size * (z @ W_dec) + 0.1 * draw(seed + 3, 12, 3)
    direction, main = 3 * draw(seed + 4, 3), list(range(n_main))
    fraction, full = absorbed(x, z, W_dec, direction, torch.tensor(main))
    for i in range(12):
        expected = one_word(x[i], z[i], W_dec, direction, main)
        assert (float(fraction[i]), bool(full[i])) == pytest.approx(expected)


def case(z: list[float], cosines: list[float], a: float) -> tuple[float, bool]:
    """One word: latent 0 is main; p = (1, 0); rows have the cosines given."""
    W_dec = torch.tensor([[c, math.sqrt(1 - c * c)] for c in cosines], dtype=torch.float64)
    x = torch.tensor([[a, 0.0]])
    direction = torch.tensor([2.0, 0.0])
    fraction, full = absorbed(x, torch.tensor([z]), W_dec, direction, torch.tensor([0]))
    return float(fraction[0]), bool(full[0])


def test_absorption_in_closed_form() -> None:
    assert case([0, 2], [1, 0.5], a=1) == (1.0, True)  # the child speaks for the parent
    assert case([1, 0], [1, 0.5], a=1) == (0.0, False)  # the parent speaks
    assert case([0.5, 1], [1, 0.5], a=1) == (0.5, False)  # half each
    assert case([0.25, 4], [1, 0.5], a=1) == (0.75, False)  # no more than what is missing
    assert case([0, 0.78], [1, 0.5], a=1) == (0.0, False)  # 39 % is too little
    assert case([0, 0.82], [1, 0.5], a=1) == (1.0, True)
    assert case([0, 6], [1, 0.09], a=1) == (0.0, True)  # aligned enough for full alone
    assert case([0, 30], [1, 0.02], a=1) == (0.0, False)
    assert case([0, 2], [1, 0.5], a=-1) == (0.0, False)
    assert case([0, 0, 0], [1, 0.5, 0.5], a=0) == (0.0, False)
    # a second absorber brings its share together with the first, but full absorption wants one
    assert case([0, 0.5, 0.5], [1, 0.5, 0.5], a=1) == (1.0, False)
    # the three largest of four count: 0.39 of a, not 0.52
    assert case([0, 0.26, 0.26, 0.26, 0.26], [1] + 4 * [0.5], a=1)[0] == 0


def test_main_latents_are_split_until_nothing_is_gained() -> None:
    """Two latents cover a class, half each; a third repeats the first; others are noise."""
    n = 1200
    labels = torch.arange(n) % 4 == 0
    rows = labels.nonzero().flatten()
    acts = draw(0, n, 12).clamp(min=0) * (draw(1, n, 12) > 1)
    acts[:, [3, 5, 7]] = 0
    acts[rows[:200], 3] = 2.0
    acts[rows[200:], 5] = 2.0
    acts[rows[:20], 7] = 1.0
    assert sorted(main_latents(acts, labels, acts, labels).tolist()) == [3, 5]
    acts[rows, 7] = 2.0  # one latent for the whole class makes the others needless
    assert main_latents(acts, labels, acts, labels).tolist() == [7]
    # a latent that marks everything else has a large weight of the wrong sign
    acts[:, 9] = 2.0 * ~labels
    assert 9 not in main_latents(acts, labels, acts, labels).tolist()


def world(n_absorbed: int, seed: int = 0) -> tuple[Samples, Tensor]:
    """Four parents of ten words, 20 contexts each; words 0..n_absorbed-1 of parent 0 absorb.

    x = parent + word direction; a latent per parent (its direction) and per absorbing word (the
    sum of both directions), which then fires alone.
    """
    d, words = 4 + 40, torch.arange(40).repeat(20)
    parent = words // 10
    eye = torch.eye(d, dtype=torch.float64)
    x = eye[parent] + eye[4 + words] + 0.02 * draw(seed, len(words), d)
    child = torch.nn.functional.normalize(eye[0] + eye[4:14], dim=1)
    W_dec = torch.cat([eye[:4], child])
    acts = torch.zeros(len(words), 14, dtype=torch.float64)
    absorbs = words < n_absorbed
    acts[torch.arange(len(words)), parent] = (~absorbs).double()
    acts[absorbs, 4 + words[absorbs]] = 2**0.5
    return Samples(x, acts, parent), W_dec


def test_absorption_counts_absorbed_words_of_readable_parents() -> None:
    """Three of the ten words of parent 0 absorb, and none of them is in training."""
    (train, W_dec), (test, _) = world(3), world(3, seed=1)
    seen = train.x[:, 4:7].amax(dim=1) < 0.5
    found = absorption(train.at(seen), test, W_dec)
    assert [p.parent for p in found.parents] == [0, 1, 2, 3]
    first, *others = found.parents
    assert first.main == (0,) and first.n_words == 200 and first.probe_f1 == 1
    assert (first.fraction, first.full) == pytest.approx((0.3, 0.3))
    assert all((p.fraction, p.full) == (0, 0) and p.main == (p.parent,) for p in others)
    assert found[:2] == pytest.approx((0.3 / 4, 0.3 / 4))


def test_words_that_the_probe_misses_do_not_count() -> None:
    (train, W_dec), (test, _) = world(0), world(0, seed=1)
    missed = test.labels.clone()
    missed[(test.labels == 1).nonzero().flatten()[:50]] = 0
    found = absorption(train, test._replace(labels=missed), W_dec)
    assert [p.n_words for p in found.parents] == [200, 150, 200, 200]


def test_an_absorber_that_adds_enough_is_a_split() -> None:
    """One word of ten is worth 0.05 of F1, so in training its latent becomes a main one."""
    (train, W_dec), (test, _) = world(1), world(1, seed=1)
    found = absorption(train, test, W_dec)
    assert sorted(found.parents[0].main) == [0, 4] and found.fraction == 0


def test_parents_that_no_probe_can_read_do_not_count() -> None:
    (train, W_dec), (test, _) = world(0), world(0, seed=1)
    blind = [Samples(s.x.clone(), s.acts, s.labels) for s in (train, test)]
    for part, seed in zip(blind, (5, 6), strict=True):
        mixed = part.labels >= 2
        part.x[mixed] = draw(seed, int(mixed.sum()), 44)
    found = absorption(*blind, W_dec)
    assert [p.parent for p in found.parents] == [0, 1]
    noise = [Samples(draw(7 + i, *s.x.shape), s.acts, s.labels) for i, s in enumerate(blind)]
    nothing = absorption(*noise, W_dec)
    assert nothing.parents == () and math.isnan(nothing.fraction) and math.isnan(nothing.full)


def test_test_words_need_the_parents_of_training() -> None:
    train, W_dec = world(0)
    with pytest.raises(DataError, match=r"parents in test=\[0, 1, 2\]"):
        absorption(train, train.at(train.labels < 3), W_dec)
