"""Readings of latents: parts of mixed, nulls, planted latents, transplants, one face for models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import draw
from torch import Tensor

from srclib import SAE, TopK, rng
from srclib.errors import ParameterError
from srclib.lm.harvest import token_losses
from srclib.lm.models import LMConfig
from srclib.methods.latents.examples import Examples
from srclib.methods.latents.planted import recovered, recovered_parts
from srclib.methods.latents.reading import (
    dealt,
    describe,
    effective_concepts,
    granularity,
    mixed_part,
    stacked,
)
from srclib.methods.latents.trajectory import Checkpoints, own, released_runs
from srclib.methods.latents.transplant import alike, fitted, graft, grafted_losses, said_anew
from srclib.worlds.bilingual import LENGTH, BilingualWorld, Shown


@pytest.fixture(scope="module")
def lms() -> Checkpoints:
    world = BilingualWorld()
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 1 + LENGTH}
    steps = {"n_steps": 3, "n_batch": 4, "checkpoint_steps": (0, 3)}
    config = LMConfig("llama", vocab_size=len(world.words), **sizes, **steps)
    return own(world, config, {"en": 1, "ja": 1}, 20, seeds=[5], n_texts_sae=6, n_texts=40)


def shown(
    concepts: list[int | None],
    category: list[int | None],
    n_english: int,
    topics: list[int | None] | None = None,
) -> Shown:
    n = len(concepts)
    languages = ["en"] * n_english + ["ja"] * (n - n_english)
    nothing = [None] * n
    return Shown(
        [f"word {i}" for i in range(n)],
        concepts,
        {"category": category, "relation": nothing, "subject": nothing, "next category": nothing},
        {"before": nothing, "after": nothing},
        languages,
        topics or nothing,
    )


@pytest.mark.parametrize(
    ("kind", "concepts", "category", "n_english", "part"),
    [
        ("synonymy", [3] * 10, [1] * 10, 5, "same concept"),
        ("synonymy", [3] * 10, [1] * 10, 6, "other mixed"),  # four Japanese texts are too few
        ("similarity", [*range(10)], [1] * 10, 5, "same category"),
        ("similarity", [None] * 10, [8] * 10, 5, "digit"),
        ("similarity", [1] * 5 + [2] * 5, [7] * 5 + [8] * 5, 5, "within"),  # not one meaning
        ("uninterpretable", [1] * 5 + [2] * 5, [7] * 5 + [8] * 5, 5, "within"),
        ("uninterpretable", [None] * 8 + [1, 2], [None] * 8 + [3, 4], 5, "function"),
        ("uninterpretable", list(range(10)), list(range(10)), 5, "random"),
        ("token", list(range(10)), list(range(10)), 5, "other mixed"),
    ],
)
def test_what_a_mixed_latent_is(kind, concepts, category, n_english, part):
    assert mixed_part(kind, shown(concepts, category, n_english)) == part


def test_what_a_text_is_about_is_a_class_of_its_own() -> None:
    found = shown(list(range(10)), list(range(10)), 5, topics=[2] * 10)
    assert (granularity(found), mixed_part("text", found)) == ("text", "same text")


def test_without_truth_tokens_decide() -> None:
    bare = Shown(["a"], [], {}, {}, ["en"], [])
    kinds = ("concept", "uninterpretable", "token")
    assert [mixed_part(kind, bare) for kind in kinds] == ["same category", "random", "other mixed"]


def test_effective_concepts() -> None:
    assert effective_concepts([1, 1, 2, 2]) == pytest.approx(2)
    assert effective_concepts([1, None]) == 1
    assert math.isnan(effective_concepts([1, None, None]))
    assert math.isnan(effective_concepts([]))


@pytest.mark.parametrize("within", [True, False])
def test_dealt_moves_rows_and_changes_none(within: bool) -> None:
    x = draw(0, 3, 5, 2)
    moved = dealt(x, within, rng.stream(0, "deal"))
    assert not torch.equal(moved, x)
    assert sorted(map(tuple, moved.flatten(0, 1).tolist())) == sorted(
        map(tuple, x.flatten(0, 1).tolist())
    )
    kept = [
        {*map(tuple, a.tolist())} == {*map(tuple, b.tolist())}
        for a, b in zip(x, moved, strict=True)
    ]
    assert all(kept) == within


def kept(documents: Tensor, positions: Tensor, count: list[int]) -> Examples:
    values = torch.ones(documents.shape)
    return Examples(documents, positions, values, torch.tensor(count), values[:, 0])


def test_a_row_per_latent_and_an_empty_table_with_the_same_columns(lms: Checkpoints) -> None:
    places = torch.arange(12).expand(2, 12)
    table = describe(kept(places, places, [12, 3]), lms, min_texts=10)
    assert table.living.tolist() == [True, False]
    assert table.dedicated.isna().all()  # of twelve words at random, and of too few texts
    assert table.granularity[1] == "excluded"
    assert not table.loc[1, ["mixed", "token", "uninterpretable", "mono"]].any()
    nothing = stacked({}, ("lm", "step"))
    assert set(table.columns) <= set(nothing.columns)
    assert nothing.groupby("step").mixed.mean().empty
    both = stacked({(5, 0): table, (5, 3): table}, ("lm", "step"))
    assert both.index.names == ["lm", "step", "latent"]
    assert both.mixed.dtype == bool


def test_planted_classes_are_found_and_noise_is_not(lms: Checkpoints) -> None:
    pure = recovered(lms.evidence, 12, seed=0).truth.xs(0.0, level="contamination")
    assert pure["token"] == pure["uninterpretable"] == 1
    assert min(pure["synonymy"], pure["similarity"]) > 0.5  # one spelling, one word: finer classes
    parts = recovered_parts(lms.evidence, 12, seed=0).truth.xs(0.0, level="contamination")
    assert parts["same concept"] == parts["function"] == 1
    assert parts["within"] > 0.5  # two concepts may have a relation in common
    assert parts["meaning within"] > 0.5
    assert recovered(None, 3, seed=0).empty


def test_a_graft_of_dose_0_is_the_plain_loss(lms: Checkpoints) -> None:
    model, ids, x = lms.models[5, 0], lms.ids, lms.x(5, 3, 1)
    sae, earlier = SAE(16, 24, TopK(4), decoder_norm=1.0), lms.x(5, 0, 1)
    both = x.flatten(0, 1), earlier.flatten(0, 1)
    plain = token_losses(model, ids, batch_tokens=ids.numel())[:, 1:]
    part = graft(sae, said_anew(sae, x, earlier, fitted(*both[::-1])), [0, 3], fitted(*both))
    assert torch.allclose(grafted_losses(model, 1, ids, part, 0.0), plain)
    assert not torch.allclose(grafted_losses(model, 1, ids, part, 1.0), plain)


def test_a_graft_is_what_is_new_and_a_sum_over_latents() -> None:
    x, turn = draw(0, 3, 5, 4), torch.linalg.qr(draw(1, 4, 4)).Q
    sae, same = SAE(4, 6, TopK(2), decoder_norm=1.0), torch.cat([turn.T, torch.zeros(1, 4)])
    there, onto = x @ turn, torch.cat([turn, torch.zeros(1, 4)])
    nothing = said_anew(sae, x, there, same)  # the same state in another basis says nothing new
    assert torch.allclose(nothing, torch.zeros(()), atol=1e-5)
    anew = said_anew(sae, x, draw(2, 3, 5, 4), same)
    whole = graft(sae, anew, range(6), onto)
    one_by_one = sum(graft(sae, anew, [f], onto) for f in range(6))
    assert torch.allclose(whole, one_by_one, atol=1e-5)
    wanted = (sae(x.flatten(0, 1)).x_hat - sae.b_dec) @ turn
    everything = graft(sae, sae.encode(x.flatten(0, 1)), range(6), onto)
    assert torch.allclose(everything, wanted, atol=1e-5)


def test_the_map_of_a_turned_space_is_found() -> None:
    given, turn = draw(0, 50, 4), draw(1, 4, 4)
    onto = fitted(given, given @ turn + 2)
    assert torch.allclose(onto[:-1], turn, atol=1e-4)
    assert torch.allclose(onto[-1], torch.full((4,), 2.0), atol=1e-4)


def test_alike_takes_each_once_and_near_ones() -> None:
    strength = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])
    chosen = alike([3, 4], [0, 1, 2, 5], strength, rng.stream(0, "alike"), n_nearest=1)
    assert chosen == [5, 2]


def test_sites_and_released_saes_of_own_models(lms: Checkpoints) -> None:
    assert lms.known == [5]
    source, centre = lms.site(5, 3, 1)
    norms = torch.cat([source.batch(0, 9), source.test]).norm(dim=1)
    assert torch.allclose(norms, torch.ones(len(norms)), atol=1e-5)
    assert centre.shape == (16,)
    assert released_runs(lms, "", 1, 24, 4, 0) == {}
    with pytest.raises(ParameterError, match="released='x': allowed is SAEs of a named model"):
        released_runs(lms, "x", 1, 24, 4, 0)
