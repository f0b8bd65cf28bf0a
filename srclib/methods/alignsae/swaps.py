"""Concept swaps: which questions are asked, and what counts as success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import DataError, message


class Swaps(NamedTuple):
    """Swap i asks `question[i]` about relation `source[i]` and wants the answer of `target[i]`."""

    question: list[int]  # places in the questions
    person: list[int]
    source: Tensor  # [n]
    target: Tensor  # [n]
    wanted: list[str]  # what the person's value of the target relation is


def all_swaps(
    questions: Sequence[int],
    person: Sequence[int],
    relation: Sequence[int],
    values: Sequence[Sequence[str]],
    targets: Sequence[int] | None = None,
) -> Swaps:
    """Every question with every other relation whose value is a different one.

    questions: places of those asked, best the ones the model answers; person and relation: of all
    questions; values: what the answer to each would be for each of the relations. A person whose
    birth city is also the work city cannot show that the two were swapped. targets: relations that
    are wanted, by default all; of some there may be no swap, of all there must be one.
    """
    rows = [
        (q, person[q], relation[q], target, wanted)
        for q in questions
        for target, wanted in enumerate(values[q])
        if target != relation[q] and wanted != values[q][relation[q]]
        if targets is None or target in targets
    ]
    if not rows and targets is None:
        fix = "Train the language model for longer, or ask more people."
        raise DataError(message("swaps", 0, "at least one", fix))
    question, people, source, target, wanted = zip(*rows, strict=True) if rows else ((),) * 5
    ends = torch.tensor(source, dtype=torch.long), torch.tensor(target, dtype=torch.long)
    return Swaps(list(question), list(people), *ends, list(wanted))


def choosing(person: Sequence[int]) -> Tensor:
    """[n] bool: whether people take part in choices, and not in judging them: even numbers do."""
    return torch.tensor(person, dtype=torch.long) % 2 == 0


def only(todo: Swaps, rows: Tensor) -> Swaps:
    """Those swaps that rows [n], bool, names."""
    kept = rows.nonzero().flatten().tolist()
    question, person, wanted = ([each[i] for i in kept] for each in (todo[0], todo[1], todo[4]))
    return Swaps(question, person, todo.source[rows], todo.target[rows], wanted)


def exact(answers: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """[n] bool: the whole answer is the wanted one."""
    return torch.tensor([a == w for a, w in zip(answers, wanted, strict=True)])


def lenient(answers: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """[n] bool, the authors' test: one is part of the other, in lower case; dates by their parts.

    An answer of one letter passes where the wanted text contains it; an empty one never does.
    """
    alike = []
    for answer, text in zip(answers, wanted, strict=True):
        a, w = answer.lower().strip(), text.lower().strip()
        alike.append(bool(a) and (a in w or w in a or set(a.split()) == set(w.split())))
    return torch.tensor(alike)


def same_type(answers: Sequence[str], target: Tensor, values: Sequence[set[str]]) -> Tensor:
    """[n] bool: the answer has as many words as a value of the target, each of which occurs in one.

    A date that is nobody's birthday is a date; half a date, or two, is none.
    """
    words = [{word for value in each for word in value.split()} for each in values]
    lengths = [{len(value.split()) for value in each} for each in values]
    kept = [
        len(answer.split()) in lengths[t] and set(answer.split()) <= words[t]
        for answer, t in zip(answers, target.tolist(), strict=True)
    ]
    return torch.tensor(kept, dtype=torch.bool)
