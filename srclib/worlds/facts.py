"""The words of the text world, what is true in it, and how that is said.

Notation of the words: `inside/within` is one slot in casual and formal register, `says-said` the
forms of one verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

from .engine import SPECIALS, World, between, chance, fill, one_of, unique, words_of


class Role(IntEnum):
    """Oblique is the noun of a prepositional phrase, the complement what a subject is said to be
    and the answer of a fact."""

    SPECIAL, FUNCTION, SUBJECT, VERB, OBJECT, OBLIQUE, MODIFIER, COMPLEMENT = range(8)


ROLE_OF = {"relation noun": Role.SUBJECT, "relation verb": Role.VERB, "linking verb": Role.VERB}
Token = tuple[int, Role]  # its id and its role


class Fact(NamedTuple):
    """`subject` and `answer` are token ids; `topic` is -1 for facts that no topic owns."""

    relation: str
    subject: int
    answer: int
    topic: int


class Lexicon(World):
    """The words of a world with `n_topics` topics and `n_people` people.

    classes: the words of each class by its name, most popular first; ids count through them. A
        word is in one class only, so the class of a token follows from the token.
    """

    def __init__(self, n_topics: int, n_people: int) -> None:
        self.data = data = words_of("text")
        between("n_topics", n_topics, 2, len(data["topics"]))
        between("n_people", n_people, 2, len(data["names"].split()))
        self.relations: dict[str, dict[str, Any]] = data["relations"]
        self.topics = tuple(data["topics"])[:n_topics]
        self.classes = {
            "special": SPECIALS,
            "punctuation": (".",),
            **_function_words(data),
            "person": unique(data["names"])[:n_people],
            "country": tuple(data["countries"]),
            "city": unique(*data["countries"].values()),
            **{name: unique(words) for name, words in data["things"].items()},
        }
        for topic in self.topics:
            nouns, verbs, adjectives = data["topics"][topic].values()
            self.classes[f"{topic} noun"] = _parts(*(f"{noun}-{noun}s" for noun in nouns.split()))
            self.classes[f"{topic} verb"] = _parts(*map(inflected, verbs.split()))
            self.classes[f"{topic} adjective"] = unique(adjectives)
        self.word_classes = tuple(self.classes)
        self.words = tuple(word for words in self.classes.values() for word in words)
        self.class_of = tuple(i for i, words in enumerate(self.classes.values()) for _ in words)

    def members(self, word_class: str) -> tuple[int, ...]:
        """The token ids of a word class, in order of popularity."""
        one_of("word_class", word_class, self.word_classes)
        return tuple(self.ids[word] for word in self.classes[word_class])

    def drawn_facts(self, seed: int) -> Iterator[Fact]:
        """Every fact of the world, ordered by relation and subject.

        Countries of cities are those of the atlas. All others are drawn uniformly, each relation
        from a stream of its own: no attribute tells about another.
        """
        cities = {city: k for k, text in self.data["countries"].items() for city in text.split()}
        for name, relation in self.relations.items():
            draw, of = chance(seed, "text world", "facts", name).random, relation["of"]
            answers = self.members(relation["answers"])
            kinds = [(f"{t} noun", i) for i, t in enumerate(self.topics)]
            for kind, topic in kinds if of == "noun" else [(of, -1)]:
                for subject in self.members(kind)[:: 2 if of == "noun" else 1]:  # no plurals
                    if of == "city":
                        answer = self.ids[cities[self.words[subject]]]
                    else:
                        answer = answers[int(draw() * len(answers))]
                    yield Fact(name, subject, answer, topic)

    def said(self, fact: Fact, text: str, past: bool) -> list[Token]:
        """`fact` in one of its wordings or as an epithet: `tokyo lies in japan`, `in japan`."""

        def plain(word: str) -> Token:
            token = self.ids[word.split("-")[past if "-" in word else 0]]
            return token, ROLE_OF.get(self.word_classes[self.class_of[token]], Role.FUNCTION)

        slots = {
            "SUBJECT": [(fact.subject, Role.SUBJECT)],
            "OWNER": [(fact.subject, Role.OBLIQUE)],
            "ANSWER": [(fact.answer, Role.COMPLEMENT)],
        }
        return list(fill(text, slots, plain))


def inflected(infinitive: str) -> str:
    """Present plural, present singular, past: `orbit-orbits-orbited`."""
    past = infinitive + ("d" if infinitive.endswith("e") else "ed")
    return f"{infinitive}-{infinitive}s-{past}"


def _function_words(data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Classes whose words carry the sentence, not its matter."""
    wordings = [relation["wordings"] for relation in data["relations"].values()]
    words = [word for pair in wordings for text in pair for word in text.split()]
    return {
        "determiner": _parts(*data["determiners"]),
        "preposition": _parts("in of as from", data["prepositions"]),
        "connective": _parts("and", data["connectives"]),
        "subordinator": ("which", "that"),
        "intensifier": _parts(data["intensifiers"]),
        "linking verb": _parts(data["be"], data["seem"]),
        "reporting verb": _parts(data["reports"]),
        "relation verb": _parts(*(word for word in words if "-" in word and word != "is-was")),
        "relation noun": unique(*(noun.split()[1] for _, noun in wordings)),
    }


def _parts(*texts: str) -> tuple[str, ...]:
    """The words of texts in our notation, each once, in order."""
    return unique(*(text.replace("/", " ").replace("-", " ") for text in texts))
