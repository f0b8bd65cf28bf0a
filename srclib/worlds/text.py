"""A text corpus of our own: every token carries its truth, and nothing is downloaded.

Topics, people with a city, a job and an animal, cities in countries, a register and a tense for
each document: the known variables that offline counterparts of SAEBench's metrics ask for. The
words are English (`words/text.toml`), the grammar is small (`grammar`), the facts are drawn.

    world = TextWorld()
    rows = world.pack(world.documents(20_000), context=128)  # [n_rows, 128]
    casual, formal = (world.documents(500, "test", formal=f) for f in (False, True))
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import torch
from datasets import Dataset
from torch import Tensor

from ..errors import ParameterError, message, whole
from . import engine
from .engine import BOS, columns, one_of
from .facts import Lexicon, Role
from .grammar import Grammar, Page

DOCUMENT = columns(
    "text:text tokens:ints topic:int formal:flag past:flag word_class:ints role:ints entity:ints"
)
FACT = columns(
    "entity:int subject:int relation:text prompt:ints entity_position:int answer:int wording:int"
    " topic:int"
)


class TextWorld(Lexicon):
    """A world of `n_topics` topics and `n_people` people; `seed` draws its facts and its texts.

    The words and their popularity are the same for every seed. Raises ParameterError.

    words: the vocabulary; a word's place is its token id, `<pad> <bos> <eos> <unk>` come first.
    topics, roles, word_classes: names, such as `city`, `preposition`, `law noun` of classes.
    class_of: the word class of each token id: no word is in two.
    people: the token id of each person; a place in it is an `entity`.
    attributes: for each relation of people (city, job, animal) the answer's token id per person.
    """

    roles = tuple(role.name.lower() for role in Role)

    def __init__(self, seed: int = 0, n_topics: int = 12, n_people: int = 128) -> None:
        super().__init__(n_topics, n_people)
        self.seed = seed
        self.people = self.members("person")
        self._facts = tuple(self.drawn_facts(seed))
        self.attributes = {
            name: tuple(fact.answer for fact in self._facts if fact.relation == name)
            for name, relation in self.relations.items()
            if relation["of"] == "person"
        }
        entity = {word: i for i, word in enumerate(self.people)}
        self._entity_of = [entity.get(word, -1) for word in range(len(self.words))]

    @cached_property
    def _grammars(self) -> dict[tuple[bool, bool], Grammar]:
        """By register and tense."""
        kinds = product((False, True), (False, True))
        return {kind: Grammar(self, self._facts, *kind) for kind in kinds}

    def documents(
        self,
        n: int,
        split: str = "train",
        *,
        topic: int | None = None,
        formal: bool | None = None,
        past: bool | None = None,
    ) -> Dataset:
        """`n` documents of four to eight sentences, a pure function of (world, arguments).

        split: any name; each has a stream of its own, facts are the same in all. Document i does
            not depend on n.
        topic, formal, past: given, all documents have it; left out, each draws its own, uniformly
            and independently. Document i stays the same in everything else: two datasets that
            differ in `formal` or `past` alone are minimal pairs, word against word.

        Columns: text; tokens (BOS first); topic, formal, past; and as long as tokens: word_class
        and role (places in `word_classes` and `roles`), entity (the person that the token names,
        or -1). Raises ParameterError.
        """
        whole("n", n, 1)
        if not isinstance(split, str) or not split:
            raise ParameterError(message("split", split, "a name", 'Use "train" or "test".'))
        one_of("topic", topic, (None, *range(len(self.topics))))
        one_of("formal", formal, (None, True, False))
        one_of("past", past, (None, True, False))
        rows = []
        for i in range(n):
            draw = engine.chance(self.seed, "text world", "document", split, i).random
            # All three are drawn whether needed or not: what follows must not move.
            own = int(draw() * len(self.topics)), draw() < 0.5, draw() < 0.5
            is_formal = own[1] if formal is None else formal
            is_past = own[2] if past is None else past
            about = own[0] if topic is None else topic
            page = Page(self._grammars[is_formal, is_past], about, draw)
            ids, roles = zip(*page.document(), strict=True)
            rows.append(
                {
                    "text": " ".join([self.words[i] for i in ids[1:]]),
                    "tokens": ids,
                    "topic": about,
                    "formal": is_formal,
                    "past": is_past,
                    "word_class": [self.class_of[i] for i in ids],
                    "role": roles,
                    "entity": [self._entity_of[i] for i in ids],
                }
            )
        return Dataset.from_list(rows, features=DOCUMENT)

    def facts(self) -> Dataset:
        """Every fact in four wordings (two present, the same two past), as a prompt and an answer.

        Columns: entity (person, or -1), subject (token id of the word that the fact is about),
        relation, prompt (token ids, BOS first, up to the answer), entity_position (of subject in
        prompt), answer (token id), wording (0 to 3), topic (-1 where no topic owns the fact).
        """
        rows = []
        for fact in self._facts:
            wordings = product((False, True), self.relations[fact.relation]["wordings"])
            for wording, (past, text) in enumerate(wordings):
                prompt = [BOS, *(word for word, _ in self.said(fact, text, past)[:-1])]
                where, entity = prompt.index(fact.subject), self._entity_of[fact.subject]
                row = {"entity": entity, "wording": wording, "prompt": prompt}
                rows.append(fact._asdict() | row | {"entity_position": where})
        return Dataset.from_list(rows, features=FACT)

    def pack(self, documents: Dataset, context: int) -> Tensor:
        """`worlds.engine.pack` of the column `tokens`: int64 [n_rows, context]."""
        return engine.pack(documents["tokens"], context)


def predicates(world: TextWorld, documents: Dataset, length: int) -> tuple[list[str], Tensor]:
    """What can truly be said of each token: the vocabulary of explanations.

    Returns names, and a table [n_documents, length, n_predicates] bool of what holds where.

    Said of a token: its word, its class, its role, its place (the first three), the person's
    value of each attribute where it names one; said of its document: topic, formal, past. Only
    what holds somewhere is listed. Documents are cut or padded (nothing holds) to `length`.
    """
    tokens = _padded(documents["tokens"], length)
    entity = _padded(documents["entity"], length)
    there = tokens >= 0
    holds: dict[str, Tensor] = {}

    def each(kind: str, values: Tensor, names: tuple[str, ...]) -> None:
        found = values[there & (values >= 0)].unique().tolist()
        holds.update({f"{kind}: {names[value]}": (values == value) & there for value in found})

    def of_document(values: list[int]) -> Tensor:
        return torch.where(there, torch.tensor(values)[:, None], -1)

    each("word", tokens, world.words)
    each("class", _padded(documents["word_class"], length), world.word_classes)
    each("role", _padded(documents["role"], length), world.roles)
    place = torch.arange(length).expand_as(tokens)
    each("place", torch.where(there & (place < 3), place, -1), ("first", "second", "third"))
    for relation, answers in world.attributes.items():
        own = torch.tensor(answers)[entity.clamp(min=0)]
        each(relation, torch.where(entity >= 0, own, -1), world.words)
    each("topic", of_document(documents["topic"]), world.topics)
    for attribute in ("formal", "past"):
        each(attribute, of_document([int(v) for v in documents[attribute]]), ("no", "yes"))
    return list(holds), torch.stack(list(holds.values()), dim=-1)


def _padded(lists: list[list[int]], length: int) -> Tensor:
    """[n, length] int64, -1 behind the end."""
    return torch.tensor([(values + [-1] * length)[:length] for values in lists])
