"""SAEBench SCR (spurious correlation removal), after SHIFT (Marks et al., arXiv:2403.19647)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from .concept_removal import N_LATENTS, ablated, strongest, write_gap
from .probes import Probe, Samples, equal_cells, fit_probe

NO_ROOM = 0.001  # below this gap between clean and biased accuracy nothing can be removed


class Direction(NamedTuple):
    """One attribute as target, the other one spurious."""

    base: float
    """accuracy on the target of the probe that was trained on confounded samples"""
    clean: float
    """accuracy of a probe trained on balanced samples"""
    scores: dict[int, float]
    """{N: SCR}"""


class SCR(NamedTuple):
    """Both directions, and the scores of the one that is reported."""

    scores: dict[int, float]
    """{N: SCR} where the biased probe does worse"""
    directions: tuple[Direction, Direction]
    """attribute 0 as target, attribute 1 as target"""


def scr(
    train: Samples,
    test: Samples,
    W_dec: Tensor,
    n_latents: Sequence[int] = N_LATENTS,
    *,
    seed: int = 0,
) -> SCR:
    """Can latents of a spurious attribute be cut out of a biased probe's input?

        A_base    probe of the target, trained where both attributes are equal, tested where they
                  are independent;  A_clean the same probe, trained where they are independent
        effect_i  |(mean_pos z_i - mean_neg z_i) (w_spurious . W_dec_i)|, of a probe of the
                  spurious attribute; the N latents with the largest are ablated
        SCR       (A_ablated - A_base) / (A_clean - A_base), 0 where the denominator < 0.001

    train, test: pooled documents with labels [n, 2] bool in all four combinations, which are cut
    to equal numbers. Reported is the direction with the lower A_base; on a tie attribute 0 as
    target (SAEBench: no value).

    Differs from SAEBench: probes are converged L2 logistic regressions instead of 20 epochs of
    AdamW in batches of 16 with an L1 term, so their weights are less sparse.
    Raises DataError when a combination is missing.
    """
    train, test = _balanced(train, seed, "train"), _balanced(test, seed, "test")
    agree = train.labels[:, 0] == train.labels[:, 1]
    biased = fit_probe(train.x[agree], train.labels[agree, 0])
    targets = [_direction(train, test, W_dec, biased, each, n_latents) for each in (0, 1)]
    first, second = targets
    return SCR((second if second.base < first.base else first).scores, (first, second))


def _balanced(samples: Samples, seed: int, split: str) -> Samples:
    """All four combinations of the attributes equally often."""
    combination = 2 * samples.labels[:, 0].long() + samples.labels[:, 1].long()
    return samples.at(equal_cells(combination, 4, seed, "scr", split))


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
    effect = (gap * writes).abs()
    truth = test.labels[:, target]
    base = biased.accuracy(test.x, truth)
    clean = fit_probe(train.x, is_target).accuracy(test.x, truth)
    scores = {}
    for n in n_latents:
        after = biased.accuracy(ablated(test, strongest(effect, n), W_dec), truth)
        scores[n] = (after - base) / (clean - base) if clean - base >= NO_ROOM else 0.0
    return Direction(base, clean, scores)
