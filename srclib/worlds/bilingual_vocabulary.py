"""The lexicon of the bilingual world as numbers: ids of words, forms of concepts, what is true."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, NamedTuple

from .. import rng
from . import bilingual_lexicon as lexicon
from .chance import Weighted, zipf
from .lexicon import SPECIALS

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")
ONE_LANGUAGE = 0.1  # share of the facts that only English texts state, and only Japanese ones
POPULARITY = 0.8  # Zipf exponent inside a category


class Concept(NamedTuple):
    """`forms` by language, most frequent first."""

    name: str
    category: int
    forms: dict[Language, tuple[str, ...]]


class Fact(NamedTuple):
    """`subject` and `object` are concepts; `said_in` the languages whose texts state it."""

    relation: int
    subject: int
    object: int
    said_in: tuple[Language, ...]


def concepts() -> tuple[Concept, ...]:
    """All 96, category by category; a concept's place is its id."""
    found = []
    for category, (_, text) in enumerate(lexicon.CATEGORIES.items()):
        for entry in text.replace("\n", ";").split(";"):
            english, japanese = (side.split() for side in entry.split("|"))
            forms: dict[Language, tuple[str, ...]] = {
                "en": (*english, english[0].capitalize()),
                "ja": tuple(japanese),
            }
            found.append(Concept(english[0], category, forms))
    return tuple(found)


@dataclass(frozen=True)
class Vocabulary:
    """Words, ids and facts of the world of a seed; the words are the same for every seed."""

    seed: int

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        return concepts()

    @cached_property
    def categories(self) -> tuple[str, ...]:
        return tuple(lexicon.CATEGORIES)

    @cached_property
    def relations(self) -> tuple[str, ...]:
        return tuple(lexicon.RELATIONS)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Specials, shared marks and digits, function words, forms; a word's place is its id."""
        forms = (f for c in self.concepts for language in LANGUAGES for f in c.forms[language])
        shared = (*lexicon.STOP.values(), *lexicon.BRACKETS, *lexicon.DIGITS)
        return tuple(dict.fromkeys([*SPECIALS, *shared, *function_words(), *forms]))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def forms(self) -> dict[Language, tuple[Weighted[int], ...]]:
        """For each language and concept the ids of its forms with their probabilities."""
        return {
            language: tuple(self._spelled(c.forms[language]) for c in self.concepts)
            for language in LANGUAGES
        }

    def _spelled(self, forms: Sequence[str]) -> Weighted[int]:
        below = list(accumulate(lexicon.SPELLINGS[: len(forms)]))
        return Weighted([self.ids[form] for form in forms], [p / below[-1] for p in below])

    @cached_property
    def concept_of(self) -> tuple[int, ...]:
        """The concept of each word, -1 for those without."""
        owner = {
            f: i for i, c in enumerate(self.concepts) for forms in c.forms.values() for f in forms
        }
        return tuple(owner.get(word, -1) for word in self.words)

    def members(self, category: int) -> list[int]:
        return [i for i, concept in enumerate(self.concepts) if concept.category == category]

    @cached_property
    def popular(self) -> tuple[Weighted[int], ...]:
        """The concepts of each category, Zipf; the ranking is drawn once for both languages."""
        return tuple(
            zipf(self._shuffled(self.members(category), "popularity", category), POPULARITY)
            for category in range(len(self.categories))
        )

    def _shuffled(self, things: list[int], *names: str | int) -> list[int]:
        shuffled = list(things)
        random.Random(rng.derive(self.seed, "bilingual world", *names)).shuffle(shuffled)
        return shuffled

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """One object for each relation and subject, uniform over its category."""
        return tuple(self._facts())

    def _facts(self) -> Iterator[Fact]:
        for number, (name, relation) in enumerate(lexicon.RELATIONS.items()):
            draw = random.Random(rng.derive(self.seed, "bilingual world", "facts", name)).random
            objects = self.members(self.categories.index(relation.to))
            for subject in self.members(self.categories.index(relation.of)):
                thing, u = objects[int(draw() * len(objects))], draw()
                said_in: tuple[Language, ...] = LANGUAGES
                if u < 2 * ONE_LANGUAGE:
                    said_in = ("en",) if u < ONE_LANGUAGE else ("ja",)
                yield Fact(number, subject, thing, said_in)

    @cached_property
    def facts_of(self) -> tuple[tuple[Fact, ...], ...]:
        """The facts about each concept."""
        about: list[list[Fact]] = [[] for _ in self.concepts]
        for fact in self.facts:
            about[fact.subject].append(fact)
        return tuple(map(tuple, about))


def function_words() -> tuple[str, ...]:
    """The words of the wordings, each once, in order."""
    wordings = [text for r in lexicon.RELATIONS.values() for text in (*r.en, *r.ja)]
    words = " ".join([*lexicon.DETERMINERS, *wordings, *lexicon.YEARS.values()]).split()
    return tuple(dict.fromkeys(word for word in words if word not in "SODY"))
