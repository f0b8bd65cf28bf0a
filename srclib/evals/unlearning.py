"""SAEBench unlearning: can latents of a topic be silenced so that only this topic is forgotten?

Farrell et al. 2024 (arXiv:2410.19278).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message
from ..metrics import firing_rate
from ..sae import SAE

Edit = Callable[[Tensor], Tensor]
"""residual [..., d_in] -> residual [..., d_in]"""

MIN_RETAINED = 0.99


class Setting(NamedTuple):
    """One point of the sweep."""

    threshold: float  # latents that fire at least this often on the retain corpus are spared
    n_latents: int
    multiplier: float
    forget: float  # accuracy on questions of the topic
    retain: float  # accuracy on all other questions


class Unlearning(NamedTuple):
    """The score, and the sweep that it is the best of."""

    score: float
    settings: tuple[Setting, ...]


def unlearning(
    sae: SAE,
    forget_acts: Tensor,
    retain_acts: Tensor,
    accuracy_under: Callable[[Edit], tuple[float, float]],
    *,
    thresholds: Sequence[float] = (0.001, 0.01),
    n_latents: Sequence[int] = (10, 20),
    multipliers: Sequence[float] = (2.0, 5.0, 10.0, 20.0),
) -> Unlearning:
    """1 - the lowest accuracy on the topic among settings that keep 99 % of the rest; 0 if none.

    Each setting clamps (`clamp_latents`) the first of the `topic_latents`. forget_acts,
    retain_acts: [n_tokens, d_sae] on the two corpora. accuracy_under(edit) answers (accuracy on
    the topic, accuracy on the rest) with the residual of the hook point edited; it asks only what
    the clean model answers correctly, so without an edit both are 1, and it leaves BOS alone.

    Differs from SAEBench: latents are clamped to -multiplier times their mean active value on the
    topic instead of to -25 .. -200, which presumes the scale of raw Gemma activations.
    Raises DataError when the clean accuracies are not 1, ParameterError for an SAE in training.
    """
    if sae.training:
        fix = "Call sae.eval(): in training BatchTopK selects over the batch."
        raise ParameterError(message("sae.training", True, "False", fix))
    clean = accuracy_under(lambda residual: residual)
    if min(clean) != 1:
        fix = "Keep the questions that the clean model answers correctly."
        raise DataError(message("accuracies without an edit", clean, "(1.0, 1.0)", fix))
    mean_active = forget_acts.sum(dim=0) / forget_acts.count_nonzero(dim=0).clamp(min=1)  # [d_sae]
    settings = []
    for threshold in thresholds:
        ranked = topic_latents(forget_acts, retain_acts, threshold)
        for n in sorted({min(n, len(ranked)) for n in n_latents} - {0}):
            for multiplier in multipliers:
                edit = clamp_latents(sae, ranked[:n], -multiplier * mean_active[ranked[:n]])
                settings.append(Setting(threshold, n, multiplier, *accuracy_under(edit)))
    lowest = [each.forget for each in settings if each.retain >= MIN_RETAINED]
    return Unlearning(1 - min(lowest) if lowest else 0.0, tuple(settings))


def topic_latents(forget_acts: Tensor, retain_acts: Tensor, threshold: float) -> Tensor:
    """Latents of the topic, the most frequent first.

    Left out: those active on `threshold` of the retain tokens or more, and those that never fire
    on the topic. Both acts: [n_tokens, d_sae].
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
