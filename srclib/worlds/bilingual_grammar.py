"""The words of the bilingual world, what is true in it, and how a document is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from . import engine
from .engine import BOS, World, Writer, fill, unique, weighted, zipf

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")
Kind = Literal["en", "ja", "par", "gloss"]
KINDS: tuple[Kind, ...] = ("en", "ja", "par", "gloss")
SLOTS = ("special", "function", "subject", "object", "digit", "gloss")
SPECIAL, FUNCTION, SUBJECT, OBJECT, DIGIT, GLOSS = range(len(SLOTS))

SPELLINGS = (0.60, 0.25, 0.15)  # shares of a concept's forms; renormalised where there are fewer
POPULARITY = 0.8  # Zipf exponent inside a category
ONE_LANGUAGE = 0.1  # share of the facts that only English texts state, and only Japanese ones
NO_TOPIC = ("place", "colour")  # categories that no relation is about
CHANGES_SUBJECT = 0.35
STATES_YEAR = 0.15
NOISE = 0.10  # a fact is stated with a random object
GLOSSED = 0.5  # content words of a gloss document that get brackets
TRANSLATED = 0.7  # brackets that hold the other language, not another spelling


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


class Token(NamedTuple):
    """A token's id and its truth, -1 where there is none."""

    tokens: int
    concept: int = -1
    category: int = -1
    relation: int = -1
    slot: int = SPECIAL
    subject: int = -1
    language: int = -1


class Lexicon(World):
    """Words, ids and facts of the world of a seed; the words are the same for every seed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.data = seed, (data := engine.words_of("bilingual"))
        self.categories, self.relations = tuple(data["categories"]), tuple(data["relations"])
        self.concepts = tuple(_concepts(data["categories"].values()))
        self.members = [
            [i for i, concept in enumerate(self.concepts) if concept.category == category]
            for category in range(len(self.categories))
        ]
        owner = {
            form: i for i, c in enumerate(self.concepts) for x in LANGUAGES for form in c.forms[x]
        }
        shared = (*data["stop"].values(), data["gloss"], data["digits"], data["determiners"])
        wordings = [text for r in data["relations"].values() for text in (*r["en"], *r["ja"])]
        texts = (*engine.SPECIALS, *shared, *wordings, *data["years"].values(), *owner)
        self.words = unique(*texts, slots="S O D Y G")
        self.concept_of = tuple(owner.get(word, -1) for word in self.words)
        self.forms = {  # for each language and concept ids with their probabilities
            x: [weighted([self.ids[form] for form in c.forms[x]], SPELLINGS) for c in self.concepts]
            for x in LANGUAGES
        }
        self.popular = []  # the concepts of each category; one ranking for both languages
        for category, ranked in enumerate(map(list, self.members)):
            engine.chance(seed, "bilingual world", "popularity", category).shuffle(ranked)
            self.popular.append(zipf(ranked, POPULARITY))
        self.known = [list[Fact]() for _ in self.concepts]  # the facts about each concept
        for fact in self.drawn_facts():
            self.known[fact.subject].append(fact)

    def drawn_facts(self) -> Iterator[Fact]:
        """One object for each relation and subject, uniform over its category."""
        for number, (name, relation) in enumerate(self.data["relations"].items()):
            draw = engine.chance(self.seed, "bilingual world", "facts", name).random
            objects = self.members[self.categories.index(relation["to"])]
            for subject in self.members[self.categories.index(relation["of"])]:
                thing, u = objects[int(draw() * len(objects))], draw()
                said_in = LANGUAGES
                if u < 2 * ONE_LANGUAGE:
                    said_in = ("en",) if u < ONE_LANGUAGE else ("ja",)
                yield Fact(number, subject, thing, said_in)


def _concepts(categories: Iterable[str]) -> Iterator[Concept]:
    """All, category by category; a concept's place is its id."""
    for category, text in enumerate(categories):
        for line in text.strip().splitlines():
            english, japanese = (side.split() for side in line.split("|"))
            forms = (*english, english[0].capitalize())
            yield Concept(english[0], category, {"en": forms, "ja": tuple(japanese)})


