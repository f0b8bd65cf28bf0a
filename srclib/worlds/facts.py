"""The words of the text world as numbers, what is true in it, and how that is said.

Notation of the words: `inside/within` is one slot in casual and formal register, `says-said` the
forms of one verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from . import engine
from .engine import fill, unique, words_of

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
ROLE_OF = {"relation noun": SUBJECT, "relation verb": VERB, "linking verb": VERB}  # by word class
Token = tuple[int, int]  # its id and its role
Forms = tuple[int, int, int, int]  # of a verb: singular, plural, past singular, past plural


class Fact(NamedTuple):
    """`subject` and `answer` are token ids; `topic` is -1 for facts that no topic owns."""

    relation: str
    subject: int
    answer: int
    topic: int


class Lexicon:
    """The words of a world with `n_topics` topics and `n_people` people.

    classes: the words of each class by its name, most popular first; ids count through them. A
        word is in one class only, so the class of a token follows from the token.
    """

    def __init__(self, n_topics: int, n_people: int) -> None:
        self.data = data = words_of("text")
        engine.between("n_topics", n_topics, 2, len(data["topics"]))
        engine.between("n_people", n_people, 2, len(data["names"].split()))
        self.relations: dict[str, dict[str, Any]] = data["relations"]
        self.topics = tuple(data["topics"])[:n_topics]
        self.classes = {
            "special": engine.SPECIALS,
            "punctuation": (".",),
            **_function_words(data),
            "person": tuple(data["names"].split()[:n_people]),
            "country": tuple(data["countries"]),
            "city": unique(*data["countries"].values()),
            **{name: unique(words) for name, words in data["things"].items()},
        }
        for topic in self.topics:
            words = {kind: text.split() for kind, text in data["topics"][topic].items()}
            self.classes[f"{topic} noun"] = _parts(*(f"{noun}-{noun}s" for noun in words["nouns"]))
            self.classes[f"{topic} verb"] = _parts(*map(inflected, words["verbs"]))
            self.classes[f"{topic} adjective"] = tuple(words["adjectives"])
        self.word_classes = tuple(self.classes)
        self.words = tuple(word for words in self.classes.values() for word in words)
        self.class_of = tuple(i for i, words in enumerate(self.classes.values()) for _ in words)
        self.ids = engine.numbered(self.words)

    def members(self, word_class: str) -> tuple[int, ...]:
        """The token ids of a word class, in order of popularity."""
        engine.one_of("word_class", word_class, self.word_classes)
        return tuple(self.ids[word] for word in self.classes[word_class])

    def slots(self, text: str) -> list[tuple[int, ...]]:
        """`near inside/within` as [(near, near), (inside, within)]: (casual, formal) ids."""
        sides = [word.split("/") for word in text.split()]
        return [(self.ids[pair[0]], self.ids[pair[-1]]) for pair in sides]

    def forms(self, verb: str) -> Forms:
        """`says-said` (subjects are singular) or `orbit-orbits-orbited`."""
        *_, singular, past = ids = [self.ids[word] for word in verb.split("-")]
        return singular, ids[0], past, past

    def drawn_facts(self, seed: int) -> Iterator[Fact]:
        """Every fact of the world, ordered by relation and subject.

        Countries of cities are those of the atlas. All others are drawn uniformly, each relation
        from a stream of its own: no attribute tells about another.
        """
        cities = {city: k for k, text in self.data["countries"].items() for city in text.split()}
        for name, relation in self.relations.items():
            draw = engine.chance(seed, "text world", "facts", name).random
            answers = self.members(relation["answers"])
            for subject, topic in self._subjects(relation["of"]):
                if relation["of"] == "city":
                    answer = self.ids[cities[self.words[subject]]]
                else:
                    answer = answers[int(draw() * len(answers))]
                yield Fact(name, subject, answer, topic)

    def _subjects(self, of: str) -> list[tuple[int, int]]:
        """(token id, topic) of all words that a relation is about; topic nouns in the singular."""
        if of != "noun":
            return [(word, -1) for word in self.members(of)]
        nouns = [self.members(f"{topic} noun")[::2] for topic in self.topics]
        return [(word, i) for i, words in enumerate(nouns) for word in words]

    def statements(self, fact: Fact) -> list[list[Token]]:
        """`fact` in all its wordings, two in the present and the same in the past.

        Up to and with the answer, without BOS or full stop.
        """
        wordings = self.relations[fact.relation]["wordings"]
        return [self._said(text, fact, past) for past in (0, 1) for text in wordings]

    def epithet(self, fact: Fact) -> list[Token]:
        """`fact` as what follows its subject: `in tokyo`, `the baker`; maybe nothing."""
        return self._said(self.relations[fact.relation].get("epithet", ""), fact, 0)

    def _said(self, text: str, fact: Fact, past: int) -> list[Token]:
        def plain(word: str) -> Token:
            token = self.ids[word.split("-")[past if "-" in word else 0]]
            return token, ROLE_OF.get(self.word_classes[self.class_of[token]], FUNCTION)

        slots = {
            "SUBJECT": [(fact.subject, SUBJECT)],
            "OWNER": [(fact.subject, OBLIQUE)],
            "ANSWER": [(fact.answer, COMPLEMENT)],
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
