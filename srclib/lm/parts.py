"""What a language model learns from: texts, which of their tokens count, what a step reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from .. import rng
from ..errors import DataError, ParameterError, message
from ..sources.rows import in_turn
from .models import LMConfig

PAD = 0  # never read: nothing attends to what comes later, and the mask leaves it out


@dataclass(frozen=True)
class Part:
    """Texts of one kind and how many of them a step reads.

    ids: [n_texts, length] int64, padded on the right. learnt: [n_texts, length] bool, the tokens
    to predict, never the first; None: every token but the first.
    """

    ids: Tensor
    learnt: Tensor | None
    n_batch: int


def answers(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], n: int) -> Part:
    """Questions, `n` a step, of which only the answers are learnt."""
    pairs = list(zip(prompts, answers, strict=True))
    return _part([[*p, *a] for p, a in pairs], [len(p) for p, _ in pairs], n)


def texts(tokens: Sequence[Sequence[int]], n: int) -> Part:
    """Whole texts, `n` a step, of which every token after the first is learnt."""
    return _part([list(text) for text in tokens], [1] * len(tokens), n)


def packed(cfg: LMConfig, tokens: Tensor) -> Part:
    """Rows that are learnt whole."""
    shape = f"[n_rows >= {cfg.n_batch} (n_batch), {cfg.context} (context)]"
    if tokens.ndim != 2 or len(tokens) < cfg.n_batch or tokens.shape[1] != cfg.context:
        fix = "Cut the corpus into rows of the context's length."
        raise DataError(message("tokens.shape", tuple(tokens.shape), shape, fix))
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise DataError(message("tokens.dtype", tokens.dtype, "an integer type", "Give ids."))
    return Part(tokens.cpu().long(), None, cfg.n_batch)


def _part(rows: list[list[int]], first_learnt: list[int], n_batch: int) -> Part:
    if n_batch < 1 or not rows:
        seen = (len(rows), n_batch)
        fix = "Give some texts."
        raise ParameterError(message("(texts, n_batch)", seen, "at least 1 each", fix))
    for i, (row, first) in enumerate(zip(rows, first_learnt, strict=True)):
        if len(row) <= first:
            raise DataError(message(f"text {i}", row, "at least one token to learn", "Drop it."))
    ids = torch.full((len(rows), max(map(len, rows))), PAD)
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    for i, (row, first) in enumerate(zip(rows, first_learnt, strict=True)):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        learnt[i, first : len(row)] = True
    return Part(ids, learnt, n_batch)


def part_loss(model: PreTrainedModel, ids: Tensor, learnt: Tensor | None) -> Tensor:
    """Mean cross entropy in nats of the learnt tokens of a batch [n, length]."""
    ids = ids.to(model.device)
    logits, targets = model(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:]
    if learnt is None:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    here = learnt[:, 1:].to(model.device)
    return F.cross_entropy(logits[here], targets[here])


def batch(cfg: LMConfig, part: Part, index: int, step: int) -> tuple[Tensor, Tensor | None]:
    """What step `step` reads of part `index`: epochs one after another, cut to the longest row."""
    names = ("epoch",) if part.learnt is None else ("part", index)
    rows = in_turn(
        step, part.n_batch, len(part.ids), lambda e: _order(cfg.seed, len(part.ids), *names, e)
    )
    if part.learnt is None:
        return part.ids[rows], None
    learnt = part.learnt[rows]
    length = int(learnt.any(dim=0).nonzero()[-1]) + 1
    return part.ids[rows, :length], learnt[:, :length]


@functools.lru_cache(maxsize=8)
def _order(seed: int, n_rows: int, *names: str | int) -> Tensor:
    """The rows of one epoch, remembered for its many steps."""
    return torch.randperm(n_rows, generator=rng.stream(seed, "lm", *names))
