"""What can truly be said of each token of the text world: the vocabulary of explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset

    from .text import TextWorld


def predicates(world: TextWorld, documents: Dataset, length: int) -> tuple[list[str], Tensor]:
    """Names, and a table [n_documents, length, n_predicates] bool of what holds where.

    Said of a token: its word, its class, its role, its place (the first three), the person's
    value of each attribute where it names one; said of its document: topic, formal, past. Only
    what holds somewhere is listed. Documents are cut or padded (nothing holds) to `length`.
    """
    tokens = _padded(documents["tokens"], length)
    entity = _padded(documents["entity"], length)
    there = tokens >= 0
    columns: dict[str, Tensor] = {}

    def each(kind: str, values: Tensor, names: tuple[str, ...]) -> None:
        for value in values.unique().tolist():
            if value >= 0:
                columns[f"{kind}: {names[value]}"] = values == value

    def whole(values: list[int]) -> Tensor:
        return torch.where(there, torch.tensor(values)[:, None], -1)

    each("word", tokens, world.words)
    each("class", _padded(documents["word_class"], length), world.word_classes)
    each("role", _padded(documents["role"], length), world.roles)
    place = torch.arange(length).expand_as(tokens)
    each("place", torch.where(there & (place < 3), place, -1), ("first", "second", "third"))
    for relation, answers in world.attributes.items():
        own = torch.tensor(answers)[entity.clamp(min=0)]
        each(relation, torch.where(entity >= 0, own, -1), world.words)
    each("topic", whole(documents["topic"]), world.topics)
    for attribute in ("formal", "past"):
        each(attribute, whole([int(v) for v in documents[attribute]]), ("no", "yes"))
    columns = {name: column & there for name, column in columns.items()}
    return list(columns), torch.stack(list(columns.values()), dim=-1)


def _padded(lists: list[list[int]], length: int) -> Tensor:
    """[n, length] int64, -1 behind the end."""
    table = torch.full((len(lists), length), -1)
    for row, values in zip(table, lists, strict=True):
        row[: len(values[:length])] = torch.tensor(values[:length])
    return table
