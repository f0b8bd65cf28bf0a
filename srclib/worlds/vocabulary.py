"""Words, their ids and their classes: the lexicon of the text world as numbers.

Notation of the lexicon: `inside/within` is one slot in casual and formal register,
`says-said` the forms of one verb.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from . import lexicon

BE = "is are was were"


@dataclass(frozen=True)
class Vocabulary:
    """The words of a world with `n_topics` topics and `n_people` people.

    classes: the words of each class by its name; ids count through them in order. A word is in
        one class only, so the class of a token follows from the token.
    """

    n_topics: int
    n_people: int

    @cached_property
    def topics(self) -> tuple[str, ...]:
        return tuple(lexicon.TOPICS)[: self.n_topics]

    @cached_property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Words by class, specials first, each class in order of popularity."""
        things = {name: tuple(words.split()) for name, words in lexicon.THINGS.items()}
        return {
            "special": lexicon.SPECIALS,
            "punctuation": (".",),
            **_function_words(),
            "person": tuple(lexicon.NAMES.split()[: self.n_people]),
            "country": tuple(lexicon.COUNTRIES),
            "city": tuple(" ".join(lexicon.COUNTRIES.values()).split()),
            **things,
            **{k: words for t in self.topics for k, words in _topic_words(t).items()},
        }

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.classes)

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(word for words in self.classes.values() for word in words)

    @cached_property
    def class_of(self) -> tuple[int, ...]:
        """Index of its class for each word."""
        return tuple(i for i, words in enumerate(self.classes.values()) for _ in words)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def members(self, name: str) -> tuple[int, ...]:
        """The token ids of a class, in order of popularity."""
        return tuple(self.ids[word] for word in self.classes[name])

    def slots(self, text: str) -> list[tuple[int, ...]]:
        """`near inside/within` as [(near, near), (inside, within)]: (casual, formal) ids."""
        sides = [word.split("/") for word in text.split()]
        return [(self.ids[pair[0]], self.ids[pair[-1]]) for pair in sides]

    def forms(self, text: str) -> tuple[int, int, int, int]:
        """Ids of the forms of a verb: present singular, present plural, past singular, plural.

        `text` is "be", two forms present-past (subjects are singular), or three forms as
        `lexicon.verb` orders them.
        """
        if text == "be":
            one, more, was, were = (self.ids[word] for word in BE.split())
            return one, more, was, were
        ids = [self.ids[word] for word in text.split("-")]
        return (ids[-2], ids[0], ids[-1], ids[-1])


def _function_words() -> dict[str, tuple[str, ...]]:
    """Classes whose words carry the sentence, not its matter."""
    relation_words = [
        word
        for relation in lexicon.RELATIONS.values()
        for wording in relation.wordings
        for word in wording.split()
    ]
    verbs = [word for word in relation_words if "-" in word and word != "is-was"]
    nouns = [r.wordings[1].split()[1] for r in lexicon.RELATIONS.values()]
    return {
        "determiner": _unique(*lexicon.DETERMINERS),
        "preposition": _unique("in of as from", lexicon.PREPOSITIONS),
        "connective": _unique("and", lexicon.CONNECTIVES),
        "subordinator": ("which", "that"),
        "intensifier": _unique(lexicon.INTENSIFIERS),
        "linking verb": _unique(BE, lexicon.SEEM),
        "reporting verb": _unique(lexicon.REPORTS),
        "relation verb": _unique(*verbs),
        "relation noun": _unique(*nouns),
    }


def _topic_words(name: str) -> dict[str, tuple[str, ...]]:
    topic = lexicon.TOPICS[name]
    nouns = [form for noun in topic.nouns.split() for form in (noun, lexicon.plural(noun))]
    verbs = [form for verb in topic.verbs.split() for form in lexicon.verb(verb)]
    return {
        f"{name} noun": tuple(nouns),
        f"{name} verb": tuple(verbs),
        f"{name} adjective": tuple(topic.adjectives.split()),
    }


def _unique(*texts: str) -> tuple[str, ...]:
    """The words of texts in lexicon notation, each once, in order."""
    words = " ".join(texts).replace("/", " ").replace("-", " ").split()
    return tuple(dict.fromkeys(words))
