"""The sentences of the text world.

    document  = sentence+
    sentence  = [connective] [person says that] clause .
    clause    = a fact in words  |  phrase verb phrase  |  phrase be [intensifier] adjective
    phrase    = person [epithet]  |  determiner [[intensifier] adjective] noun [tail]
              | phrase and phrase
    tail      = epithet  |  preposition phrase  |  in city [epithet]  |  which verb phrase
    epithet   = a fact about the word before: in tokyo, the baker, from peru

Verbs agree in number with their phrase, however long its tail is. A tense moves every verb, and a
register exchanges every word that has a partner in the other; neither changes a random draw, so
two documents that differ in them alone are equal in length, word against word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from .engine import BOS, Weighted, Writer, uniform, zipf
from .facts import Fact, Lexicon, Role, Token, inflected

Verb = tuple[int, int]  # singular, plural
Statements = list[list[Token]]  # of one fact

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
    """The lexicon as tables of token ids for one register and one tense."""

    def __init__(self, lexicon: Lexicon, facts: Sequence[Fact], formal: bool, past: bool) -> None:
        data, members = lexicon.data, lexicon.members
        self.ids = ids = lexicon.ids

        def side(text: str) -> list[str]:
            return [word.split("/")[-formal] for word in text.split()]

        def verb(text: str) -> Verb:
            *present, gone = [ids[form] for form in text.split("-")]
            return (gone, gone) if past else (present[-1], present[0])

        def function(text: str) -> Weighted[int]:
            return uniform([ids[word] for word in side(text)])

        self.determiners = [function(text) for text in data["determiners"]]
        self.prepositions = function(data["prepositions"])
        self.connectives = function(data["connectives"])
        self.intensifiers = function(data["intensifiers"])
        self.reports = uniform([verb(text) for text in side(data["reports"])])
        (self.seem,) = [verb(text) for text in side(data["seem"])]
        self.be = [ids[word] for word in data["be"].split()][2 * past :]
        self.people = zipf(members("person"), PEOPLE)
        self.colours, self.cities = zipf(members("colour")), zipf(members("city"))
        self.things = uniform([zipf(members(k)) for k in ("job", "animal", "food", "tool")])
        nouns = [members(f"{t} noun") for t in lexicon.topics]
        self.nouns = [zipf(list(zip(x[::2], x[1::2], strict=True))) for x in nouns]  # one, more
        self.adjectives = [zipf(members(f"{t} adjective")) for t in lexicon.topics]
        verbs = [data["topics"][t]["verbs"].split() for t in lexicon.topics]
        self.verbs = [zipf([verb(inflected(x)) for x in each]) for each in verbs]
        self.of_topic = [list[Statements]() for _ in lexicon.topics]
        self.of_city, self.of_person = list[Statements](), defaultdict[int, list[Statements]](list)
        self.epithets = defaultdict[int, list[list[Token]]](list)
        for fact in facts:
            relation = lexicon.relations[fact.relation]
            said = [lexicon.said(fact, text, past) for text in relation["wordings"]]
            if relation["of"] == "noun":
                self.of_topic[fact.topic].append(said)
            else:
                about = self.of_city if relation["of"] == "city" else self.of_person[fact.subject]
                about.append(said)
            if "epithet" in relation:
                self.epithets[fact.subject].append(lexicon.said(fact, relation["epithet"], past))


class Page(Writer):
    """One document, each token written with its role, so that no role is ever guessed."""

    def __init__(self, grammar: Grammar, topic: int, random: Callable[[], float]) -> None:
        super().__init__(random)
        self.grammar, self.topic = grammar, topic
        self.tokens: list[Token] = [(BOS, Role.SPECIAL)]

    def document(self) -> list[Token]:
        """BOS first."""
        low, high = SENTENCES
        self.cast = [self.pick(self.grammar.people) for _ in range(CAST)]
        for _ in range(low + int(self.random() * (high - low + 1))):
            self._sentence()
        return self.tokens

    def _sentence(self) -> None:
        g = self.grammar
        if self.random() < OPENS:
            self._say(self.pick(g.connectives), Role.FUNCTION)
        if self.random() < REPORTS:
            self._person(Role.SUBJECT)
            self._say(self.pick(g.reports)[False], Role.VERB)
            self._say(g.ids["that"], Role.FUNCTION)
        self._clause()
        self._say(g.ids["."], Role.FUNCTION)

    def _clause(self) -> None:
        g = self.grammar
        if self.random() < STATES_FACT:
            kind = self.random()
            if kind < FACT_KINDS[0]:
                said = self.any(g.of_person[self.any(self.cast)])
            else:
                said = self.any(g.of_topic[self.topic] if kind < FACT_KINDS[1] else g.of_city)
            self.tokens += self.any(said)
            return
        plural = self._phrase(Role.SUBJECT, 0)
        if self.random() >= LINKS:
            self._verb_phrase(plural, 0)
            return
        self._say((g.seem if self.random() < SEEMS else g.be)[plural], Role.VERB)
        self._adjective(Role.COMPLEMENT)

    def _person(self, role: Role) -> None:
        who = self.any(self.cast)
        self._name("person", who, who, role)

    def _phrase(self, role: Role, depth: int) -> bool:
        """A person or nouns with all that belongs to them; says whether it is plural."""
        if self.random() < IS_PERSON:
            self._person(role)
            plural = False
        else:
            plural = self._noun_phrase(role, depth)
        if depth < MAX_DEPTH and self.random() < AND:
            self._say(self.grammar.ids["and"], Role.FUNCTION)
            self._noun_phrase(role, MAX_DEPTH)
            return True
        return plural

    def _noun_phrase(self, role: Role, depth: int) -> bool:
        g, is_thing = self.grammar, self.random() < IS_THING
        plural = self.random() < PLURAL and not is_thing
        self._say(self.pick(g.determiners[plural]), Role.FUNCTION)
        if self.random() < ADJECTIVE:
            self._adjective(Role.MODIFIER)
        if is_thing:
            self._say(self.pick(self.pick(g.things)), role)
        else:
            noun = self.pick(g.nouns[self.topic])
            if self._name("noun", noun[plural], noun[0], role):
                return plural
        if depth < MAX_DEPTH:
            self._tail(plural, depth)
        return plural

    def _tail(self, plural: bool, depth: int) -> None:
        g, kind = self.grammar, self.random()
        if kind < TAILS[0]:
            self._say(self.pick(g.prepositions), Role.FUNCTION)
            self._phrase(Role.OBLIQUE, depth + 1)
        elif kind < TAILS[1]:
            self._say(g.ids["in"], Role.FUNCTION)
            city = self.pick(g.cities)
            self._name("city", city, city, Role.OBLIQUE)
        elif kind < TAILS[2]:
            self._say(g.ids["which"], Role.FUNCTION)
            self._verb_phrase(plural, depth + 1)

    def _verb_phrase(self, plural: bool, depth: int) -> None:
        self._say(self.pick(self.grammar.verbs[self.topic])[plural], Role.VERB)
        self._phrase(Role.OBJECT, depth)

    def _adjective(self, role: Role) -> None:
        g = self.grammar
        if self.random() < INTENSIFIED:
            self._say(self.pick(g.intensifiers), Role.MODIFIER)
        coloured = self.random() < COLOURED
        self._say(self.pick(g.colours if coloured else g.adjectives[self.topic]), role)

    def _name(self, kind: str, word: int, about: int, role: Role) -> bool:
        """Says a noun, often with an epithet; whether it has got one."""
        self._say(word, role)
        if self.random() >= EPITHETS[kind]:
            return False
        self.tokens += self.any(self.grammar.epithets[about])
        return True

    def _say(self, word: int, role: Role) -> None:
        self.tokens.append((word, role))
