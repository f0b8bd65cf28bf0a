"""Retrieval across languages: planted alignment, its destruction, invariances."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib import rng
from srclib.errors import DataError
from srclib.methods.latents.retrieval import retrieval

N, D = 16, 8
CATEGORY = torch.arange(N) // 4


def states(noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Each concept twice in each language; the languages lie far apart."""
    base = rng.normals(0, "concepts", shape=(N, D))
    offset = 10 * rng.normals(0, "languages", shape=(2, D))
    concept, language = torch.arange(N).repeat(4), torch.arange(2).repeat_interleave(2 * N)
    extra = noise * rng.normals(0, "noise", shape=(4 * N, D))
    return base[concept] + extra + offset[language], concept, language


def test_planted_alignment_is_found_across_an_offset() -> None:
    x, concept, language = states()
    x = torch.cat([x, torch.zeros(1, D)])  # a token without a concept is not looked at
    concept, language = (
        torch.cat([concept, -torch.ones(1).long()]),
        torch.cat([language, language[:1]]),
    )
    found = retrieval(x, concept, language, CATEGORY)
    assert found.concept > 0.9 and found.category > 0.9 and found.n_concepts == N


def test_a_swap_of_concepts_in_one_language_is_seen() -> None:
    x, concept, language = states()
    swapped = torch.where(language == 1, concept ^ 1, concept)  # the neighbour in its category
    found = retrieval(x, swapped, language, CATEGORY)
    assert found.concept < 0.1 and found.category > 0.9


def test_rotation_scale_and_order_do_not_count() -> None:
    x, concept, language = states(noise=1.0)
    expected = retrieval(x, concept, language, CATEGORY)
    rotation = torch.linalg.qr(rng.normals(1, "rotation", shape=(D, D))).Q
    assert retrieval(3 * x @ rotation, concept, language, CATEGORY) == expected
    order = torch.randperm(len(x), generator=rng.stream(0, "order"))
    assert retrieval(x[order], concept[order], language[order], CATEGORY) == expected
    assert retrieval(x, concept, 1 - language, CATEGORY) == expected


def test_noise_alone_is_at_chance() -> None:
    _, concept, language = states()
    hits = [
        retrieval(rng.normals(s, "noise", shape=(4 * N, D)), concept, language, CATEGORY).concept
        for s in range(40)
    ]
    assert abs(sum(hits) / len(hits) - 1 / N) < 0.03


def test_one_language_is_refused() -> None:
    x, concept, language = states()
    with pytest.raises(DataError, match="both languages"):
        retrieval(x, concept, torch.zeros_like(language), CATEGORY)
