"""The world of many relations: its promises about facts, lengths, types, registers and splits."""

from __future__ import annotations

import pytest

from srclib.errors import ParameterError
from srclib.methods.alignsae.questions import task_of
from srclib.worlds.favourites import REGISTERS, FavouriteWorld
from srclib.worlds.people import SPLITS, encode

WORLD = FavouriteWorld(12, 96, n_groups=3, n_values=4, seed=1)
TABLE = WORLD.questions().to_pandas()


@pytest.mark.parametrize("n_relations", [6, 12, 24, 48, 96])
def test_facts_and_words_that_answer_stay_as_many_whatever_the_number_of_relations(
    n_relations: int,
) -> None:
    world = FavouriteWorld(n_relations, 384)
    assert sum(map(len, world.values)) == 384 and len(world.kinds) == 6 * 12 * 2
    assert len(set(world.relations)) == n_relations and len(set(world.people)) == len(world.people)
    assert len(set(world.words)) == len(world.words)
    assert world.n_known * 2 == len(world.people)


def test_neither_length_nor_place_tells_relation_or_register() -> None:
    prompts, _ = encode(WORLD.questions(), WORLD.tokenizer())
    assert len({len(prompt) for prompt in prompts}) == 1
    where = [
        text.split().index(WORLD.relations[r]) for text, r in TABLE[["prompt", "relation"]].values
    ]
    for level in ("relation", "register"):
        counts = TABLE.assign(where=where).groupby([level, "where"]).size().unstack()
        assert counts.nunique().tolist() == [1, 1]


def test_no_word_of_a_question_but_its_name_and_relation_is_left_to_a_relation() -> None:
    def frame(row: dict[str, str | int]) -> str:
        text = str(row["prompt"]).replace(WORLD.relations[int(row["relation"])], "X")
        return text.replace(WORLD.people[int(row["person"])], "N")

    frames = {(frame(row), row["relation"]) for row in WORLD.questions()}
    assert len(frames) == 8 * 12 and len({text for text, _ in frames}) == 8


def test_registers_differ_in_the_ending_of_the_answer_alone() -> None:
    asked = TABLE.assign(stem=TABLE.answer.str.split("-").str[0])
    assert (asked.groupby(["person", "relation"]).stem.nunique() == 1).all()
    for register, ending in enumerate(REGISTERS.values()):
        assert asked[asked.register == register].answer.str.endswith(ending).all()
    ways = [set(TABLE[TABLE.register == r].prompt.str.split().str[1]) for r in (0, 1)]
    assert not ways[0] & ways[1]  # how a question begins is of one register


def test_a_value_has_the_type_of_its_relation_and_two_forms() -> None:
    assert (TABLE.answer.map(WORLD.kinds) == TABLE.group).all()
    assert TABLE.groupby("relation").group.nunique().eq(1).all()
    assert TABLE.groupby("group").relation.nunique().eq(4).all()
    asked = TABLE.groupby(["person", "relation"]).answer.unique()
    assert {frozenset(both) for both in asked} <= {frozenset(pair) for pair in WORLD.forms.items()}
    assert all(WORLD.forms[WORLD.forms[word]] == word != WORLD.forms[word] for word in WORLD.kinds)


def test_splits_and_what_is_taught() -> None:
    n = 96 * 2  # facts, wordings of both registers in a split; half of the people
    assert TABLE.groupby("split").size().to_dict() == dict.fromkeys(SPLITS, n)
    assert (TABLE.taught == (TABLE["split"] != "held-out wording")).all()
    trained = TABLE[TABLE["split"] == "train"]
    assert set(trained.wording) == {0, 1, 4, 5} and set(trained.person) == {0, 1, 2, 3}


def test_a_swap_wants_the_value_of_the_other_relation_in_the_register_asked() -> None:
    todo = (task := task_of(WORLD)).swapped(task.rows("train"))
    about = task.table.iloc[todo.question]
    ends = tuple(REGISTERS.values())
    for person, register, target, wanted in zip(
        todo.person, about.register, todo.target.tolist(), todo.wanted, strict=True
    ):
        assert wanted == WORLD.values[person][target] + ends[register]


@pytest.mark.parametrize(
    ("n_relations", "n_facts", "n_groups"),
    [(12, 97, 3), (12, 96, 5), (12, 36, 3), (6, 6 * 201, 6)],
)
def test_numbers_that_do_not_divide_and_too_few_people_are_refused(
    n_relations: int, n_facts: int, n_groups: int
) -> None:
    with pytest.raises(ParameterError, match="n_facts, n_relations, n_groups"):
        FavouriteWorld(n_relations, n_facts, n_groups)
