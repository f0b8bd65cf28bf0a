"""SAEBench TPP (targeted probe perturbation): does cutting one concept leave the others alone?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ..errors import DataError, message
from .concept_removal import N_LATENTS, ablated, strongest, write_gap
from .probes import Probe, Samples, fit_probe, one_vs_rest


class TPP(NamedTuple):
    """Means over classes, for each number of ablated latents."""

    scores: dict[int, float]
    """{N: intended - unintended}"""
    intended: dict[int, float]
    """{N: accuracy that a class loses by its own latents}"""
    unintended: dict[int, float]
    """{N: accuracy that it makes the other classes lose}"""


class _Task(NamedTuple):
    """One class against the rest."""

    probe: Probe
    effect: Tensor  # [d_sae]
    rows: Tensor  # balanced test rows
    truth: Tensor  # their labels, bool
    clean: float  # accuracy before any ablation


def tpp(
    train: Samples,
    test: Samples,
    W_dec: Tensor,
    n_latents: Sequence[int] = N_LATENTS,
    *,
    seed: int = 0,
) -> TPP:
    """Accuracy lost by the class whose latents are ablated, minus what the others lose.

        effect_i(c) = max(mean_{in c} z_i - mean_{not c} z_i, 0) (w_c . W_dec_i)      signed
        TPP(N) = mean_c [ (A_c - A_c after c) - mean_{c' != c} (A_c' - A_c' after c) ]

    where "after c" is without the N latents of largest effect on c. train, test: pooled documents
    with labels [n], one class each; a probe per class on the class and an even draw of the rest.
    The largest possible score is about 1/2, as classes are balanced.

    Differs from SAEBench: probes are converged L2 logistic regressions (see `scr`).
    Raises DataError for fewer than two classes, or a class without rows.
    """
    classes = train.labels.unique().tolist()
    if len(classes) < 2:
        raise DataError(message("classes", classes, "at least 2", "Label more documents."))
    tasks = [_task(train, test, W_dec, c, seed) for c in classes]
    intended, unintended = {}, {}
    for n in n_latents:
        own, other = 0.0, 0.0
        for cut in tasks:
            x = ablated(test, strongest(cut.effect, n), W_dec)
            for task in tasks:
                lost = task.clean - task.probe.accuracy(x[task.rows], task.truth)
                if task is cut:
                    own += lost
                else:
                    other += lost
        intended[n] = own / len(tasks)
        unintended[n] = other / (len(tasks) * (len(tasks) - 1))
    return TPP({n: intended[n] - unintended[n] for n in n_latents}, intended, unintended)


def _task(train: Samples, test: Samples, W_dec: Tensor, c: int, seed: int) -> _Task:
    part = train.at(one_vs_rest(train.labels, c, seed, "tpp", "train", c))
    probe = fit_probe(part.x, part.labels == c)
    gap, writes = write_gap(part, part.labels == c, probe, W_dec)
    rows = one_vs_rest(test.labels, c, seed, "tpp", "test", c)
    truth = test.labels[rows] == c
    return _Task(probe, gap.clamp(min=0) * writes, rows, truth, probe.accuracy(test.x[rows], truth))
