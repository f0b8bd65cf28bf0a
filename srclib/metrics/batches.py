"""Numbers of a batch: how well x is rebuilt, how sparse acts are, what they say of a concept."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message


def _rows(name: str, x: Tensor, like: Tensor | None = None) -> None:
    """Refuse what is no matrix: of texts times tokens, or broadcast, numbers would be others'.

    A batch without a counterpart is of activities, which NaN is none of: it would count as active.
    """
    allowed = "[n, width]" if like is None else f"[n, width], as x: {tuple(like.shape)}"
    if x.ndim != 2 or (like is not None and x.shape != like.shape):
        fix = "Flatten texts and tokens into rows, padding left out."
        raise DataError(message(f"{name}.shape", tuple(x.shape), allowed, fix))
    if like is None and not bool(x.isfinite().all()):
        fix = "Look at where they come from."
        raise DataError(message(name, "NaN or infinite", "finite numbers", fix))


@torch.no_grad()
def mse(x: Tensor, x_hat: Tensor) -> float:
    """mean_b ||x - x_hat||^2: summed over d_in, averaged over the batch."""
    _rows("x_hat", x_hat, x)
    return float((x.double() - x_hat.double()).square().sum(dim=1).mean())


@torch.no_grad()
def fvu(x: Tensor, x_hat: Tensor) -> float:
    """Fraction of variance unexplained, sum ||x - x_hat||^2 / sum ||x - mean x||^2.

    Centred; both sums run over batch and dimension. NaN where the variance is zero.
    """
    _rows("x_hat", x_hat, x)
    x, x_hat = x.double(), x_hat.double()
    variance = (x - x.mean(dim=0)).square().sum()
    # Rounding leaves a constant input with a variance of about eps^2 |x|^2, not exactly 0.
    if variance <= 1e-24 * x.square().sum():
        return math.nan
    return float((x - x_hat).square().sum() / variance)


@torch.no_grad()
def uncentred_variance_explained(x: Tensor, x_hat: Tensor) -> float:
    """1 - mean ||x - x_hat||^2 / mean ||x||^2, as the Sparse but Wrong notebooks draw it.

    Uncentred: predicting the mean scores above 0. NaN where x is zero.
    """
    _rows("x_hat", x_hat, x)
    x, x_hat = x.double(), x_hat.double()
    power = x.square().sum()
    if power == 0:
        return math.nan
    return float(1 - (x - x_hat).square().sum() / power)


@torch.no_grad()
def l0(acts: Tensor) -> float:
    """mean_b |{i: acts[b, i] != 0}|: active latents per input."""
    _rows("acts", acts)
    return float((acts != 0).sum(dim=1).double().mean())


@torch.no_grad()
def firing_rate(acts: Tensor) -> Tensor:
    """[d_sae] float64, mean_b 1[acts[b, i] != 0]: on which share of the rows a latent is active."""
    _rows("acts", acts)
    return acts.count_nonzero(dim=0).double() / len(acts)


def alive(acts: Tensor) -> Tensor:
    """[d_sae] bool: active on at least one of 10,000 rows; of fewer rows, on one."""
    return firing_rate(acts) >= 1e-4


@torch.no_grad()
def z_score(pre_acts: Tensor) -> Tensor:
    """[d_sae] (max - mean) / std over inputs of pre_acts [n, d_sae]; 0 where nothing varies."""
    _rows("pre_acts", pre_acts)
    values = pre_acts.double()
    std = values.std(dim=0, correction=0)
    return torch.where(std > 0, (values.amax(dim=0) - values.mean(dim=0)) / std, 0.0)


@torch.no_grad()
def most_prominent(score: Tensor, alpha: float, alive: Tensor | None = None) -> Tensor:
    """Indices of the ceil(alpha d_sae) latents with the largest score [d_sae], largest first.

    GBA (arXiv:2506.14002) asks about those; alpha and the scores are our reading. alive: bool
    [d_sae]; dead latents are left out, alpha still counts all of them.
    Raises ParameterError unless 0 < alpha <= 1, DataError for another `alive`.
    """
    if not 0 < alpha <= 1:
        raise ParameterError(message("alpha", alpha, "0 < alpha <= 1", "1 takes every latent."))
    if alive is not None and (alive.dtype != torch.bool or alive.shape != score.shape):
        seen, allowed = f"{alive.dtype} {tuple(alive.shape)}", f"bool {tuple(score.shape)}"
        raise DataError(message("alive", seen, allowed, "One answer for each latent."))
    wanted = math.ceil(alpha * len(score) - 1e-6)  # 1e-6: 0.07 of 100 is 7, not 7.000...1
    order = score.argsort(descending=True, stable=True)
    return order[alive[order]][:wanted] if alive is not None else order[:wanted]


class EffectiveFeatures(NamedTuple):
    """How many latents carry a concept, on average over the concepts."""

    eff_feat: float  # exp of the entropy of the shares: 1 where one latent carries all
    top1_conc: float  # the share of the strongest latent


@torch.no_grad()
def effective_features(acts: Tensor, labels: Tensor) -> EffectiveFeatures:
    """EffFeat and Top1Conc of AlignSAE. acts: [n, latents in scope]; labels: [n] class of a row.

        p_c[j] = max(0, mean_{i in c} acts[i, j]) / sum_j' of the same
        EffFeat = mean_c exp(-sum_j p_c[j] ln p_c[j])        Top1Conc = mean_c max_j p_c[j]

    The columns passed are the scope: slots alone, or all latents. Means are clipped at 0 after
    averaging. Both are NaN when a class has no positive mean. Raises DataError without rows or
    when the lengths differ.
    """
    if len(acts) == 0 or labels.shape != acts.shape[:1]:
        allowed, fix = f"({len(acts)},), the rows of acts, at least one", "Pass a label a row."
        raise DataError(message("labels.shape", tuple(labels.shape), allowed, fix))
    means = torch.stack([acts[labels == c].double().mean(dim=0) for c in labels.unique()])
    means = means.clamp(min=0)  # [n_classes, latents]
    p = means / means.sum(dim=1, keepdim=True)
    entropy = torch.special.entr(p).sum(dim=1)
    return EffectiveFeatures(float(entropy.exp().mean()), float(p.amax(dim=1).mean()))


@torch.no_grad()
def geometric_median(x: Tensor) -> Tensor:
    """[d_in] the point with the smallest sum of distances to the rows of x [n, d_in].

    Weiszfeld's iteration from the mean, in float64, with Vardi & Zhang's step off a data point
    (PNAS 97, 2000). It stops where the mean unit vector towards the rows is shorter than 1e-9,
    which puts the sum of distances within 2e-9 of the smallest, relatively; or on a row that is
    itself the median. Returned in the dtype of x. Raises DataError for an empty or non-finite x.
    """
    if x.ndim != 2 or len(x) == 0 or not bool(x.isfinite().all()):
        allowed, fix = "[n >= 1, d_in], finite numbers", "Look at where the activations come from."
        raise DataError(message("x.shape", tuple(x.shape), allowed, fix))
    points = x.double()
    y, slack, seen = points.mean(dim=0), 1e-9 * len(x), -1
    for _ in range(10_000):
        # Towards a data point the iteration slows to a crawl, so the nearest is tried itself:
        # points on it hold it with up to one unit of force each, all others pull with one unit.
        nearest = int((points - y).norm(dim=1).argmin())
        if nearest != seen:
            pull, n_there, _ = _pull(points, points[nearest])
            if float(pull.norm()) <= n_there + slack:
                return points[nearest].to(x.dtype)
        seen = nearest
        pull, n_on_y, stiffness = _pull(points, y)
        force = float(pull.norm())
        if force <= slack:
            return y.to(x.dtype)
        # A row that y lies on is no median here, so force > n_on_y.
        y = y + (1 - n_on_y / force) * pull / stiffness
    raise DataError(message("geometric median", force, f"a pull of {slack:.0e}", "Scale x."))


def _pull(points: Tensor, y: Tensor) -> tuple[Tensor, int, float]:
    """Sum of unit vectors from y to the points elsewhere, the number on y, sum of 1 / distance."""
    offset = points - y  # [n, d_in]
    distance = offset.norm(dim=1)
    inverse = torch.where(distance > 0, 1 / distance, 0.0)
    return inverse @ offset, int((distance == 0).sum()), float(inverse.sum())
