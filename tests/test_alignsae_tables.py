"""Questions of a world, outcomes as tables, what is chosen on some people and judged on others."""

from __future__ import annotations

import functools
import math

import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel

from srclib import SAE, ReLU, rng
from srclib.errors import DataError
from srclib.lm.models import LMConfig, new_model
from srclib.methods.alignsae import AlignSAE, handles, outcomes, readings, steering
from srclib.methods.alignsae.questions import SHORT, Task, task_of
from srclib.suite.labels import labelled
from srclib.worlds.people import BiographyWorld, ListSizes


@functools.cache
def task() -> Task:
    return task_of(BiographyWorld(3, 2, ListSizes(4, 4, 4, 3, 3, 3, 3)))


@functools.cache
def model() -> PreTrainedModel:
    n = len(task().tokenizer)
    return new_model(LMConfig("gpt2", 16, 2, 2, 24, context=64, vocab_size=n, seed=1))


def tried(success: dict[tuple[float, int], bool]) -> pd.DataFrame:
    """A table of {(alpha, person): exact} for one language model."""
    index = pd.MultiIndex.from_tuples(
        [(0, *key) for key in success], names=["lm", "alpha", "person"]
    )
    return pd.DataFrame({"exact": list(success.values())}, index)


def test_a_task_asks_everything_and_splits_as_its_world_does() -> None:
    questions = task().world.questions()
    assert len(task().prompts) == len(questions)
    for long, short in SHORT.items():
        assert [questions[int(i)]["split"] for i in task().rows(short)] == [long] * len(
            task().rows(short)
        )
    first = [answer[0] for answer in task().answers]
    assert task().n_first == len(set(first))
    assert len({*zip(first, task().first.tolist(), strict=True)}) == len(set(first))


def test_everyone_is_asked_once_before_anybody_twice() -> None:
    everything = [True] * len(task().prompts)
    todo = task().pick(everything, 3, seed=0)
    assert len({task().table.index[q][1] for q in set(todo.question)}) == 3
    again, another = (set(task().pick(everything, 3, 0, draw=i).question) for i in (0, 1))
    assert again == set(todo.question) != another
    new = task().pick(everything, 3, 0, split="unseen")
    assert set(new.question) <= set(task().rows("unseen").tolist())
    with pytest.raises(DataError, match="n_swap"):
        task().pick([False] * len(everything), 1, seed=0)


def test_swaps_towards_some_relations_are_those_of_all_that_want_them() -> None:
    rows = task().rows("train")
    some, every = task().swapped(rows, [5]), task().swapped(rows)
    kept = [i for i, target in enumerate(every.target.tolist()) if target == 5]
    assert some.question == [every.question[i] for i in kept]
    assert some.wanted == [every.wanted[i] for i in kept]
    assert set(some.target.tolist()) == {5}
    assert task().swapped([], [5]).source.tolist() == []


def test_writing_what_was_read_leaves_every_answer() -> None:
    rows = task().rows("unseen")[:5]
    h = steering.read(model(), task().prompts, 1)[rows]
    said = task().answered(model(), rows)
    new = task().rewritten(model(), task().kept(rows), {"same": h, "again": h}, 1)
    assert list(new.index.names) == ["alpha", "person"]
    for key in ("same", "again"):
        assert outcomes.at(new, alpha=key).said.tolist() == said.said.tolist()
    assert new.exact.tolist() == 2 * said.right.tolist()


def test_the_strength_is_chosen_on_even_people_and_judged_on_odd_ones() -> None:
    table = tried({(1.0, 0): False, (1.0, 1): True, (2.0, 0): True, (2.0, 1): False})
    judged = outcomes.tuned(table)
    assert judged.alpha.tolist() == [2.0]
    assert judged.exact.tolist() == [False]
    equal = tried({(4.0, 0): True, (4.0, 1): True, (2.0, 0): True, (2.0, 1): False})
    assert outcomes.tuned(equal).alpha.tolist() == [4.0], "the first among equals"


def test_silencing_takes_the_smallest_strength_that_suffices() -> None:
    kept = {(1.0, 0): True, (2.0, 0): False, (3.0, 0): False}  # of the relation taken out
    table = tried(kept | {(t, 1): t < 3 for t, _ in kept}).assign(source=0, target=0, method="slot")
    table = table.set_index("method", append=True)
    found = outcomes.silenced(table)
    assert (found.alpha.tolist(), found.exact.tolist()) == ([2.0], [True])
    never = table.assign(exact=True)
    assert outcomes.silenced(never).alpha.tolist() == [3.0], "the largest where none does"


