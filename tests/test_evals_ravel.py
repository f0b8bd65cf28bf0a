"""RAVEL on a readout whose attributes sit where the test put them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib.errors import DataError
from srclib.evals.edits import Pairs, make_pairs, ravel

N_VALUES = 5
ENTITY = torch.arange(40).repeat_interleave(2)
RELATION = torch.arange(80) % 2
VALUES = torch.stack(  # [n_entities, 2] value of each relation, as token
    [torch.arange(40) % N_VALUES, N_VALUES + torch.arange(40) // N_VALUES % N_VALUES], dim=1
)
ANSWER = VALUES[ENTITY, RELATION]


def residual() -> Tensor:
    """[80, 10] one axis per value: both attributes of the entity of each prompt."""
    axes = torch.eye(2 * N_VALUES)
    return 3 * (axes[VALUES[ENTITY, 0]] + axes[VALUES[ENTITY, 1]])


def logits_of(x: Tensor, prompt: Tensor) -> Tensor:
    """A model that reads the asked relation from the residual: only its values are open."""
    token = torch.arange(2 * N_VALUES)
    asked = (token[None, :] >= N_VALUES) == (RELATION[prompt, None] == 1)
    return x + torch.where(asked, 0.0, -100.0)


def pairs(cause: int, n: int = 300) -> Pairs:
    return make_pairs(ENTITY, RELATION, ANSWER, cause, n)


@pytest.mark.parametrize("cause", [0, 1])
def test_pairs_say_what_a_faithful_exchange_would(cause: int) -> None:
    found = pairs(cause)
    assert found.cause.sum() == (~found.cause).sum() == 300
    assert len(torch.stack(found[:2]).unique(dim=1).T) == 600  # none twice
    assert (RELATION[found.source] == cause).all()
    base, source = VALUES[ENTITY[found.base]], VALUES[ENTITY[found.source]]
    assert (base[:, cause] != source[:, cause]).all()
    assert ((RELATION[found.base] == cause) == found.cause).all()
    assert torch.equal(found.label[found.cause], source[found.cause, cause])
    assert torch.equal(found.label[~found.cause], base[~found.cause, 1 - cause])


def test_pairs_are_cut_to_the_rarer_kind() -> None:
    keep = (RELATION == 0) | (ENTITY < 2)
    found = make_pairs(ENTITY[keep], RELATION[keep], ANSWER[keep], 0, 10_000)
    assert found.cause.sum() == (~found.cause).sum() < 10_000
    assert torch.equal(pairs(0).base, pairs(0).base)
    with pytest.raises(DataError, match=r"pairs for relation 0=\{'cause': 0, 'isolation': 0\}"):
        make_pairs(ENTITY, RELATION, 0 * ANSWER, 0, 10)


@pytest.mark.parametrize("cause", [0, 1])
def test_one_latent_per_value_disentangles(cause: int) -> None:
    """The mask finds the latents of the attribute, and the model answers as labelled."""
    acts = torch.cat([residual(), torch.zeros(80, 3)], dim=1)  # three latents never fire
    decode = torch.eye(13)[:, :10]
    found = ravel(acts, lambda z: z @ decode, pairs(cause), logits_of)
    expected = torch.arange(13) // N_VALUES == cause
    assert torch.equal(found.mask, expected)
    assert found[:3] == (1.0, 1.0, 1.0)


def test_latents_that_hold_both_attributes_do_not() -> None:
    """One latent per entity: all of it moves or nothing, so one side fails."""
    acts = torch.eye(40)[ENTITY]
    table = residual()[::2]  # [40, 10]
    found = ravel(acts, lambda z: z @ table, pairs(0), logits_of)
    assert found.disentangle == (found.cause + found.isolation) / 2 < 0.75


def test_an_attribute_that_the_sae_lost_cannot_be_caused() -> None:
    """The residual is replaced without the error term: what is not decoded is gone."""
    acts = residual()
    acts[:, :N_VALUES] = 0
    found = ravel(acts, lambda z: z, pairs(0), logits_of)
    assert found.isolation == 1 and found.cause < 0.5


def test_ravel_leaves_model_and_sae_without_gradients() -> None:
    W = torch.nn.Parameter(torch.eye(10))
    state = torch.random.get_rng_state()
    first = ravel(residual(), lambda z: z @ W, pairs(1), logits_of)
    again = ravel(residual(), lambda z: z @ W, pairs(1), logits_of)
    assert W.grad is None and torch.equal(W.data, torch.eye(10))
    assert first[:3] == again[:3] and torch.equal(first.mask, again.mask)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_scores_are_of_held_out_pairs() -> None:
    """Labels that only training could know are not predicted: 30 % are held out."""
    every = pairs(0)
    asked: list[int] = []

    def counting(x: Tensor, prompt: Tensor) -> Tensor:
        asked.append(len(prompt))
        return logits_of(x, prompt)

    ravel(residual(), lambda z: z, every, counting, n_epochs=3, n_batch=50)
    assert sum(asked[:-1]) == 3 * 420 and asked[-1] == 180 and max(asked[:-1]) == 50
    with pytest.raises(DataError, match="2 pairs"):
        ravel(residual(), lambda z: z, every.at(torch.arange(2)), logits_of)
