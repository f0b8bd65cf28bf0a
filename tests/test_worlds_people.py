"""The biography world: its promises about people, wordings and splits."""

from __future__ import annotations

from collections import defaultdict

import pytest

from srclib.errors import DataError, ParameterError
from srclib.worlds import people
from srclib.worlds.people import (
    DATA,
    SPLITS,
    ListSizes,
    draw_world,
    encode,
    word_lists,
)

WORLD = draw_world(8, 4, seed=1)
QUESTIONS = WORLD.questions()


def test_work_city_follows_from_the_employer() -> None:
    seats = defaultdict(set)
    for person in draw_world(300, 0, seed=3).people:
        seats[person.values[4]].add(person.values[5])
    assert {len(cities) for cities in seats.values()} == {1}


def test_person_does_not_depend_on_how_many_are_drawn() -> None:
    assert draw_world(5, 0, seed=2).people == draw_world(50, 0, seed=2).people[:5]
    assert draw_world(5, 0, seed=2).people != draw_world(5, 0, seed=3).people


def test_lists_have_the_sizes_asked_for_and_share_no_word() -> None:
    sizes = ListSizes(411, 461, 1002, 50, 341, 101, 327)
    lists = word_lists(sizes, 0)
    assert [len(words) for words in lists.values()] == [411, 461, 1002, 50, 341, 101, 327]
    assert len({word for words in lists.values() for word in words}) == sum(
        map(len, lists.values())
    )


def test_every_relation_has_its_templates() -> None:
    assert len(set(DATA["months"].split())) == 12
    for relation in DATA["relations"].values():
        assert len(set(relation["sentences"])) == 3
    for texts in (each.split("|") for each in people.QUESTIONS):
        assert len(set(texts)) == 4 and all(text.split().count("N") == 1 for text in texts)
        assert all(text.split()[0] == "P" for text in relation["sentences"])
        assert all(text.split()[-1] == "V" for text in relation["sentences"])


def test_splits_and_what_is_taught() -> None:
    table = QUESTIONS.to_pandas()
    assert table.groupby("split").size().to_dict() == {
        "train": 8 * 12,
        "held-out wording": 8 * 12,
        "unseen people": 4 * 12,
        "unseen both": 4 * 12,
    }
    assert set(SPLITS) == set(table.split)
    assert (table.taught == (table.split != "held-out wording")).all()
    trained = table[table.split == "train"]
    assert set(trained.wording) == {0, 1} and set(trained.person) == set(range(8))


def test_a_question_names_person_and_relation_and_nothing_of_the_answer() -> None:
    world = draw_world(5, 1, seed=1)
    without_name = set()
    for row in world.questions():
        person = world.people[row["person"]]
        assert f" {person.name} " in row["prompt"] and row["prompt"].endswith(" A:")
        assert row["answer"] == person.values[row["relation"]]
        assert not set(row["answer"].split()) & set(row["prompt"].split())
        without_name.add((row["prompt"].replace(person.name, "N"), row["relation"]))
    assert len({text for text, _ in without_name}) == len(without_name) == 24


def test_the_length_of_a_question_tells_nothing() -> None:
    assert len({len(prompt.split()) for prompt in QUESTIONS["prompt"]}) == 1


def test_a_biography_states_every_value_and_one_of_them_twice() -> None:
    for row in WORLD.biographies():
        person, text = WORLD.people[row["person"]], row["text"]
        assert text.startswith(person.name) and text.count(" .") == 7
        for value in person.values:
            assert f" {value} ." in text


def test_every_word_is_one_token_and_comes_back() -> None:
    tokenizer = WORLD.tokenizer()
    for text in [*WORLD.biographies()["text"], *QUESTIONS["prompt"]]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids and len(ids) == len(text.split())
        assert tokenizer.decode(ids) == text
    prompts, answers = encode(QUESTIONS, tokenizer)
    assert all(answer[-1] == tokenizer.eos_token_id for answer in answers)
    assert {len(answer) for answer in answers} == {2, 4}  # a date is three words
    assert len({prompt[-1] for prompt in prompts}) == 1


def test_lists_longer_than_there_are_words_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"university=5000: .*2000"):
        word_lists(ListSizes(university=5000), 0)


def test_an_answer_outside_the_vocabulary_is_refused() -> None:
    other = draw_world(8, 4, seed=2)
    with pytest.raises(DataError, match=r"answer of question \d+.*in the vocabulary"):
        encode(QUESTIONS, other.tokenizer())


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"n_known": 0}, "n_known"), ({"n_bios": 0}, "n_bios")],
)
def test_other_refusals(changes: dict[str, object], name: str) -> None:
    with pytest.raises(ParameterError, match=name):
        draw_world(**changes)  # type: ignore[arg-type]


def test_too_many_people_for_the_names() -> None:
    with pytest.raises(ParameterError, match="n people"):
        draw_world(9, 0, ListSizes(first=2, middle=2, last=2))