class Page(Writer):
    """One document, each token written with its truth."""

    def __init__(self, lexicon: Lexicon, kind: Kind, random: Callable[[], float]) -> None:
        super().__init__(random)
        self.lexicon, self.kind = lexicon, kind
        self.determiners = zipf([lexicon.ids[word] for word in lexicon.data["determiners"].split()])
        topics = [i for i, name in enumerate(lexicon.categories) if name not in NO_TOPIC]
        self.topic, first = self.any(topics), self.any((0, 1))
        if kind in LANGUAGES:
            first = LANGUAGES.index(kind)
        self.order = (first, 1 - first) if kind == "par" else (first,)  # of languages
        self.tokens = [Token(BOS)]

    def document(self, length: int) -> list[Token]:
        """Sentences until `length` is reached behind BOS; the last is cut."""
        subject = self._new_subject()
        while len(self.tokens) <= length:
            if self.random() < CHANGES_SUBJECT:
                subject = self._new_subject()
            self._sentence(subject)
        return self.tokens[: length + 1]

    def _new_subject(self) -> int:
        return self.pick(self.lexicon.popular[self.topic])

    def _sentence(self, subject: int) -> None:
        """One statement, in each language of the document in turn."""
        lexicon, needed = self.lexicon, {LANGUAGES[i] for i in self.order}
        known = [fact for fact in lexicon.known[subject] if needed <= {*fact.said_in}]
        if not known or self.random() < STATES_YEAR:
            year = [1 + (u := int(self.random() * 2)), 0 if u else 9]
            year += [int(self.random() * 10), int(self.random() * 10)]
            for where in self.order:
                text = lexicon.data["years"][LANGUAGES[where]]
                self._say(text, where, Fact(len(lexicon.relations), subject, -1, ()), year)
            return
        fact = self.any(known)
        if self.random() < NOISE:
            things = lexicon.members[lexicon.concepts[fact.object].category]
            fact = fact._replace(object=self.any(things))
        wording, relation = int(self.random() * 2), lexicon.relations[fact.relation]
        for where in self.order:
            text = lexicon.data["relations"][relation][LANGUAGES[where]][wording]
            self._say(text, where, fact)

    def _say(self, text: str, where: int, fact: Fact, year: Sequence[int] = ()) -> None:
        lexicon, (relation, subject, thing, _) = self.lexicon, fact

        def plain(word: str) -> Token:
            token = self.pick(self.determiners) if word == "D" else lexicon.ids[word]
            return Token(token, -1, -1, relation, FUNCTION, subject, where)

        def named(concept: int, slot: int) -> Iterator[Token]:
            """A form of a concept, in gloss documents with another form in brackets."""
            category = lexicon.concepts[concept].category
            own, other = (lexicon.forms[LANGUAGES[i]][concept] for i in (where, 1 - where))
            word = self.pick(own)
            yield Token(word, concept, category, relation, slot, subject, where)
            if self.kind != "gloss" or self.random() >= GLOSSED:
                return
            others = [i for i in own.things if i != word]
            if self.random() < TRANSLATED or not others:
                gloss, inside = self.pick(other), 1 - where
            else:
                gloss, inside = self.any(others), where
            token = Token(gloss, concept, category, relation, GLOSS, subject, inside)
            yield from fill(lexicon.data["gloss"], {"G": [token]}, plain)

        digits = [lexicon.ids[str(digit)] for digit in year]
        beyond = len(lexicon.categories)  # the category of digits
        slots = {
            "S": named(subject, SUBJECT),
            "O": named(thing, OBJECT),
            "Y": [Token(i, -1, beyond, relation, DIGIT, subject, where) for i in digits],
        }
        self.tokens += fill(f"{text} {lexicon.data['stop'][LANGUAGES[where]]}", slots, plain)