@pytest.mark.parametrize("n_lms", [1, 3])
def test_rates_are_what_a_ledger_records(n_lms: int) -> None:
    keys = [(lm, k, p) for lm in range(n_lms) for k in "ab" for p in (0, 0, 1, 2)]
    index = pd.MultiIndex.from_tuples(keys, names=["lm", "k", "person"])
    hits = pd.Series([(7 * i) % 5 > 1 for i in range(len(keys))], index)
    rates = outcomes.rates(hits, "k")
    found = labelled("x", hits, by="{k}", unit="lm", cluster="person")
    for k, row in rates.iterrows():
        if n_lms == 1:
            assert (row.value, row.low, row.high) == found.given[str(k)]
        else:
            assert (row.low, row.high) == (min(found.values[str(k)]), max(found.values[str(k)]))
    assert outcomes.means(hits, "k").to_dict() == pytest.approx(
        hits.groupby("k").mean().to_dict(), abs=1e-12
    )


def test_rows_at_levels_drop_one_value_and_keep_a_list() -> None:
    table = tried({(1.0, 0): True, (2.0, 0): False})
    assert list(outcomes.at(table, alpha=2).index.names) == ["lm", "person"]
    assert outcomes.at(table, alpha=[2]).index.unique("alpha").tolist() == [2.0]
    assert outcomes.at(table, alpha=7).empty, "what was not run is absent"


def test_slots_are_read_as_they_are_and_other_latents_are_chosen() -> None:
    relation = torch.arange(3).repeat(4)
    x = torch.eye(3)[relation]
    sae = AlignSAE(3, 9, 3, 2, seed=0)
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.W_enc[:, 6:] = 2 * torch.eye(3)
    found = readings.read(sae, x, relation, range(12))
    assert found.latents.tolist() == [6, 7, 8]
    assert found.natural.tolist() == [2.0, 2.0, 2.0]
    plain, _ = handles.unsupervised("plain", 3, 9, seed=0)
    with torch.no_grad():
        plain.W_enc.zero_()
        plain.W_enc[:, [4, 2, 7]] = torch.eye(3)
    chosen = readings.read(plain, x, relation, range(12))
    assert (chosen.latents.tolist(), chosen.purity) == ([4, 2, 7], 1.0)


def test_variance_is_shared_out_among_what_causes_it() -> None:
    cells = [(p, r, w) for p in range(3) for r in range(2) for w in range(2)]
    about = pd.DataFrame(cells, columns=["person", "relation", "wording"]).set_index("person")
    causes = {
        "relation": about.relation,
        "person": about.index.to_series(),
        "wording": about.wording,
    }
    for name, cause in causes.items():
        acts = torch.tensor(cause.to_numpy(), dtype=torch.float32)[:, None].repeat(1, 2)
        shares = readings.variance_shares(acts, about)
        assert shares == pytest.approx({n: float(n == name) for n in shares}, abs=1e-9)


def test_the_worst_relation_by_chance() -> None:
    assert readings.worst_at_random(1, 6, 0) == 1
    assert 1 / 6 < readings.worst_at_random(600, 6, 0) < 0.22
    assert math.isnan(readings.worst_at_random(0, 6, 0))


def test_failures_between_relations_of_the_same_values_are_left_out() -> None:
    values = [{"oslo"}, {"rome"}, {"red"}]
    rows = [(0, 1, "rome", "rome"), (0, 1, "oslo", "rome"), (0, 2, "red", "blue")]
    table = pd.DataFrame(rows, columns=["source", "target", "said", "wanted"])
    table["exact"] = table.said == table.wanted
    assert outcomes.failed(table, values).kept.tolist() == [False, True]
    assert outcomes.failed(table, values, (0, 1)).kept.tolist() == [True]


def test_slots_that_fire_on_their_own_alone_do_not_go_together() -> None:
    relation = torch.arange(3).repeat(40)
    sae, x = AlignSAE(8, 10, 3, 2), rng.normals(0, "x", shape=(120, 8))
    own = torch.nn.functional.one_hot(relation, 3).float()
    rows = list(range(120))
    assert readings.leaks(sae, own, x, relation, rows, rows)["slot correlation"] == 0
    shared = own + rng.normals(0, "shared", shape=(120, 1))  # moves all slots at once
    found = readings.leaks(sae, shared, x, relation, rows, rows)
    assert found["slot correlation"] == pytest.approx(1)


