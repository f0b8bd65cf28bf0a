"""What is true of a token of the bilingual world, as `granularity` asks for it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .bilingual import BilingualWorld, column
from .bilingual_vocabulary import LANGUAGES, Language

if TYPE_CHECKING:
    from datasets import Dataset

MEANINGS = ("category", "relation", "next category", "subject", "subject category")


class Shown(NamedTuple):
    """One token per text, with its truth: the arguments of `granularity.oracle` and `trend`."""

    tokens: list[str]
    concepts: list[int | None]
    meanings: dict[str, list[int | None]]
    neighbours: dict[str, list[str | None]]
    languages: list[Language]


class Evidence:
    """The truth of `documents`; position 0 is the token behind BOS.

    Besides the columns of the world: the category of the following content word, and that of the
    subject of the sentence. Without these two, latents that prepare or remember a kind of word
    would look uninterpretable.
    """

    def __init__(self, world: BilingualWorld, documents: Dataset) -> None:
        self.world, self._documents = world, documents
        self.tokens = self._column("tokens")  # [n_documents, length]
        self.concept = self._column("concept")
        self.language = self._column("language")

    def _column(self, name: str) -> Tensor:
        return column(self._documents, name)[:, 1:]

    @cached_property
    def meanings(self) -> dict[str, Tensor]:
        """For each of MEANINGS a table [n_documents, length], -1 where there is none."""
        category, subject = self._column("category"), self._column("subject")
        categories = torch.tensor([c.category for c in self.world.concepts])
        return {
            "category": category,
            "relation": self._column("relation"),
            "next category": _following(torch.where(self.concept >= 0, category, -1)),
            "subject": subject,
            "subject category": torch.where(subject >= 0, categories[subject.clamp(min=0)], -1),
        }

    def at(self, documents: Tensor, positions: Tensor) -> Shown:
        """The tokens at (document, position), both [n_texts]."""
        where = (documents, positions)
        return Shown(
            [self.world.words[i] for i in self.tokens[where].tolist()],
            _labels(self.concept[where]),
            {name: _labels(table[where]) for name, table in self.meanings.items()},
            {
                "before": self._words(documents, positions, -1),
                "after": self._words(documents, positions, 1),
            },
            [LANGUAGES[i] for i in self.language[where].tolist()],
        )

    def _words(self, documents: Tensor, positions: Tensor, offset: int) -> list[str | None]:
        """The words `offset` places on; None beyond the text."""
        places = positions + offset
        inside = (places >= 0) & (places < self.tokens.shape[1])
        ids = self.tokens[documents, places.clamp(0, self.tokens.shape[1] - 1)]
        found = zip(ids.tolist(), inside.tolist(), strict=True)
        return [self.world.words[i] if there else None for i, there in found]


def _labels(values: Tensor) -> list[int | None]:
    return [None if value < 0 else value for value in values.tolist()]


def _following(category: Tensor) -> Tensor:
    """For each place the next value >= 0 behind it in its row, else -1."""
    found, newest = torch.full_like(category, -1), torch.full_like(category[:, 0], -1)
    for place in reversed(range(category.shape[1])):
        found[:, place] = newest
        newest = torch.where(category[:, place] >= 0, category[:, place], newest)
    return found
