"""What holds of a token, held against the world's own truth."""

from __future__ import annotations

import torch

from srclib.worlds.predicates import predicates
from srclib.worlds.text import TextWorld

WORLD = TextWorld(seed=3, n_topics=4, n_people=12)
DOCS = WORLD.documents(20, "predicates")
LENGTH = 30
NAMES, TABLE = predicates(WORLD, DOCS, LENGTH)
WHERE = {name: TABLE[..., i] for i, name in enumerate(NAMES)}


def test_every_token_has_one_word_one_class_one_role_one_topic() -> None:
    there = torch.zeros(len(DOCS), LENGTH)
    for row, tokens in zip(there, DOCS["tokens"], strict=True):
        row[: len(tokens)] = 1
    for kind in ("word", "class", "role", "topic", "formal", "past"):
        total = torch.stack([t for name, t in WHERE.items() if name.startswith(f"{kind}: ")]).sum(0)
        assert torch.equal(total.float(), there), kind


def test_names_say_what_the_columns_of_the_corpus_say() -> None:
    assert len(set(NAMES)) == len(NAMES) and TABLE.any(dim=(0, 1)).all()
    seen = set()
    for d, row in enumerate(DOCS):
        for place, token in enumerate(row["tokens"][:LENGTH]):
            assert WHERE[f"word: {WORLD.words[token]}"][d, place]
            assert WHERE[f"class: {WORLD.word_classes[row['word_class'][place]]}"][d, place]
            assert WHERE[f"role: {WORLD.roles[row['role'][place]]}"][d, place]
            assert WHERE[f"topic: {WORLD.topics[row['topic']]}"][d, place]
            assert WHERE[f"past: {'yes' if row['past'] else 'no'}"][d, place]
            for relation, answers in WORLD.attributes.items():
                if row["entity"][place] >= 0:
                    value = WORLD.words[answers[row["entity"][place]]]
                    assert WHERE[f"{relation}: {value}"][d, place]
                    seen.add(relation)
    assert seen == set(WORLD.attributes)
    assert WHERE["place: first"].nonzero()[:, 1].unique().tolist() == [0]


def test_attributes_are_said_of_people_alone() -> None:
    """An animal is mentioned as such too; that is a word, not an attribute."""
    people = torch.stack(
        [
            WHERE[f"word: {WORLD.words[p]}"]
            for p in WORLD.people
            if f"word: {WORLD.words[p]}" in WHERE
        ]
    ).any(0)
    for relation in WORLD.attributes:
        total = torch.stack(
            [t for name, t in WHERE.items() if name.startswith(f"{relation}: ")]
        ).sum(0)
        assert torch.equal(total.bool(), people) and total.max() == 1