def ladder() -> pd.DataFrame:
    """Two lengths of one method, of which the second is better, and two draws of another."""
    success = {"A x1": (0, 0), "A x2": (1, 1), "draw 0": (1, 1), "draw 1": (0, 0), "other": (1, 0)}
    rows = {(0, name, 1.0, person): bool(each[person])
            for name, each in success.items() for person in (0, 1)}  # fmt: skip
    index = pd.MultiIndex.from_tuples([*rows], names=["lm", "method", "alpha", "person"])
    return pd.DataFrame({"exact": list(rows.values())}, index)


def test_a_ladder_has_one_row_of_what_is_chosen_together_and_all_draws_under_one_name() -> None:
    shown = outcomes.rungs(ladder(), {"A": "best A"}, draws=["draw"], alone=["A x1"])
    exact = shown.exact.groupby("method").mean().to_dict()
    assert exact == {"A x1": 0, "best A": 1, "draw": 0.5, "other": 0}
    assert set(shown.index.get_level_values("person")) == {1}, "those that chose do not judge"


def test_variations_are_recorded_at_their_best_and_at_two_units() -> None:
    rows = {("a", 0, t, p): t == 5.0 for t in (2.0, 5.0) for p in (0, 1)}
    index = pd.MultiIndex.from_tuples([*rows], names=["arm", "lm", "alpha", "person"])
    table = pd.DataFrame({"exact": list(rows.values())}, index)
    fixed = outcomes.at(table.exact, alpha=2.0)
    judged = outcomes.tuned(table)
    judged["edge"] = judged.alpha == 5.0
    found = outcomes.at_best(judged, fixed, {"ours": "a"})
    assert {name: each.tolist() for name, each in found.items()} == {
        "ours": [True], "ours at an end": [1.0], "ours alpha=2": [False, False]
    }  # fmt: skip
    none = outcomes.at_best(judged, fixed, {"b": "b"})
    assert all(each.empty for each in none.values()), "what was not run has no rows"


def test_what_a_swap_changes_is_told_from_the_answer_without_it() -> None:
    said = pd.concat({0: pd.Series(["x", "y"]), 1: pd.Series(["z", "y"])}, names=["lm"])
    index = pd.MultiIndex.from_tuples([(0, 5), (1, 5), (1, 6)], names=["lm", "person"])
    table = pd.DataFrame({"question": [0, 0, 1], "said": ["x", "x", "x"]}, index)
    assert outcomes.changed(table, said).tolist() == [False, True, True]


def test_a_silencer_at_one_sets_the_slot_to_zero_or_takes_the_whole_offset_away() -> None:
    sae, h = AlignSAE(8, 10, 3, 2), rng.normals(0, "h", shape=(3, 8))
    means, out = rng.normals(0, "means", shape=(3, 8)), torch.tensor([0, 1, 2])
    ways = handles.silencers(sae, torch.ones(3), means, h, out)
    torch.testing.assert_close(ways["means"](1.0), h - means + means.mean(dim=0))
    torch.testing.assert_close(ways["slot"](1.0), steering.swap_slots(sae, h, out, out, 0.0))
    torch.testing.assert_close(ways["slot"](3.0), steering.swap_slots(sae, h, out, out, -2.0))


def test_judging_people_are_asked_at_the_strength_that_others_chose_and_at_no_more() -> None:
    todo, alphas = task().swapped(task().rows("train")), (0.0, 3.0, 9.0)
    h = steering.read(model(), task().prompts, 1)[todo.question]
    handle = handles.along(h, rng.normals(0, "noise", shape=tuple(h.shape)))
    said = task().rewritten(model(), todo, {3.0: handle(3.0)}, 1).said.tolist()
    todo = todo._replace(wanted=said)  # what is said at 3 is wanted
    few = task().tried(model(), todo, handle, alphas, 1, also=[0.0])
    every = task().rewritten(model(), todo, {t: handle(t) for t in alphas}, 1)
    best = [outcomes.tuned(pd.concat({0: each}, names=["lm"])) for each in (few, every)]
    pd.testing.assert_frame_equal(*best)
    assert set(best[0].alpha) == {3.0} and best[0].exact.all()
    judging = few[~outcomes.choosing(few)].index.get_level_values("alpha")
    assert set(judging) == {0.0, 3.0}
    assert len(outcomes.at(few, alpha=0.0)) == len(todo.question)


def test_latents_of_a_rival_are_chosen_on_the_training_questions() -> None:
    """Latent 0 tells the relation in training, latent 1 everywhere else, where it is judged."""
    relation = torch.arange(60) % 2
    x = torch.zeros(60, 2)
    x[:20, 0] = 1 + relation[:20]
    x[20:, 1] = 1 + 9 * relation[20:]
    sae = SAE(2, 2, ReLU())
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(2))
    latents = readings.read(sae, x, relation, range(20)).latents.tolist()
    assert latents[1] == 0
