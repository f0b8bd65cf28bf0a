"""A text corpus of our own: every token carries its truth, and nothing is downloaded.

Topics, people with a city, a job and an animal, cities in countries, a register and a tense for
each document: the known variables that offline counterparts of SAEBench's metrics ask for. The
words are English (`lexicon`), the grammar is small (`grammar`), the facts are drawn (`facts`).

    world = TextWorld()
    rows = world.pack(world.documents(20_000), context=128)  # [n_rows, 128]
    casual, formal = (world.documents(500, "test", formal=f) for f in (False, True))
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasets import Dataset, Features, Sequence, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .. import rng
from ..errors import ParameterError, message
from . import lexicon, packing
from .facts import N_WORDINGS, ROLES, Fact, all_facts, statement
from .grammar import Grammar, Writer
from .tokenizing import with_bos
from .vocabulary import Vocabulary

INTS = Sequence(Value("int32"))
DOCUMENT = Features(
    text=Value("string"),
    tokens=INTS,
    topic=Value("int32"),
    formal=Value("bool"),
    past=Value("bool"),
    word_class=INTS,
    role=INTS,
    entity=INTS,
)
FACT = Features(
    entity=Value("int32"),
    subject=Value("int32"),
    relation=Value("string"),
    prompt=INTS,
    entity_position=Value("int32"),
    answer=Value("int32"),
    wording=Value("int32"),
    topic=Value("int32"),
)


@dataclass(frozen=True)
class TextWorld:
    """A world of `n_topics` topics and `n_people` people; `seed` draws its facts and its texts.

    The words and their popularity are the same for every seed. Raises ParameterError.
    """

    seed: int = 0
    n_topics: int = 12
    n_people: int = 128

    def __post_init__(self) -> None:
        rng.derive(self.seed)  # refuses what is no seed
        _whole("n_topics", self.n_topics, 2, len(lexicon.TOPICS))
        _whole("n_people", self.n_people, 2, len(lexicon.NAMES.split()))

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.n_topics, self.n_people)

    @cached_property
    def _facts(self) -> tuple[Fact, ...]:
        return all_facts(self._vocabulary, self.seed)

    @cached_property
    def _grammar(self) -> Grammar:
        return Grammar(self._vocabulary, self._facts)

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: a word's place is its token id; `<pad> <bos> <eos> <unk>` come first."""
        return self._vocabulary.words

    @property
    def topics(self) -> tuple[str, ...]:
        return self._vocabulary.topics

    @property
    def word_classes(self) -> tuple[str, ...]:
        """Names of the word classes, such as `city`, `preposition`, `law noun`."""
        return self._vocabulary.class_names

    @property
    def class_of(self) -> tuple[int, ...]:
        """The word class of each token id: no word is in two."""
        return self._vocabulary.class_of

    @property
    def roles(self) -> tuple[str, ...]:
        return ROLES

    @property
    def people(self) -> tuple[int, ...]:
        """The token id of each person; a place in it is an `entity`."""
        return self.members("person")

    @cached_property
    def attributes(self) -> dict[str, tuple[int, ...]]:
        """For each relation of people (city, job, animal) the answer's token id per person."""
        names = [name for name, relation in lexicon.RELATIONS.items() if relation.of == "person"]
        return {
            name: tuple(fact.answer for fact in self._facts if fact.relation == name)
            for name in names
        }

    def members(self, word_class: str) -> tuple[int, ...]:
        """Token ids of a word class by its name, in order of popularity."""
        if word_class not in self._vocabulary.classes:
            allowed = ", ".join(self.word_classes)
            raise ParameterError(message("word_class", word_class, allowed, "Pick one of them."))
        return self._vocabulary.members(word_class)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token per word, BOS put first: `tokenizer(text)` gives back a document's `tokens`."""
        model = models.WordLevel(self._vocabulary.ids, unk_token=lexicon.SPECIALS[lexicon.UNK])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return with_bos(tokenizer, lexicon.SPECIALS)

    def documents(
        self,
        n: int,
        split: str = "train",
        *,
        topic: int | None = None,
        formal: bool | None = None,
        past: bool | None = None,
        confounded: bool = False,
    ) -> Dataset:
        """`n` documents of four to eight sentences, a pure function of (world, arguments).

        split: any name; each has a stream of its own, facts are the same in all. Document i does
            not depend on n.
        topic, formal, past: given, all documents have it; left out, each draws its own, uniformly
            and independently. Document i stays the same in everything else: two datasets that
            differ in `formal` or `past` alone are minimal pairs, word against word.
        confounded: past = formal in every document.

        Columns: text; tokens (BOS first); topic, formal, past; and as long as tokens: word_class
        and role (places in `word_classes` and `roles`), entity (the person that the token names,
        or -1). Raises ParameterError.
        """
        _whole("n", n, 1)
        self._check(split, topic, formal, past, confounded)
        labels, tokens, roles = list[tuple[int, bool, bool]](), list[list[int]](), list[list[int]]()
        for i in range(n):
            draw = random.Random(rng.derive(self.seed, "text world", "document", split, i)).random
            # All three are drawn whether needed or not: what follows must not move.
            own = int(draw() * self.n_topics), draw() < 0.5, draw() < 0.5
            is_formal = own[1] if formal is None else formal
            is_past = is_formal if confounded else own[2] if past is None else past
            labels.append((own[0] if topic is None else topic, is_formal, is_past))
            ids, said_as = Writer(self._grammar, draw, *labels[-1]).document()
            tokens.append(ids)
            roles.append(said_as)
        return self._dataset(labels, tokens, roles)

    def facts(self) -> Dataset:
        """Every fact in four wordings (two present, the same two past), as a prompt and an answer.

        Columns: entity (person, or -1), subject (token id of the word that the fact is about),
        relation, prompt (token ids, BOS first, up to the answer), entity_position (of subject in
        prompt), answer (token id), wording (0 to 3), topic (-1 where no topic owns the fact).
        """
        person = {word: i for i, word in enumerate(self.people)}
        rows = list[dict[str, Any]]()
        for fact in self._facts:
            for wording in range(N_WORDINGS):
                said = statement(self._vocabulary, fact, wording)
                row = fact._asdict() | {"entity": person.get(fact.subject, -1), "wording": wording}
                row["prompt"] = [lexicon.BOS, *said.ids[:-1]]
                rows.append(row | {"entity_position": said.place + 1})
        return Dataset.from_list(rows, features=FACT)

    def pack(self, documents: Dataset, context: int) -> Tensor:
        """`packing.pack` of the column `tokens`: int64 [n_rows, context]."""
        return packing.pack(documents["tokens"], context)

    def _check(
        self, split: object, topic: object, formal: object, past: object, confounded: object
    ) -> None:
        if not isinstance(split, str) or not split:
            raise ParameterError(message("split", split, "a name", 'Use "train" or "test".'))
        if topic is not None:
            _whole("topic", topic, 0, self.n_topics - 1)
        for name, value in (("formal", formal), ("past", past)):
            if value is not None and not isinstance(value, bool):
                allowed = "True, False or None"
                raise ParameterError(message(name, value, allowed, "None draws it per document."))
        if not isinstance(confounded, bool):
            fix = "True makes past equal to formal."
            raise ParameterError(message("confounded", confounded, "True or False", fix))
        if confounded and past is not None:
            fix = "A confounded document has past = formal: leave past out."
            raise ParameterError(message("past", past, "None where confounded=True", fix))

    def _dataset(
        self,
        labels: list[tuple[int, bool, bool]],
        tokens: list[list[int]],
        roles: list[list[int]],
    ) -> Dataset:
        """The columns; class and entity are properties of the word, so tables give them."""
        person = {word: i for i, word in enumerate(self.people)}
        entity_of = [person.get(i, -1) for i in range(len(self.words))]
        words, class_of = self.words, self.class_of
        topic, formal, past = zip(*labels, strict=True)
        columns = {
            "text": [" ".join([words[i] for i in ids[1:]]) for ids in tokens],
            "tokens": tokens,
            "topic": topic,
            "formal": formal,
            "past": past,
            "word_class": [[class_of[i] for i in ids] for ids in tokens],
            "role": roles,
            "entity": [[entity_of[i] for i in ids] for ids in tokens],
        }
        return Dataset.from_dict(columns, features=DOCUMENT)


def _whole(name: str, value: object, low: int, high: int | None = None) -> None:
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    inside = isinstance(value, int) and not isinstance(value, bool) and value >= low
    if not inside or (high is not None and value > high):  # type: ignore[operator]
        raise ParameterError(message(name, value, allowed, "Give such a number."))
