"""Writing at a site: against full forward passes, and what swaps do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib.errors import DataError, ParameterError
from srclib.lm.models import LMConfig, new_model
from srclib.methods.alignsae import AlignSAE, binding, steering, swaps
from srclib.rng import normals

MODEL = new_model(
    LMConfig("gpt2", d_model=16, n_layers=2, n_heads=2, d_mlp=32, context=12, vocab_size=20, seed=4)
)
with torch.no_grad():
    for parameter in MODEL.parameters():  # biases and norms too, and far from uniform answers
        parameter.add_(0.3 * normals(4, "lm", str(parameter.shape), shape=tuple(parameter.shape)))
PROMPTS = [[3, 4, 5, 6], [7, 8, 6], [9, 10, 5, 6]]
EOS = 1


def naive(prompt: list[int], n_new: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(n_new):
            ids.append(int(MODEL(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    new = ids[len(prompt) :]
    return new[: new.index(EOS)] if EOS in new else new


def test_reading_is_the_hidden_state_of_the_last_token() -> None:
    with torch.no_grad():
        states = MODEL(input_ids=torch.tensor([PROMPTS[0]]), output_hidden_states=True)
    for site in (0, 1):
        found = steering.read(MODEL, PROMPTS, site)
        torch.testing.assert_close(found[0], states.hidden_states[site][0, -1])
    last = steering.read(MODEL, PROMPTS, 2)
    torch.testing.assert_close(MODEL.get_decoder().ln_f(last[0]), states.hidden_states[2][0, -1])


def test_greedy_answers_are_those_of_full_passes() -> None:
    assert steering.answer(MODEL, PROMPTS, 5, EOS) == [naive(p, 5) for p in PROMPTS]


def test_many_rows_are_those_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    which = [0, 1, 2, 2, 1, 0, 0]
    h = steering.read(MODEL, PROMPTS, 1)[[2, 1, 0, 2, 1, 0, 1]]
    whole = steering.write(MODEL, PROMPTS, which, h, 1, 5, EOS)
    monkeypatch.setattr(steering, "AT_ONCE", 2)
    assert steering.write(MODEL, PROMPTS, which, h, 1, 5, EOS) == whole
    assert [steering.write(MODEL, PROMPTS, [i], v[None], 1, 5, EOS)[0]
            for i, v in zip(which, h, strict=True)] == whole  # fmt: skip


@pytest.mark.parametrize("eos", range(20))
def test_nothing_is_said_after_the_end_and_everything_before(eos: int) -> None:
    full = steering.answer(MODEL, PROMPTS, 6, -1)
    cut = [each[: each.index(eos)] if eos in each else each for each in full]
    assert steering.answer(MODEL, PROMPTS, 6, eos) == cut


@pytest.mark.parametrize("site", [0, 1, 2])
def test_writing_back_what_was_read_changes_nothing(site: int) -> None:
    h = steering.read(MODEL, PROMPTS, site)
    which = [2, 0, 0, 1]
    found = steering.write(MODEL, PROMPTS, which, h[which], site, 4, EOS)
    assert found == [naive(PROMPTS[i], 4) for i in which]


@pytest.mark.parametrize("block", [0, 1])
def test_the_attention_of_a_block_can_be_written_back_and_swapped(block: int) -> None:
    h = steering.read(MODEL, PROMPTS, block, "attention")
    found = steering.write(MODEL, PROMPTS, [2, 0], h[[2, 0]], block, 4, EOS, "attention")
    assert found == [naive(PROMPTS[2], 4), naive(PROMPTS[0], 4)]
    stream = steering.read(MODEL, PROMPTS, block) + h  # what the block's MLP adds to
    mlp = MODEL.get_decoder().h[block]
    with torch.no_grad():
        after = stream + mlp.mlp(mlp.ln_2(stream))
    torch.testing.assert_close(steering.read(MODEL, PROMPTS, block + 1), after)


def test_a_vector_of_another_prompt_gives_its_first_token_at_the_last_site() -> None:
    h = steering.read(MODEL, PROMPTS, 2)
    found = steering.write(MODEL, PROMPTS, [0, 1], h[[1, 0]], 2, 1, EOS)
    assert found == [naive(PROMPTS[1], 1), naive(PROMPTS[0], 1)]


def test_a_swap_sets_two_slots_and_no_other_latent() -> None:
    sae = AlignSAE(16, 30, 3, 2, seed=1)
    h = steering.read(MODEL, PROMPTS, 1)
    source, target = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])
    found = steering.swap_slots(sae, h, source, target, torch.tensor([1.0, 2.0, 3.0]))
    with torch.no_grad():
        acts = sae.encode(h)
        for i, (a, b) in enumerate(zip(source, target, strict=True)):
            acts[i, 27 + a], acts[i, 27 + b] = 0.0, float(i + 1)
        torch.testing.assert_close(found, sae.decode(acts))


@pytest.mark.parametrize("site", [-1, 3, True])
def test_a_site_outside_the_model_is_refused(site: int) -> None:
    with pytest.raises(ParameterError, match=f"site={site}"):
        steering.read(MODEL, PROMPTS, site)


def test_other_refusals() -> None:
    h = steering.read(MODEL, PROMPTS, 1)
    sae, ends = AlignSAE(16, 30, 3, 2), torch.tensor([0, 1, 2])
    for alpha in (float("nan"), float("inf"), torch.tensor([1.0, float("nan"), 1.0])):
        with pytest.raises(ParameterError, match="alpha"):
            steering.swap_slots(sae, h, ends, ends.roll(1), alpha)
        with pytest.raises(ParameterError, match="alpha"):
            steering.add(h, h, alpha)
    with pytest.raises(DataError, match="target"):
        steering.swap_slots(sae, h, ends, ends + 1, 1.0)
    with pytest.raises(DataError, match=r"vectors\.shape"):
        steering.write(MODEL, PROMPTS, [0], h, 1, 1, EOS)
    with pytest.raises(DataError, match="vectors='NaN"):
        steering.write(MODEL, PROMPTS, [0], h[:1] * float("nan"), 1, 1, EOS)
    with pytest.raises(ParameterError, match="where="):
        steering.write(MODEL, PROMPTS, [0], h[:1], 1, 1, EOS, "logits")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="prompt 1"):
        steering.read(MODEL, [[3], []], 0)


# --- binding ---------------------------------------------------------------------------------


def slots_of(winner: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(winner, 3).float()


def test_binding_matrix_counts_columns() -> None:
    relation, winner = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0])
    matrix = binding.binding_matrix(slots_of(winner), relation)
    assert matrix.tolist() == [[0.5, 0, 1], [0.5, 1, 0], [0, 0, 0]]
    assert binding.diagonal(matrix) == pytest.approx(0.5)
    assert binding.margin(torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])) == 2.5
    with pytest.raises(DataError, match=r"relations without rows=\[2\]"):
        binding.binding_matrix(slots_of(winner[:3]), relation[:3])


def test_designated_latents_are_found_where_they_were_planted() -> None:
    relation = torch.arange(90) % 3
    acts = normals(0, "acts", shape=(90, 12)).abs() * 0.1
    for r, latent in enumerate((7, 2, 11)):
        acts[relation == r, latent] += 1
    chosen = binding.most_selective(acts, relation, 3)
    assert chosen.latents.tolist() == [7, 2, 11]
    assert chosen.purity.min() > 0.8
    assert chosen.purity.max() <= 1


# --- swaps -----------------------------------------------------------------------------------

VALUES = [("a", "rome", "rome")] * 2 + [("b", "oslo", "bern")]  # of two people


def test_targets_of_equal_value_are_left_out() -> None:
    found = swaps.all_swaps([0, 1, 2], [0, 0, 1], [0, 1, 2], VALUES)
    named = zip(found.question, found.source.tolist(), found.target.tolist(), strict=True)
    assert list(named) == [(0, 0, 1), (0, 0, 2), (1, 1, 0), (2, 2, 0), (2, 2, 1)]
    assert found.wanted == ["rome", "rome", "a", "b", "oslo"]
    with pytest.raises(DataError, match="swaps=0"):
        swaps.all_swaps([], [0], [0], VALUES)


def test_exact_and_lenient() -> None:
    said = ["rome", "Rome", "o", "", "7 May 1980", "1980 may 7", "bern x"]
    want = ["rome", "rome", "oslo", "oslo", "7 May 1980", "7 May 1980", "bern"]
    assert swaps.exact(said, want).tolist() == [True, False, False, False, True, False, False]
    assert swaps.lenient(said, want).tolist() == [True, True, True, False, True, True, True]


def test_an_answer_keeps_its_type_by_its_form() -> None:
    values = [{"7 May 1980", "1 June 1990"}, {"rome"}]
    said = ["7 June 1980", "7 June", "7 May 1980 1990", "rome", "rome", "x", ""]
    target = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    kept = swaps.same_type(said, target, values)
    assert kept.tolist() == [True, False, False, False, True, False, False]
    with pytest.raises(ValueError, match="zip"):  # an answer without a target is told
        swaps.same_type([*said, "rome"], target, values)


def test_a_person_chooses_or_judges_and_half_of_them_do_either() -> None:
    """By number, so that the same people judge whatever is trained."""
    people = [0, 1, 2, 3, 4, 5, 7, 4]
    assert swaps.choosing(people).tolist() == [each in (0, 2, 4) for each in people]


def test_latents_of_a_plain_sae_are_swapped_as_the_definition_says() -> None:
    """Planted: latent r fires for relation r, latents 3 and 4 for all."""
    relation = torch.arange(12) % 3
    acts = torch.zeros(12, 5)
    acts[torch.arange(12), relation] = 2.0 + relation.float()
    acts[:, 3:] = 1.0
    sae = AlignSAE(4, 5, 1, 2, seed=0)
    h = normals(1, "h", shape=(3, 4))
    source, target = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    written = steering.swap_latents(sae, acts, relation, 1, h, source, target)(2.0)
    value = 2 * (2.0 + target.float())[:, None]
    expected = steering.rewrite(sae, h, source[:, None], target[:, None], value)
    torch.testing.assert_close(written, expected)
    both = steering.swap_latents(sae, acts, relation, 5, h, source, target)(1.0)
    means = torch.stack([acts[relation == r].mean(dim=0) for r in range(3)])
    torch.testing.assert_close(both, sae.decode(means[target]))  # all latents at the target's means


def test_a_slot_at_zero_leaves_the_others() -> None:
    sae, h = AlignSAE(4, 9, 3, 2, seed=0), normals(2, "h", shape=(3, 4))
    relation = torch.arange(3)
    acts = sae.encode(h)
    acts[relation, sae.n_free + relation] = 0
    torch.testing.assert_close(
        steering.swap_slots(sae, h, relation, relation, 0.0), sae.decode(acts)
    )
