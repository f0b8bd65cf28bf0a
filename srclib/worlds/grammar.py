"""The sentences of the text world.

    document  = sentence+
    sentence  = [connective] [person says that] clause .
    clause    = a fact in words  |  phrase verb phrase  |  phrase be [intensifier] adjective
    phrase    = person [epithet]  |  determiner [[intensifier] adjective] noun [tail]
              | phrase and phrase
    tail      = epithet  |  preposition phrase  |  in city [epithet]  |  which verb phrase
    epithet   = a fact about the word before: in tokyo, the baker, from peru

Verbs agree in number with their phrase, however long its tail is. `past` moves every verb, and
`formal` exchanges every word that has a partner in the other register; neither changes a random
draw, so two documents that differ in them alone are equal in length, word against word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from .engine import BOS, Weighted, pick, uniform, zipf
from .facts import (
    COMPLEMENT,
    FUNCTION,
    MODIFIER,
    OBJECT,
    OBLIQUE,
    SPECIAL,
    SUBJECT,
    VERB,
    Fact,
    Forms,
    Lexicon,
    Token,
    inflected,
)

T = TypeVar("T")

# How often: shares chosen so that a model of a quarter of a million parameters has both grammar
# and facts to learn in a million tokens.
STATES_FACT = 0.55  # a clause states a fact
FACT_KINDS = (0.6, 0.95)  # ... of a person; else of the topic; else of a city
OPENS = 0.4  # a sentence opens with a connective
REPORTS = 0.15  # a sentence reports what somebody says
IS_PERSON, IS_THING = 0.25, 0.2  # a phrase is a person; else a thing, not a noun of the topic
EPITHETS = {"person": 0.7, "noun": 0.2, "city": 0.5}  # shares that an epithet follows
PEOPLE = 0.6  # exponent: the many facts are learnt sooner where some people are met more often
PLURAL, AND = 0.4, 0.06
ADJECTIVE, INTENSIFIED, COLOURED = 0.35, 0.5, 0.3
TAILS = (0.15, 0.27, 0.42)  # cumulative: prepositional phrase, city, relative clause
LINKS, SEEMS = 0.3, 0.4  # a clause says what its subject is; ... seems
MAX_DEPTH = 2  # phrases within phrases
CAST = 3  # people of a document
SENTENCES = (4, 9)


class Grammar:
    """The lexicon as tables of token ids, made once per world."""

    def __init__(self, lexicon: Lexicon, facts: Sequence[Fact]) -> None:
        v, data = lexicon, lexicon.data

        def both(verbs: str) -> tuple[Forms, ...]:
            return tuple(map(v.forms, verbs.split("/")))  # casual, formal

        self.determiners = [uniform(v.slots(text)) for text in data["determiners"]]
        self.prepositions, self.connectives, self.intensifiers = (
            uniform(v.slots(data[kind])) for kind in ("prepositions", "connectives", "intensifiers")
        )
        self.reports = uniform([both(verbs) for verbs in data["reports"].split()])
        one, more, was, were = (v.ids[word] for word in data["be"].split())
        self.be, self.seem = (one, more, was, were), both(data["seem"])
        self.people = zipf(v.members("person"), PEOPLE)
        self.colours, self.cities = zipf(v.members("colour")), zipf(v.members("city"))
        self.things = uniform([zipf(v.members(k)) for k in ("job", "animal", "food", "tool")])
        nouns = [v.members(f"{t} noun") for t in v.topics]
        self.nouns = [zipf(list(zip(x[::2], x[1::2], strict=True))) for x in nouns]  # one, more
        self.adjectives = [zipf(v.members(f"{t} adjective")) for t in v.topics]
        verbs = [map(inflected, data["topics"][t]["verbs"].split()) for t in v.topics]
        self.verbs = [zipf([v.forms(verb) for verb in each]) for each in verbs]
        words = ("which", "that", "and", "in", ".")
        self.which, self.that, self.and_, self.in_, self.stop = (v.ids[w] for w in words)
        said = {f: v.statements(f) for f in facts}
        self.of_topic = [[s for f, s in said.items() if f.topic == t] for t in range(len(v.topics))]
        self.of_city = [s for f, s in said.items() if f.relation == "country"]
        about = {f.subject: list[Fact]() for f in facts}
        for fact in facts:
            about[fact.subject].append(fact)
        self.of_person = {p: [said[f] for f in about[p]] for p in self.people.things}
        self.epithets = {p: [e for f in each if (e := v.epithet(f))] for p, each in about.items()}


class Writer:
    """Writes one document, each token with its role, so that no role is ever guessed.

    draw: gives uniform numbers in [0, 1), all that the document takes from chance.
    """

    def __init__(
        self, grammar: Grammar, draw: Callable[[], float], topic: int, formal: bool, past: bool
    ) -> None:
        self.grammar, self.topic, self.formal, self.past = grammar, topic, formal, past
        self.random = draw
        self.tokens: list[Token] = [(BOS, SPECIAL)]

    def document(self) -> list[Token]:
        """BOS first."""
        low, high = SENTENCES
        self.cast = [self._draw(self.grammar.people) for _ in range(CAST)]
        for _ in range(low + int(self.random() * (high - low + 1))):
            self._sentence()
        return self.tokens

    def _sentence(self) -> None:
        g = self.grammar
        if self.random() < OPENS:
            self._say(self._draw(g.connectives)[self.formal], FUNCTION)
        if self.random() < REPORTS:
            self._person(SUBJECT)
            self._verb(self._draw(g.reports)[self.formal], False)
            self._say(g.that, FUNCTION)
        self._clause()
        self._say(g.stop, FUNCTION)

    def _clause(self) -> None:
        g = self.grammar
        if self.random() < STATES_FACT:
            self._fact()
            return
        plural = self._phrase(SUBJECT, 0)
        if self.random() >= LINKS:
            self._verb_phrase(plural, 0)
            return
        self._verb(g.seem[self.formal] if self.random() < SEEMS else g.be, plural)
        self._adjective(COMPLEMENT)

    def _fact(self) -> None:
        g, kind = self.grammar, self.random()
        if kind < FACT_KINDS[0]:
            said = self._any(g.of_person[self._any(self.cast)])
        else:
            said = self._any(g.of_topic[self.topic] if kind < FACT_KINDS[1] else g.of_city)
        self.tokens += said[2 * self.past + int(self.random() * 2)]

    def _person(self, role: int) -> None:
        who = self._any(self.cast)
        self._say(who, role)
        if self.random() < EPITHETS["person"]:
            self.tokens += self._any(self.grammar.epithets[who])

    def _phrase(self, role: int, depth: int) -> bool:
        """A person or nouns with all that belongs to them; says whether it is plural."""
        if self.random() < IS_PERSON:
            self._person(role)
            plural = False
        else:
            plural = self._noun_phrase(role, depth)
        if depth < MAX_DEPTH and self.random() < AND:
            self._say(self.grammar.and_, FUNCTION)
            self._noun_phrase(role, MAX_DEPTH)
            return True
        return plural

    def _noun_phrase(self, role: int, depth: int) -> bool:
        g, is_thing = self.grammar, self.random() < IS_THING
        plural = self.random() < PLURAL and not is_thing
        self._say(self._draw(g.determiners[plural])[self.formal], FUNCTION)
        if self.random() < ADJECTIVE:
            self._adjective(MODIFIER)
        if is_thing:
            self._say(self._draw(self._draw(g.things)), role)
        else:
            noun = self._draw(g.nouns[self.topic])
            self._say(noun[plural], role)
            if self.random() < EPITHETS["noun"]:
                self.tokens += self._any(g.epithets[noun[0]])
                return plural
        if depth < MAX_DEPTH:
            self._tail(plural, depth)
        return plural

    def _tail(self, plural: bool, depth: int) -> None:
        g, kind = self.grammar, self.random()
        if kind < TAILS[0]:
            self._say(self._draw(g.prepositions)[self.formal], FUNCTION)
            self._phrase(OBLIQUE, depth + 1)
        elif kind < TAILS[1]:
            self._say(g.in_, FUNCTION)
            city = self._draw(g.cities)
            self._say(city, OBLIQUE)
            if self.random() < EPITHETS["city"]:
                self.tokens += self._any(g.epithets[city])
        elif kind < TAILS[2]:
            self._say(g.which, FUNCTION)
            self._verb_phrase(plural, depth + 1)

    def _verb_phrase(self, plural: bool, depth: int) -> None:
        self._verb(self._draw(self.grammar.verbs[self.topic]), plural)
        self._phrase(OBJECT, depth)

    def _verb(self, forms: Forms, plural: bool) -> None:
        self._say(forms[2 * self.past + plural], VERB)

    def _adjective(self, role: int) -> None:
        g = self.grammar
        if self.random() < INTENSIFIED:
            self._say(self._draw(g.intensifiers)[self.formal], MODIFIER)
        coloured = self.random() < COLOURED
        self._say(self._draw(g.colours if coloured else g.adjectives[self.topic]), role)

    def _say(self, word: int, role: int) -> None:
        self.tokens.append((word, role))

    def _draw(self, weighted: Weighted[T]) -> T:
        return pick(weighted, self.random())

    def _any(self, things: Sequence[T]) -> T:
        return things[int(self.random() * len(things))]
