"""Cutting a concept out of what a probe reads: SAEBench SCR and TPP.

After SHIFT (Marks et al., arXiv:2403.19647). Everything is linear in the latents, so pooled
samples give the same as pooling afterwards. Both differ from SAEBench in their probes, converged
L2 logistic regressions instead of 20 epochs of AdamW with an L1 term: less sparse weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, message
from .probes import Probe, Samples, class_gap, equal_cells, fit_probe, one_vs_rest

NO_ROOM = 0.001  # below this gap between clean and biased accuracy nothing can be removed


class Direction(NamedTuple):
    """One attribute as target, the other one spurious."""

    base: float  # accuracy on the target of the probe that was trained on confounded samples
    clean: float  # accuracy of a probe trained on balanced samples
    scores: dict[int, float]  # {N: SCR}


def scr(
    train: Samples, test: Samples, W_dec: Tensor, n_latents: Sequence[int], *, seed: int = 0
) -> list[Direction]:
    """Can latents of a spurious attribute be cut out of a biased probe's input?

        A_base    probe of the target, trained where both attributes are equal, tested where they
                  are independent;  A_clean the same probe, trained where they are independent
        effect_i  |(mean_pos z_i - mean_neg z_i) (w_spurious . W_dec_i)|, of a probe of the
                  spurious attribute; the N latents with the largest are ablated
        SCR       (A_ablated - A_base) / (A_clean - A_base), 0 where the denominator < 0.001

    train, test: pooled documents with labels [n, 2] bool in all four combinations, which are cut
    to equal numbers. Both directions; reported is the first, which has the lower A_base (on a tie
    attribute 0 is the target; SAEBench: no value). Raises DataError when a combination is missing.
    """
    train, test = (
        part.at(equal_cells(2 * part.labels[:, 0].long() + part.labels[:, 1], 4, seed, "scr", name))
        for name, part in (("train", train), ("test", test))
    )
    agree = train.labels[:, 0] == train.labels[:, 1]
    biased = fit_probe(train.x[agree], train.labels[agree, 0])
    both = (_direction(train, test, W_dec, biased, each, n_latents) for each in (0, 1))
    return sorted(both, key=lambda direction: direction.base)


def _direction(
    train: Samples,
    test: Samples,
    W_dec: Tensor,
    biased: Probe,
    target: int,
    n_latents: Sequence[int],
) -> Direction:
    is_target, is_spurious = train.labels[:, target], train.labels[:, 1 - target]
    gap, writes = write_gap(train, is_spurious, fit_probe(train.x, is_spurious), W_dec)
    truth = test.labels[:, target]
    base = biased.accuracy(test.x, truth)
    clean = fit_probe(train.x, is_target).accuracy(test.x, truth)
    scores = {}
    for n, x in _cut(test, (gap * writes).abs(), W_dec, n_latents):
        restored = biased.accuracy(x, truth) - base
        scores[n] = restored / (clean - base) if clean - base >= NO_ROOM else 0.0
    return Direction(base, clean, scores)


class TPP(NamedTuple):
    """Means over classes, for each number N of ablated latents."""

    scores: dict[int, float]  # intended - unintended
    intended: dict[int, float]  # accuracy that a class loses by its own latents
    unintended: dict[int, float]  # accuracy that it makes the other classes lose


def tpp(
    train: Samples, test: Samples, W_dec: Tensor, n_latents: Sequence[int], *, seed: int = 0
) -> TPP:
    """Accuracy lost by the class whose latents are ablated, minus what the others lose.

        effect_i(c) = max(mean_{in c} z_i - mean_{not c} z_i, 0) (w_c . W_dec_i)      signed
        TPP(N) = mean_c [ (A_c - A_c after c) - mean_{c' != c} (A_c' - A_c' after c) ]

    where "after c" is without the N latents of largest effect on c. train, test: pooled documents
    with labels [n], one class each; a probe per class on the class and an even draw of the rest.
    The largest possible score is about 1/2, as classes are balanced.
    Raises DataError for fewer than two classes, or a class without rows.
    """
    classes = train.labels.unique().tolist()
    if len(classes) < 2:
        raise DataError(message("classes", classes, "at least 2", "Label more documents."))
    tasks = [_task(train, test, W_dec, c, seed) for c in classes]
    own, other = dict.fromkeys(n_latents, 0.0), dict.fromkeys(n_latents, 0.0)
    for cut in tasks:
        for n, x in _cut(test, cut.effect, W_dec, n_latents):
            for task in tasks:
                lost = task.clean - task.probe.accuracy(x[task.rows], task.truth)
                (own if task is cut else other)[n] += lost
    intended = {n: own[n] / len(tasks) for n in n_latents}
    unintended = {n: other[n] / (len(tasks) * (len(tasks) - 1)) for n in n_latents}
    return TPP({n: intended[n] - unintended[n] for n in n_latents}, intended, unintended)


class _Task(NamedTuple):
    """One class against the rest."""

    probe: Probe
    effect: Tensor  # [d_sae]
    rows: Tensor  # balanced test rows
    truth: Tensor  # their labels, bool
    clean: float  # accuracy before any ablation


def _task(train: Samples, test: Samples, W_dec: Tensor, c: int, seed: int) -> _Task:
    part = train.at(one_vs_rest(train.labels, c, seed, "tpp", "train", c))
    probe = fit_probe(part.x, part.labels == c)
    gap, writes = write_gap(part, part.labels == c, probe, W_dec)
    rows = one_vs_rest(test.labels, c, seed, "tpp", "test", c)
    truth = test.labels[rows] == c
    return _Task(probe, gap.clamp(min=0) * writes, rows, truth, probe.accuracy(test.x[rows], truth))


@torch.no_grad()
def write_gap(
    samples: Samples, labels: Tensor, probe: Probe, W_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """(mean_pos z - mean_neg z, w_probe . W_dec), both [d_sae] float64.

    Their product is what each latent adds to the difference of the probe's class means.
    """
    gap = class_gap(samples.acts.double(), labels)
    return gap, W_dec.double() @ probe.w


def strongest(effect: Tensor, n: int) -> Tensor:
    """Indices of the n largest effects [d_sae]; latents without any effect are never taken."""
    n_nonzero = int((effect != 0).sum())
    ranked = torch.where(effect != 0, effect, -torch.inf)
    return ranked.topk(min(n, n_nonzero)).indices


@torch.no_grad()
def ablated(samples: Samples, latents: Tensor, W_dec: Tensor) -> Tensor:
    """x without some latents, reconstruction error kept: [n, d_in].

    decode(z') + (x - decode(z)) with z' = 0 at `latents`, which is x - z[latents] W_dec[latents].
    """
    return samples.x - samples.acts[:, latents] @ W_dec[latents]


def _cut(
    test: Samples, effect: Tensor, W_dec: Tensor, n_latents: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """For each N, x without the N latents of largest effect."""
    for n in n_latents:
        yield n, ablated(test, strongest(effect, n), W_dec)
