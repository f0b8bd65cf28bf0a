"""Editing the residual through latents: SAEBench RAVEL and unlearning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .. import rng
from ..errors import DataError, message
from ..metrics import firing_rate
from ..sae import SAE

Edit = Callable[[Tensor], Tensor]
"""residual [..., d_in] -> residual [..., d_in]"""
LogitsOf = Callable[[Tensor, Tensor], Tensor]
"""(residual at the entity [n, d_in], index of the prompt [n]) -> next-token logits [n, vocab]"""
RATE = 1e-3  # of Adam on the mask
MIN_RETAINED = 0.99


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
    kinds = {}
    for kind, base in (("cause", about), ("isolation", ~about)):
        found = (differs & base[:, None]).nonzero()
        order = torch.randperm(len(found), generator=rng.stream(seed, "evals", "ravel", kind))
        kinds[kind] = found[order]
    n = min(n_pairs, *map(len, kinds.values()))
    if n == 0:
        seen = {kind: len(each) for kind, each in kinds.items()}
        fix = "The model must know two values of the relation, and another relation."
        raise DataError(message(f"pairs for relation {cause}", seen, "at least 1 each", fix))
    base, source = torch.cat([each[:n] for each in kinds.values()]).T
    is_cause = torch.arange(2 * n) < n
    return Pairs(base, source, torch.where(is_cause, answer[source], answer[base]), is_cause)


def ravel(
    acts: Tensor,
    decode: Edit,
    pairs: Pairs,
    logits_of: LogitsOf,
    *,
    n_epochs: int = 2,
    n_batch: int = 32,
    seed: int = 0,
) -> Ravel:
    """Learn which latents hold an attribute, and score the exchange on held-out pairs.

        z' = (1 - s) z_base + s z_source,   s = sigmoid(mask / T),   T from 1 to 1e-4, log-spaced
        loss = cross entropy of logits_of(decode(z'), base) with the label;   test: s = 1[mask > 0]

    Huang et al. 2024 (arXiv:2402.17700), with SAEBench's mask over latents (MDBM). acts:
    [n_prompts, d_sae] at the entity of each prompt; decode: `sae.decode`. The residual is replaced
    without the reconstruction error. 70 % of the pairs train the mask (Adam).

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

    def exchanged(pairs: Pairs, s: Tensor) -> Tensor:
        """Logits [n, vocab] of the base prompts with the latents of the source where s is 1."""
        z = (1 - s) * acts[pairs.base] + s * acts[pairs.source]  # [n, d_sae]
        return logits_of(decode(z), pairs.base)

    chosen = _train_mask(acts.shape[1], exchanged, batches) > 0
    with torch.no_grad():
        logits = exchanged(test, chosen.to(acts.dtype))
    right = (logits.argmax(dim=1) == test.label).double()
    cause, isolation = float(right[test.cause].mean()), float(right[~test.cause].mean())
    return Ravel((cause + isolation) / 2, cause, isolation, chosen)


def _train_mask(
    d_sae: int, exchanged: Callable[[Pairs, Tensor], Tensor], batches: list[Pairs]
) -> Tensor:
    """One Adam step per batch on the mask [d_sae], while the temperature falls."""
    mask = torch.zeros(d_sae, requires_grad=True)
    optimiser = torch.optim.Adam([mask], lr=RATE)
    for T, batch in zip(torch.logspace(0, -4, len(batches)), batches, strict=True):
        logits = exchanged(batch, torch.sigmoid(mask / T))
        # not backward(): the model and the SAE must come out without gradients
        (mask.grad,) = torch.autograd.grad(cross_entropy(logits, batch.label), mask)
        optimiser.step()
    return mask.detach()


class Setting(NamedTuple):
    """One point of the sweep of `unlearning`."""

    threshold: float  # latents that fire at least this often on the retain corpus are spared
    n_latents: int
    multiplier: float
    forget: float  # accuracy on questions of the topic
    retain: float  # accuracy on all other questions


def unlearning(
    sae: SAE,
    forget_acts: Tensor,
    retain_acts: Tensor,
    accuracy_under: Callable[[Edit], tuple[float, float]],
    *,
    n_latents: Sequence[int] = (10, 20),
    multipliers: Sequence[float] = (2.0, 5.0, 10.0, 20.0),
) -> tuple[float, list[Setting]]:
    """1 - the lowest accuracy on the topic among settings that keep 99 % of the rest; 0 if none.

    Farrell et al. 2024 (arXiv:2410.19278). Each setting clamps (`clamp_latents`) the first of the
    `topic_latents`. sae: in eval mode. forget_acts, retain_acts: [n_tokens, d_sae] on the two
    corpora. accuracy_under(edit) answers (accuracy on the topic, accuracy on the rest) with the
    residual edited; it asks only what the clean model answers correctly, so without an edit both
    are 1, and it leaves BOS alone.

    Differs from SAEBench: latents are clamped to -multiplier times their mean active value on the
    topic instead of to -25 .. -200, which presumes the scale of raw Gemma activations.
    Raises DataError when the clean accuracies are not 1.
    """
    clean = accuracy_under(lambda residual: residual)
    if min(clean) != 1:
        fix = "Keep the questions that the clean model answers correctly."
        raise DataError(message("accuracies without an edit", clean, "(1.0, 1.0)", fix))
    mean_active = forget_acts.sum(dim=0) / forget_acts.count_nonzero(dim=0).clamp(min=1)  # [d_sae]
    settings = []
    for threshold in (0.001, 0.01):
        ranked = topic_latents(forget_acts, retain_acts, threshold)
        for n in sorted({min(n, len(ranked)) for n in n_latents} - {0}):
            for multiplier in multipliers:
                edit = clamp_latents(sae, ranked[:n], -multiplier * mean_active[ranked[:n]])
                settings.append(Setting(threshold, n, multiplier, *accuracy_under(edit)))
    lowest = min((each.forget for each in settings if each.retain >= MIN_RETAINED), default=1.0)
    return 1 - lowest, settings


def topic_latents(forget_acts: Tensor, retain_acts: Tensor, threshold: float) -> Tensor:
    """Latents of the topic, the most frequent first. Both acts: [n_tokens, d_sae].

    Left out: those active on `threshold` of the retain tokens or more, and those that never fire
    on the topic.
    """
    rate = firing_rate(forget_acts)
    rate[firing_rate(retain_acts) >= threshold] = 0.0
    order = rate.argsort(descending=True, stable=True)
    return order[rate[order] > 0]


def clamp_latents(sae: SAE, latents: Tensor, values: Tensor) -> Edit:
    """An edit that sets `latents` to `values` wherever they are positive; the error term stays.

    x' = x + (z' - z) W_dec. latents, values: [n].
    """

    @torch.no_grad()
    def edit(residual: Tensor) -> Tensor:
        x = residual.reshape(-1, residual.shape[-1])
        z = sae.encode(x)[:, latents]  # [n_tokens, n]
        change = torch.where(z > 0, values.to(z.dtype) - z, 0.0)
        return (x + change @ sae.W_dec[latents]).reshape(residual.shape)

    return edit
