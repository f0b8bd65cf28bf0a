"""The two-hop world: answers compose facts, and held-out questions ask nothing unheard of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset

from srclib.errors import ParameterError
from srclib.worlds.twohop import NAMES, RELATIONS, TwoHopWorld

Triple = tuple[int, int, int]
WORLD = TwoHopWorld(seed=3, n_entities=12, n_relations=6, n_held_out=2)
FACTS, QUESTIONS = WORLD.facts(), WORLD.questions()
STEPS = WORLD.steps(QUESTIONS)


def words(ids: list[int], world: TwoHopWorld = WORLD) -> list[str]:
    return [world.words[i] for i in ids]


def triples(questions: Dataset, split: str) -> set[Triple]:
    return {
        (row["entity_1"], row["relation_1"], row["relation_2"])
        for row in questions
        if row["split"] == split
    }


def read(text: str) -> dict[tuple[str, str], str]:
    """Facts as a reader finds them in the sentences, without the world's help."""
    relation, of, entity, is_, target = text.split()
    assert (of, is_) == ("of", "is")
    return {(relation, entity): target}


def test_answers_follow_from_the_stated_facts_alone() -> None:
    stated: dict[tuple[str, str], str] = {}
    for text in FACTS["text"]:
        stated |= read(text)
    assert len(stated) == len(FACTS) == 12 * 6
    for text in QUESTIONS["text"]:
        q, second, _, first, _, subject, a, middle, last = text.split()
        assert (q, a) == ("Q:", "A:")
        assert stated[first, subject] == middle and stated[second, middle] == last
    assert len(set(QUESTIONS["text"])) == len(QUESTIONS) == 12 * 6 * 6


def test_columns_say_what_the_text_says() -> None:
    for row in QUESTIONS:
        e = [WORLD.entities[row[f"entity_{i}"]] for i in (1, 2, 3)]
        first, second = (WORLD.relations[row[f"relation_{i}"]] for i in (1, 2))
        assert row["text"] == f"Q: {second} of {first} of {e[0]} A: {e[1]} {e[2]}"
        assert words([*row["prompt"], *row["answer"]]) == row["text"].split()
    for row in FACTS:
        assert words([*row["prompt"], *row["answer"]]) == row["text"].split()
        assert words(row["answer"]) == [WORLD.entities[row["target"]]]
        assert WORLD.follow(row["relation"], row["entity"]) == row["target"] != row["entity"]
    assert [WORLD.words[i] for i in WORLD.entity_ids] == list(WORLD.entities)


def test_guessing_is_right_once_in_n_entities() -> None:
    """Also for who knows the relations that are asked: each is a permutation."""
    for relation in range(6):
        assert sorted(WORLD.follow(relation, e) for e in range(12)) == list(range(12))
    pairs = Counter((r["relation_1"], r["relation_2"], r["entity_3"]) for r in QUESTIONS)
    assert set(pairs.values()) == {1}


def test_splits_are_disjoint_and_of_the_promised_size() -> None:
    train, held_out = triples(QUESTIONS, "train"), triples(QUESTIONS, "held out")
    assert not train & held_out and len(train) == 12 * 6 * 4 and len(held_out) == 12 * 6 * 2
    assert set(Counter(t[:2] for t in held_out).values()) == {2}


def test_both_hops_of_a_held_out_question_are_taught() -> None:
    """As facts, and the first as the first hop of training questions too."""
    facts = {(row["relation"], row["entity"]) for row in FACTS}
    train = triples(QUESTIONS, "train")
    for row in QUESTIONS.filter(lambda row: row["split"] == "held out"):
        assert (row["relation_1"], row["entity_1"]) in facts
        assert (row["relation_2"], row["entity_2"]) in facts
        asked = [t for t in train if t[:2] == (row["entity_1"], row["relation_1"])]
        assert len(asked) == 4


def test_more_held_out_means_the_same_and_others() -> None:
    more = TwoHopWorld(seed=3, n_entities=12, n_relations=6, n_held_out=5).questions()
    assert triples(QUESTIONS, "held out") < triples(more, "held out")
    assert QUESTIONS["text"] == more["text"]


def test_steps_carry_the_relation_that_decides_the_next_word() -> None:
    assert len(STEPS) == 2 * len(QUESTIONS)
    for row in STEPS:
        question = QUESTIONS[row["question"]]
        said = words(row["prompt"])
        before = said[5] if row["step"] == 0 else said[-1]
        place, answer = WORLD.entities.index(before), words([row["answer"]])[0]
        assert WORLD.entities[WORLD.follow(row["relation"], place)] == answer
        assert said == question["text"].split()[: 7 + row["step"]]
        assert WORLD.relations[row["relation"]] == said[3 if row["step"] == 0 else 1]
        assert row["split"] == question["split"]
    assert Counter(STEPS["step"]) == {0: len(QUESTIONS), 1: len(QUESTIONS)}


def test_the_vocabulary_is_complete() -> None:
    tokenizer = WORLD.tokenizer()
    assert tokenizer.pad_token_id == 0 and len(set(WORLD.words)) == len(WORLD.words)
    assert len(tokenizer) == len(WORLD.words)
    for row in [*FACTS, *QUESTIONS]:
        assert tokenizer(row["text"])["input_ids"] == [*row["prompt"], *row["answer"]]
    assert tokenizer("Q: emperor")["input_ids"] == [WORLD.words.index("Q:"), 2]
    used = {i for row in [*FACTS, *QUESTIONS] for i in [*row["prompt"], *row["answer"]]}
    assert used == set(range(3, len(WORLD.words)))


def test_seeds_draw_other_worlds_and_more_relations_keep_the_first() -> None:
    again, other = TwoHopWorld(seed=4, n_relations=4), TwoHopWorld(seed=5, n_relations=4)
    more = TwoHopWorld(seed=4, n_relations=5)
    assert again.facts()["text"] != other.facts()["text"]
    assert again.facts()["text"] == more.facts()["text"][: 4 * 16]
    assert triples(again.questions(), "train") != triples(other.questions(), "train")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("n_entities", 2, "from 3 to 128"),
        ("n_entities", len(NAMES) + 1, "from 3 to 128"),
        ("n_relations", len(RELATIONS) + 1, "from 2 to 20"),
        ("n_relations", True, "from 2 to 20"),
        ("n_held_out", 0, "from 1 to 7"),
        ("n_held_out", 8, "from 1 to 7"),
        ("n_asked", 9, "from 2 to 8"),
        ("seed", -1, "0 <= seed"),
    ],
)
def test_bad_sizes_are_refused_by_name(field: str, value: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=rf"{field}={value}.*{says}"):
        TwoHopWorld(**{field: value})


def test_the_paper_sized_world() -> None:
    """20 relations between 40 entities: 800 facts, 6,400 questions to learn and 1,600 held out."""
    world = TwoHopWorld(n_entities=40, n_relations=20, n_held_out=2, n_asked=10)
    questions = world.questions()
    assert len(world.facts()) == 800 and not set(RELATIONS) & set(NAMES)
    assert Counter(questions["split"]) == {"train": 6400, "held out": 1600}
    assert set(questions["relation_2"]) == set(range(20))
