"""What is true in the text world, and how it is said."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from .. import rng
from . import lexicon
from .vocabulary import Vocabulary

ROLES = (
    "special",
    "function",
    "subject",
    "verb",
    "object",
    "oblique",  # the noun of a prepositional phrase
    "modifier",
    "complement",  # what the subject is said to be, and the answer of a fact
)
SPECIAL, FUNCTION, SUBJECT, VERB, OBJECT, OBLIQUE, MODIFIER, COMPLEMENT = range(len(ROLES))
N_WORDINGS = 4  # two in the present, the same two in the past


class Fact(NamedTuple):
    """`subject` and `answer` are token ids; `topic` is -1 for facts that no topic owns."""

    relation: str
    subject: int
    answer: int
    topic: int


@dataclass(frozen=True)
class Statement:
    """A fact in words: token ids and roles up to and with the answer, without BOS or full stop."""

    ids: tuple[int, ...]
    roles: tuple[int, ...]
    place: int  # of the subject in ids


def all_facts(vocabulary: Vocabulary, seed: int) -> tuple[Fact, ...]:
    """Every fact of the world, ordered by relation and subject.

    Countries of cities are those of the atlas. All others are drawn uniformly, each relation
    from a stream of its own: no attribute tells about another.
    """
    found = []
    for name, relation in lexicon.RELATIONS.items():
        draw = random.Random(rng.derive(seed, "text world", "facts", name)).random
        answers = vocabulary.members(relation.answers)
        for subject, topic in _subjects(vocabulary, relation.of):
            if relation.of == "city":
                answer = _country_of(vocabulary, subject)
            else:
                answer = answers[int(draw() * len(answers))]
            found.append(Fact(name, subject, answer, topic))
    return tuple(found)


def statement(vocabulary: Vocabulary, fact: Fact, wording: int) -> Statement:
    """`fact` in one of N_WORDINGS wordings: index = 2 * past + wording of the relation."""
    past, which = divmod(wording, 2)
    return _say(vocabulary, fact, lexicon.RELATIONS[fact.relation].wordings[which], past)


def epithet(vocabulary: Vocabulary, fact: Fact) -> Statement:
    """`fact` as what follows its subject: `in tokyo`, `the baker`; empty where there is none."""
    return _say(vocabulary, fact, lexicon.RELATIONS[fact.relation].epithet, 0)


def _say(vocabulary: Vocabulary, fact: Fact, text: str, past: int) -> Statement:
    ids, roles, place = list[int](), list[int](), -1
    for word in text.split():
        if word == "SUBJECT":  # after `the home of` it is no longer the grammatical subject
            place = len(ids)
            ids.append(fact.subject)
            roles.append(OBLIQUE if SUBJECT in roles else SUBJECT)
        elif word == "ANSWER":
            ids.append(fact.answer)
            roles.append(COMPLEMENT)
        else:
            ids.append(vocabulary.ids[word.split("-")[past if "-" in word else 0]])
            roles.append(_role(vocabulary, ids[-1]))
    return Statement(tuple(ids), tuple(roles), place)


def _role(vocabulary: Vocabulary, word: int) -> int:
    roles = {"relation noun": SUBJECT, "relation verb": VERB, "linking verb": VERB}
    return roles.get(vocabulary.class_names[vocabulary.class_of[word]], FUNCTION)


def _subjects(vocabulary: Vocabulary, of: str) -> list[tuple[int, int]]:
    """(token id, topic) of all words that a relation is about; topic nouns in the singular."""
    if of != "noun":
        return [(word, -1) for word in vocabulary.members(of)]
    return [
        (word, i)
        for i, topic in enumerate(vocabulary.topics)
        for word in vocabulary.members(f"{topic} noun")[::2]
    ]


def _country_of(vocabulary: Vocabulary, city: int) -> int:
    word = vocabulary.words[city]
    (country,) = (k for k, cities in lexicon.COUNTRIES.items() if word in cities.split())
    return vocabulary.ids[country]
