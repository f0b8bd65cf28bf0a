"""The oracle judge on latents that are, or are not, one of its predicates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from srclib.errors import DataError
from srclib.evals.autointerp import FLOOR, _windows, autointerp

N_TEXTS, SEQ, N_WORDS = 200, 64, 50


def corpus(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random words, and one predicate per word: [n_texts, seq], [n_texts, seq, n_words]."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(N_WORDS, (N_TEXTS, SEQ), generator=generator)
    return words, words[..., None] == torch.arange(N_WORDS)


def strength(seed: int, *shape: int) -> Tensor:
    return 1 + torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_latents_that_are_predicates_are_predicted_without_fault() -> None:
    _, table = corpus()
    order = torch.randperm(N_WORDS, generator=torch.Generator().manual_seed(1))
    acts = table[..., order] * strength(2, N_TEXTS, SEQ, 1)
    found = autointerp(acts, table)
    assert torch.equal(found.explanation, order)
    assert (found.f1 == 1).all() and (found.score == 1).all()
    # a word stands in 1 - 0.98^21 = 35 % of windows: "none" misses those of the random ones
    assert float(found.floor.mean()) == pytest.approx(FLOOR * 0.98**21, abs=0.05)


def test_the_floor_is_ten_of_fourteen_for_rare_latents() -> None:
    """Fires 40 times in 12,800 tokens; no predicate has anything to do with it."""
    acts = torch.zeros(N_TEXTS, SEQ, 1)
    acts[:40, 30, 0] = strength(3, 40)
    never = torch.zeros(N_TEXTS, SEQ, 2, dtype=torch.bool)
    everywhere = torch.ones(N_TEXTS, SEQ, 1, dtype=torch.bool)
    for seed in range(20):
        found = autointerp(acts, never, seed=seed)
        assert found.score == found.floor <= FLOOR == 10 / 14
        assert found.explanation == 0 and found.f1 == 0
        # the answer "all" is right where "none" is wrong
        assert autointerp(acts, everywhere, seed=seed).score == pytest.approx(1 - found.floor)
    assert FLOOR in {float(autointerp(acts, never, seed=s).floor) for s in range(5)}


def test_a_latent_for_two_words_is_explained_by_the_stronger_half() -> None:
    words, table = corpus()
    acts = ((words == 3) | (words == 4))[..., None] * strength(4, N_TEXTS, SEQ, 1)
    mixed = autointerp(acts, table)
    assert int(mixed.explanation) in (3, 4) and mixed.f1 < 0.9
    scores = [float(autointerp(acts, table, seed=s).score) for s in range(20)]
    assert FLOOR - 0.1 < sum(scores) / 20 < 0.95
    both = torch.cat([table, acts > 0], dim=2)
    assert autointerp(acts, both).explanation == N_WORDS and autointerp(acts, both).score == 1


def test_windows_are_what_the_protocol_says() -> None:
    acts = torch.zeros(30, 41)
    places = torch.arange(10, 31)
    acts[:, places] = strength(5, 30, 21)
    acts[:, :10] = acts[:, 31:] = 9.0  # no window fits around these
    drawn = _windows(acts, 10, torch.Generator().manual_seed(0))
    assert drawn is not None
    generation, scoring = drawn
    assert generation.shape == (15, 21) and scoring.shape == (14, 21)
    windows = torch.cat([generation, scoring])
    assert (windows[:, 1:] - windows[:, :-1] == 1).all()
    assert (windows // 41 == windows[:, :1] // 41).all()  # within one text
    flat = acts.flatten()
    centres = windows[:, 10]
    top = torch.cat([centres[:10], centres[15:17]])
    sampled = torch.cat([centres[10:15], centres[17:19]])
    assert len(torch.cat([top, sampled]).unique()) == 19
    # one text has room for one or two top windows: the best centre of each text is among them
    best = acts[:, 10:31].max(dim=1).values.sort(descending=True).values
    assert flat[top].max() == best[0] and flat[top].min() >= best[11]
    for c in sampled:
        same = top[top // 41 == c // 41]
        assert ((same - c).abs() > 10).all()


def test_importance_sampling_follows_activation() -> None:
    """Two kinds of centres, 9 to 1 in strength: the strong kind is drawn nine times as often."""
    acts = torch.zeros(400, 21)
    acts[:, 10] = torch.where(torch.arange(400) % 2 == 0, 0.9, 0.1)
    acts[:12, 10] = 5.0
    centres = []
    for seed in range(60):
        drawn = _windows(acts, 10, torch.Generator().manual_seed(seed))
        assert drawn is not None
        centres.append(torch.cat([drawn[0][10:, 10], drawn[1][2:4, 10]]))
        assert (acts.flatten()[drawn[0][:10, 10]] == 5).all()
    strong = acts.flatten()[torch.cat(centres)] == 0.9
    assert float(strong.double().mean()) == pytest.approx(0.9, abs=0.04)


def test_rare_latents_are_not_judged() -> None:
    _, table = corpus()
    acts = torch.zeros(N_TEXTS, SEQ, 4)
    acts[:18, 30, 1] = 1.0  # one too few for 12 + 7 windows
    acts[:19, 30, 2] = 1.0
    acts[:50, 3, 3] = 1.0  # never with room for a window
    found = autointerp(acts, table)
    assert found.explanation.sign().tolist()[:2] == [-1, -1] and found.explanation[3] == -1
    assert [math.isnan(s) for s in found.score.tolist()] == [True, True, False, True]
    assert found.floor.isnan().tolist() == found.f1.isnan().tolist() == found.score.isnan().tolist()


def test_weak_tokens_are_not_marked() -> None:
    """Below 1 % of the largest activation a token does not count as active."""
    words, table = corpus()
    acts = ((words == 7) * 1.0 + (words == 8) * 0.009)[..., None]
    found = autointerp(acts, table)
    assert found.f1 == 1 and found.explanation == 7
    acts = ((words == 7) * 1.0 + (words == 8) * 0.011)[..., None]
    assert autointerp(acts, table).f1 < 1


def test_scores_depend_on_the_seed_alone() -> None:
    words, table = corpus()
    acts = ((words < 3) * 1.0)[..., None] * strength(6, N_TEXTS, SEQ, 3)
    first, again, other = (autointerp(acts, table, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.score, again.score) and not torch.equal(first.f1, other.f1)
    twins = autointerp(acts[..., :1].repeat(1, 1, 6), table)
    assert len(twins.f1.unique()) > 1  # equal latents, but draws of their own
    # a latent is drawn by its own stream: others beside it change nothing
    assert torch.equal(first.score[:1], autointerp(acts[..., :1], table, seed=1).score)
    with pytest.raises(DataError, match=r"seq > 2 \* reach"):
        autointerp(acts[:, :20], table[:, :20])
    with pytest.raises(DataError, match="equal texts"):
        autointerp(acts, table[:1])
