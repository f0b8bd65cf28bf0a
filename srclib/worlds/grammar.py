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

from . import lexicon
from .chance import Weighted, pick, uniform, zipf
from .facts import (
    COMPLEMENT,
    FUNCTION,
    MODIFIER,
    N_WORDINGS,
    OBJECT,
    OBLIQUE,
    SPECIAL,
    SUBJECT,
    VERB,
    Fact,
    Statement,
    epithet,
    statement,
)
from .vocabulary import Vocabulary

T = TypeVar("T")
Forms = tuple[int, int, int, int]  # singular, plural, past singular, past plural

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

    def __init__(self, vocabulary: Vocabulary, facts: Sequence[Fact]) -> None:
        v = vocabulary
        one, more = (uniform(v.slots(text)) for text in lexicon.DETERMINERS)
        self.determiners = (one, more)
        self.prepositions = uniform(v.slots(lexicon.PREPOSITIONS))
        self.connectives = uniform(v.slots(lexicon.CONNECTIVES))
        self.intensifiers = uniform(v.slots(lexicon.INTENSIFIERS))
        self.reports = uniform([_register_pair(v, text) for text in lexicon.REPORTS.split()])
        self.be, self.seem = v.forms("be"), _register_pair(v, lexicon.SEEM)
        self.people = zipf(v.members("person"), PEOPLE)
        self.colours = zipf(v.members("colour"))
        self.things = uniform([zipf(v.members(k)) for k in ("job", "animal", "food", "tool")])
        self.cities = zipf(v.members("city"))
        self.nouns = [_pairs(v.members(f"{t} noun")) for t in v.topics]
        self.adjectives = [zipf(v.members(f"{t} adjective")) for t in v.topics]
        self.verbs = [
            zipf([v.forms("-".join(lexicon.verb(x))) for x in lexicon.TOPICS[t].verbs.split()])
            for t in v.topics
        ]
        words = ("which", "that", "and", "in", ".")
        self.which, self.that, self.and_, self.in_, self.stop = (v.ids[w] for w in words)
        said = {f: [statement(v, f, i) for i in range(N_WORDINGS)] for f in facts}
        self.of_topic = [[s for f, s in said.items() if f.topic == t] for t in range(v.n_topics)]
        self.of_city = [s for f, s in said.items() if f.relation == "country"]
        self.of_person = {p: list[list[Statement]]() for p in self.people.things}
        self.epithets = {f.subject: list[Statement]() for f in facts}
        for fact in facts:
            if fact.subject in self.of_person:
                self.of_person[fact.subject].append(said[fact])
            if lexicon.RELATIONS[fact.relation].epithet:
                self.epithets[fact.subject].append(epithet(v, fact))


class Writer:
    """Writes one document; `ids` and `roles` grow together, so a token's role is never guessed.

    draw: gives uniform numbers in [0, 1), all that the document takes from chance.
    """

    def __init__(
        self, grammar: Grammar, draw: Callable[[], float], topic: int, formal: bool, past: bool
    ) -> None:
        self.grammar, self.topic, self.formal, self.past = grammar, topic, formal, past
        self.random = draw
        self.ids, self.roles = [lexicon.BOS], [SPECIAL]

    def document(self) -> tuple[list[int], list[int]]:
        """Token ids, BOS first, and roles."""
        low, high = SENTENCES
        self.cast = [self._draw(self.grammar.people) for _ in range(CAST)]
        for _ in range(low + int(self.random() * (high - low + 1))):
            self._sentence()
        return self.ids, self.roles

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
        self._state(said[2 * self.past + int(self.random() * 2)])

    def _person(self, role: int) -> None:
        who = self._any(self.cast)
        self._say(who, role)
        if self.random() < EPITHETS["person"]:
            self._state(self._any(self.grammar.epithets[who]))

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
                self._state(self._any(g.epithets[noun[0]]))
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
                self._state(self._any(g.epithets[city]))
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

    def _state(self, words: Statement) -> None:
        self.ids.extend(words.ids)
        self.roles.extend(words.roles)

    def _say(self, word: int, role: int) -> None:
        self.ids.append(word)
        self.roles.append(role)

    def _draw(self, weighted: Weighted[T]) -> T:
        return pick(weighted, self.random())

    def _any(self, things: Sequence[T]) -> T:
        return things[int(self.random() * len(things))]


def _register_pair(vocabulary: Vocabulary, text: str) -> tuple[Forms, Forms]:
    casual, formal = text.split("/")
    return vocabulary.forms(casual), vocabulary.forms(formal)


def _pairs(nouns: Sequence[int]) -> Weighted[tuple[int, int]]:
    """(singular, plural), most popular first."""
    return zipf(list(zip(nouns[::2], nouns[1::2], strict=True)))
