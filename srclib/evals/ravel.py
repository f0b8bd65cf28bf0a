"""SAEBench RAVEL: can one attribute of an entity be exchanged without touching the others?

Huang et al. 2024 (arXiv:2402.17700), with SAEBench's mask over latents (MDBM).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .. import rng
from ..errors import DataError, message

Decode = Callable[[Tensor], Tensor]
LogitsOf = Callable[[Tensor, Tensor], Tensor]
"""(residual at the entity [n, d_in], index of the prompt [n]) -> next-token logits [n, vocab]"""


class Pairs(NamedTuple):
    """Interchanges between prompts, by index of the prompt; one entry per pair."""

    base: Tensor  # [n] the prompt that is answered
    source: Tensor  # [n] the prompt whose entity lends its latents
    label: Tensor  # [n] token that a faithful exchange makes the model say
    cause: Tensor  # [n] bool: the source's answer is expected; else the base's own

    def at(self, rows: Tensor) -> Pairs:
        """Some of the pairs (indices or a mask)."""
        return Pairs(*(each[rows] for each in self))


class Ravel(NamedTuple):
    """Scores on held-out pairs."""

    disentangle: float  # (cause + isolation) / 2
    cause: float  # share of cause pairs where the model says the source's value
    isolation: float  # share of isolation pairs where it says what it said
    mask: Tensor  # [d_sae] bool, the latents that are exchanged


def make_pairs(
    entity: Tensor, relation: Tensor, answer: Tensor, cause: int, n_pairs: int, *, seed: int = 0
) -> Pairs:
    """Pairs for exchanging relation `cause`: n_pairs of each kind, or as many as both allow.

    entity, relation, answer: [n_prompts]. Sources are prompts about `cause`. Cause pairs: base
    about `cause` with another answer. Isolation pairs: base about another relation, of an entity
    whose answer to `cause` differs from the source's. Drawn without repetition.
    Raises DataError when a kind has no pair.
    """
    about = relation == cause
    own = torch.full((int(entity.max()) + 1,), -1)
    own[entity[about]] = answer[about]  # [n_entities] value of `cause`, -1 unknown
    value = own[entity]
    differs = (value[:, None] != value[None, :]) & (value[:, None] >= 0) & about[None, :]
    kinds = []
    for kind, base in (("cause", about), ("isolation", ~about)):
        found = (differs & base[:, None]).nonzero()
        order = torch.randperm(len(found), generator=rng.stream(seed, "evals", "ravel", kind))
        kinds.append(found[order])
    n = min(n_pairs, *map(len, kinds))
    if n == 0:
        seen = dict(zip(("cause", "isolation"), map(len, kinds), strict=True))
        fix = "The model must know two values of the relation, and another relation."
        raise DataError(message(f"pairs for relation {cause}", seen, "at least 1 each", fix))
    base, source = torch.cat([each[:n] for each in kinds]).T
    is_cause = torch.arange(2 * n) < n
    return Pairs(base, source, torch.where(is_cause, answer[source], answer[base]), is_cause)


def ravel(
    acts: Tensor,
    decode: Decode,
    pairs: Pairs,
    logits_of: LogitsOf,
    *,
    n_epochs: int = 2,
    n_batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
) -> Ravel:
    """Learn which latents hold an attribute, and score the exchange on held-out pairs.

        z' = (1 - s) z_base + s z_source,   s = sigmoid(mask / T),   T from 1 to 1e-4, log-spaced
        loss = cross entropy of logits_of(decode(z'), base) with the label;   test: s = 1[mask > 0]

    acts: [n_prompts, d_sae] at the entity of each prompt; decode: `sae.decode`. The residual is
    replaced without the reconstruction error. 70 % of the pairs train the mask (Adam).

    Differs from SAEBench: answers are single tokens (SAEBench generates 6 and compares text).
    Raises DataError when the training split is empty or the test split lacks a kind.
    """
    order = torch.randperm(len(pairs.base), generator=rng.stream(seed, "evals", "ravel", "split"))
    n_train = int(0.7 * len(order))
    train, test = pairs.at(order[:n_train]), pairs.at(order[n_train:])
    kinds = test.cause.unique().numel() if n_train else 0
    if kinds < 2:
        seen = f"{len(order)} pairs, {kinds} kinds in test"
        raise DataError(message("pairs", seen, "both kinds in train and test", "Make more pairs."))
    batches: list[Pairs] = []
    for epoch in range(n_epochs):
        draw = rng.stream(seed, "evals", "ravel", "order", epoch)
        batches += map(train.at, torch.randperm(n_train, generator=draw).split(n_batch))
    chosen = _train_mask(acts, decode, batches, logits_of, lr) > 0
    with torch.no_grad():
        logits = _exchanged(acts, decode, test, chosen.to(acts.dtype), logits_of)
    right = (logits.argmax(dim=1) == test.label).double()
    cause, isolation = float(right[test.cause].mean()), float(right[~test.cause].mean())
    return Ravel((cause + isolation) / 2, cause, isolation, chosen)


def _train_mask(
    acts: Tensor, decode: Decode, batches: list[Pairs], logits_of: LogitsOf, lr: float
) -> Tensor:
    """One Adam step per batch on the mask [d_sae], while the temperature falls."""
    mask = torch.zeros(acts.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([mask], lr=lr)
    for T, batch in zip(torch.logspace(0, -4, len(batches)), batches, strict=True):
        logits = _exchanged(acts, decode, batch, torch.sigmoid(mask / T), logits_of)
        # not backward(): the model and the SAE must come out without gradients
        (mask.grad,) = torch.autograd.grad(cross_entropy(logits, batch.label), mask)
        optimiser.step()
    return mask.detach()


def _exchanged(
    acts: Tensor, decode: Decode, pairs: Pairs, s: Tensor, logits_of: LogitsOf
) -> Tensor:
    """Logits [n, vocab] of the base prompts with the latents of the source where s is 1."""
    z = (1 - s) * acts[pairs.base] + s * acts[pairs.source]  # [n, d_sae]
    return logits_of(decode(z), pairs.base)
