"""How a document of the bilingual world is written, token by token with its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from . import bilingual_lexicon as lexicon
from .bilingual_vocabulary import LANGUAGES, Fact, Language, Vocabulary
from .chance import pick, zipf
from .lexicon import BOS

Kind = Literal["en", "ja", "par", "gloss"]
KINDS: tuple[Kind, ...] = ("en", "ja", "par", "gloss")
SLOTS = ("special", "function", "subject", "object", "digit", "gloss")
SPECIAL, FUNCTION, SUBJECT, OBJECT, DIGIT, GLOSS = range(len(SLOTS))
TRUTH = ("concept", "category", "relation", "slot", "subject", "language")
NO_TOPIC = ("place", "colour")  # categories that no relation is about

CHANGES_SUBJECT = 0.35
STATES_YEAR = 0.15
NOISE = 0.10  # a fact is stated with a random object
GLOSSED = 0.5  # content words of a gloss document that get brackets
TRANSLATED = 0.7  # brackets that hold the other language, not another spelling


@dataclass
class Page:
    """A document as it grows: ids, and beside each its truth, a column per name of TRUTH."""

    ids: list[int] = field(default_factory=list)
    truth: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in TRUTH})

    def add(self, word: int, *truth: int) -> None:
        self.ids.append(word)
        for column, value in zip(self.truth.values(), truth, strict=True):
            column.append(value)


class Writer:
    """Writes one document of `length` tokens behind BOS.

    draw: gives uniform numbers in [0, 1), all that the document takes from chance.
    """

    def __init__(self, vocabulary: Vocabulary, kind: Kind, draw: Callable[[], float]) -> None:
        self.vocabulary, self.kind, self.random = vocabulary, kind, draw
        self.determiners = zipf([vocabulary.ids[word] for word in lexicon.DETERMINERS])
        topics = [i for i, c in enumerate(vocabulary.categories) if c not in NO_TOPIC]
        self.topic = topics[int(draw() * len(topics))]
        first = int(draw() * 2)
        self.order = (
            (LANGUAGES[first], LANGUAGES[1 - first]) if kind == "par" else (self._one(first),)
        )
        self.page = Page()

    def _one(self, drawn: int) -> Language:
        return "en" if self.kind == "en" else "ja" if self.kind == "ja" else LANGUAGES[drawn]

    def document(self, length: int) -> Page:
        """Sentences until `length` is reached; the last is cut."""
        self.page.add(BOS, -1, -1, -1, SPECIAL, -1, -1)
        subject = self._new_subject()
        while len(self.page.ids) <= length:
            if self.random() < CHANGES_SUBJECT:
                subject = self._new_subject()
            self._sentence(subject)
        cut = {name: column[: length + 1] for name, column in self.page.truth.items()}
        return Page(self.page.ids[: length + 1], cut)

    def _new_subject(self) -> int:
        return pick(self.vocabulary.popular[self.topic], self.random())

    def _sentence(self, subject: int) -> None:
        """One statement, in each language of the document in turn."""
        known = [f for f in self.vocabulary.facts_of[subject] if set(self.order) <= {*f.said_in}]
        if not known or self.random() < STATES_YEAR:
            year = [1 + (u := int(self.random() * 2)), 0 if u else 9]
            year += [int(self.random() * 10), int(self.random() * 10)]
            for language in self.order:
                self._say(lexicon.YEARS[language], language, subject, year=year)
            return
        fact = self._noisy(known[int(self.random() * len(known))])
        wording = int(self.random() * 2)
        relation = lexicon.RELATIONS[self.vocabulary.relations[fact.relation]]
        for language in self.order:
            text = relation.en[wording] if language == "en" else relation.ja[wording]
            self._say(text, language, subject, fact)

    def _noisy(self, fact: Fact) -> Fact:
        if self.random() >= NOISE:
            return fact
        things = self.vocabulary.members(self.vocabulary.concepts[fact.object].category)
        return fact._replace(object=things[int(self.random() * len(things))])

    def _say(
        self,
        text: str,
        language: Language,
        subject: int,
        fact: Fact | None = None,
        year: list[int] | None = None,
    ) -> None:
        ids, where = self.vocabulary.ids, LANGUAGES.index(language)
        relation = fact.relation if fact else len(self.vocabulary.relations)
        about = (relation, subject, where)
        for word in [*text.split(), lexicon.STOP[language]]:
            if word == "S":
                self._content(subject, SUBJECT, about)
            elif word == "O":
                assert fact is not None
                self._content(fact.object, OBJECT, about)
            elif word == "Y":
                digits = len(self.vocabulary.categories)  # a category of their own
                for digit in year or []:
                    self._add(ids[lexicon.DIGITS[digit]], -1, digits, DIGIT, about)
            elif word == "D":
                self._add(pick(self.determiners, self.random()), -1, -1, FUNCTION, about)
            else:
                self._add(ids[word], -1, -1, FUNCTION, about)

    def _content(self, concept: int, slot: int, about: tuple[int, int, int]) -> None:
        """A form of a concept, in gloss documents with another form in brackets."""
        relation, subject, where = about
        forms, category = self.vocabulary.forms, self.vocabulary.concepts[concept].category
        word = pick(forms[LANGUAGES[where]][concept], self.random())
        self._add(word, concept, category, slot, about)
        if self.kind != "gloss" or self.random() >= GLOSSED:
            return
        others = [i for i in forms[LANGUAGES[where]][concept].things if i != word]
        if self.random() < TRANSLATED or not others:
            inside = (relation, subject, 1 - where)
            gloss = pick(forms[LANGUAGES[1 - where]][concept], self.random())
        else:
            inside, gloss = about, others[int(self.random() * len(others))]
        left, right = (self.vocabulary.ids[mark] for mark in lexicon.BRACKETS)
        self._add(left, -1, -1, FUNCTION, about)
        self._add(gloss, concept, category, GLOSS, inside)
        self._add(right, -1, -1, FUNCTION, about)

    def _add(
        self, word: int, concept: int, category: int, slot: int, about: tuple[int, int, int]
    ) -> None:
        relation, subject, language = about
        self.page.add(word, concept, category, relation, slot, subject, language)
