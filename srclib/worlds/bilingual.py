"""A corpus in English and Japanese whose every token carries its truth; nothing is downloaded.

96 concepts with their spellings, 14 relations whose facts are the same in both languages, a
small grammar (English SVO, Japanese SOV). Documents are English, Japanese, sentence by sentence
with their translation (`par`), or with glosses in brackets (`gloss`).

    world = BilingualWorld()
    tokens = column(world.documents(15_000, mix={"en": 3, "ja": 3, "gloss": 4}), "tokens")
    texts = world.documents(1_300, "analysis", mix={"en": 1, "ja": 1})
    shown = Evidence(world, texts).at(torch.tensor([0]), torch.tensor([5]))
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import pad

from ..errors import DataError, ParameterError, message, whole
from . import engine
from .bilingual_grammar import KINDS, LANGUAGES, SLOTS, Kind, Language, Lexicon, Page, Token

LENGTH = 48  # tokens of a document behind BOS
ANALYSIS: Mapping[Kind, float] = {"en": 1, "ja": 1}  # pure texts, one to one
DOCUMENT = engine.columns("text:text kind:text " + " ".join(f"{x}:ints" for x in Token._fields))
FACT = engine.columns(
    "relation:text subject:int object:int language:text said_in:texts prompt:ints answers:ints"
)


class BilingualWorld(Lexicon):
    """`seed` draws the facts, the popularity of concepts and the texts; the words are fixed.

    words: a word's place is its token id; `<pad> <bos> <eos> <unk>` come first.
    concepts: with name, category and forms by language. concept_of: the concept of each token id;
        -1 for function words, digits and marks.
    categories, relations: names; the category number behind the last is that of digits, the
        relation number behind the last that of sentences about a year.

    Raises ParameterError for what is no seed.
    """

    slots = SLOTS

    def documents(
        self,
        n: int,
        split: str = "train",
        *,
        mix: Mapping[Kind, float] = ANALYSIS,
        length: int = LENGTH,
    ) -> Dataset:
        """`n` documents of `length` tokens behind BOS, a pure function of (world, arguments).

        split: any name; each has streams of its own, facts are the same in all. Document i does
            not depend on n. mix: relative frequency of the kinds en, ja, par and gloss.

        Columns: text, kind, tokens (BOS first) and, as long as tokens and -1 where there is none:
        concept; category; relation and subject (a concept) of the sentence; slot; language (0 is
        English, 1 Japanese). Raises ParameterError.
        """
        whole("n", n, 1)
        whole("length", length, 1)
        kinds, weights = _checked(mix)
        rows = []
        for i in range(n):
            # One stream per document, so that document i is the same whatever n is.
            draws = engine.chance(self.seed, "bilingual world", "text", split, i)
            kind = draws.choices(kinds, weights)[0]
            written = Page(self, kind, draws.random).document(length)
            row = dict(zip(Token._fields, zip(*written, strict=True), strict=True))
            text = " ".join(self.words[i] for i in row["tokens"][1:])
            rows.append({"text": text, "kind": kind} | row)
        return Dataset.from_list(rows, features=DOCUMENT)

    def facts(self) -> Dataset:
        """Every fact in each language, as a prompt and the ids that answer it.

        Columns: relation, subject and object (concepts), language of the prompt, said_in (the
        languages whose texts state the fact), prompt (BOS first, most frequent spelling), answers
        (every spelling of the object in the prompt's language).
        """
        rows, the = [], self.ids[self.data["determiners"].split()[0]]
        for fact, where in product(self.drawn_facts(), range(len(LANGUAGES))):
            name, language = self.relations[fact.relation], LANGUAGES[where]
            forms = self.forms[language]
            slots = {"S": [forms[fact.subject].things[0]], "D": [the]}
            # The first English and the second Japanese wording name the relation before the object.
            before = self.data["relations"][name][language][where].partition("O")[0]
            prompt = [engine.BOS, *engine.fill(before, slots, self.ids.__getitem__)]
            row = {"relation": name, "subject": fact.subject, "object": fact.object}
            row |= {"language": language, "said_in": fact.said_in, "prompt": prompt}
            rows.append(row | {"answers": forms[fact.object].things})
        return Dataset.from_list(rows, features=FACT)


def column(documents: Dataset, name: str) -> Tensor:
    """A column of equally long rows, `tokens` or one of the truth: int64 [n_documents, length + 1].

    Raises DataError for another column.
    """
    if name not in Token._fields:
        raise DataError(message("name", name, ", ".join(Token._fields), "Pick one of them."))
    return torch.as_tensor(documents.with_format("numpy")[name][:]).long()


def _checked(mix: Mapping[Kind, float]) -> tuple[list[Kind], list[float]]:
    unknown = [kind for kind in mix if kind not in KINDS]
    if unknown or not mix or min(mix.values()) < 0 or sum(mix.values()) <= 0:
        allowed = f"weights >= 0 of {', '.join(KINDS)}, one of them positive"
        raise ParameterError(message("mix", dict(mix), allowed, 'Use {"en": 1, "ja": 1}.'))
    kinds = [kind for kind in KINDS if kind in mix]  # the order of the caller does not count
    return kinds, [mix[kind] for kind in kinds]


class Shown(NamedTuple):
    """One token per text, with its truth: the arguments of `methods.latents.oracle` and `trend`."""

    tokens: list[str]
    concepts: list[int | None]
    meanings: dict[str, list[int | None]]
    neighbours: dict[str, list[str | None]]
    languages: list[Language | None]
    topics: list[int | None]


class Evidence:
    """The truth of `documents`; position 0 is the token behind BOS.

    Besides the columns of the world: the category of the following content word, without which
    latents that prepare a kind of word would look uninterpretable, and `topic`, the category of the
    subject: one for the whole text, so it says what the text is about and nothing of the word.

    tokens, concept, language, topic and each of `meanings`: [n_documents, length], -1 where there
    is none.
    """

    def __init__(self, world: BilingualWorld, documents: Dataset) -> None:
        category, relation, subject, self.tokens, self.concept, self.language = (
            column(documents, name)[:, 1:]
            for name in ("category", "relation", "subject", "tokens", "concept", "language")
        )
        categories = torch.tensor([c.category for c in world.concepts])
        self.world = world
        self.meanings = {
            "category": category,
            "relation": relation,
            "next category": following(torch.where(self.concept >= 0, category, -1)),
            "subject": subject,
        }
        self.topic = torch.where(subject >= 0, categories[subject.clamp(min=0)], -1)

    def at(self, documents: Tensor, positions: Tensor) -> Shown:
        """The tokens at (document, position), both [n_texts]; no neighbour beyond the text."""
        where, names = (documents, positions), [*self.world.words, None]  # [-1] is None
        around = pad(self.tokens, (1, 1), value=-1)
        before, after = (around[documents, positions + i].tolist() for i in (0, 2))
        return Shown(
            [self.world.words[i] for i in self.tokens[where].tolist()],
            _labels(self.concept[where]),
            {name: _labels(table[where]) for name, table in self.meanings.items()},
            {"before": [names[i] for i in before], "after": [names[i] for i in after]},
            [LANGUAGES[i] for i in self.language[where].tolist()],
            _labels(self.topic[where]),
        )


def _labels(values: Tensor) -> list[int | None]:
    return [None if value < 0 else value for value in values.tolist()]


def following(category: Tensor) -> Tensor:
    """For each place the next value >= 0 behind it in its row, else -1."""
    found, newest = torch.full_like(category, -1), torch.full_like(category[:, 0], -1)
    for place in reversed(range(category.shape[1])):
        found[:, place] = newest
        newest = torch.where(category[:, place] >= 0, category[:, place], newest)
    return found
