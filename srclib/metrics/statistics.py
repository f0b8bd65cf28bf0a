"""Summaries of point clouds: how concentrated a concept is, where the middle of the data lies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, message


class EffectiveFeatures(NamedTuple):
    """How many latents carry a concept, on average over the concepts."""

    eff_feat: float
    """exp of the entropy of the shares: 1 where one latent carries all"""
    top1_conc: float
    """the share of the strongest latent"""


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
        allowed = f"one class for each of the {len(acts)} rows of acts, at least one"
        raise DataError(
            message("labels.shape", tuple(labels.shape), allowed, "Pass a label a row.")
        )
    means = torch.stack([acts[labels == c].double().mean(dim=0) for c in labels.unique()])
    means = means.clamp(min=0)  # [n_classes, latents]
    p = means / means.sum(dim=1, keepdim=True)
    entropy = torch.special.entr(p).sum(dim=1)
    return EffectiveFeatures(float(entropy.exp().mean()), float(p.amax(dim=1).mean()))


@torch.no_grad()
def geometric_median(x: Tensor, *, tol: float = 1e-9, max_steps: int = 10_000) -> Tensor:
    """[d_in] the point with the smallest sum of distances to the rows of x [n, d_in].

    Weiszfeld's iteration from the mean, in float64, with Vardi & Zhang's step off a data point
    (PNAS 97, 2000). It stops where the mean unit vector towards the rows is shorter than `tol`,
    which puts the sum of distances within 2 tol of the smallest, relatively; or on a row that is
    itself the median. Returned in the dtype of x.
    Raises DataError for an empty or non-finite x, and when `max_steps` do not suffice.
    """
    if x.ndim != 2 or len(x) == 0 or not bool(x.isfinite().all()):
        allowed = "[n, d_in] with n >= 1 and finite numbers"
        fix = "Look at the activations it comes from."
        raise DataError(message("x.shape", tuple(x.shape), allowed, fix))
    points = x.double()
    y, slack, seen = points.mean(dim=0), tol * len(x), -1
    for _ in range(max_steps):
        # Towards a data point the iteration slows to a crawl, so the nearest is tried itself.
        nearest = int((points - y).norm(dim=1).argmin())
        if nearest != seen and _is_median(points, points[nearest], slack):
            return points[nearest].to(x.dtype)
        seen = nearest
        pull, n_on_y, stiffness = _pull(points, y)
        force = float(pull.norm())
        if force <= slack:
            return y.to(x.dtype)
        # A row that y lies on is no median here, so force > n_on_y.
        y = y + (1 - n_on_y / force) * pull / stiffness
    fix = "Raise max_steps or tol."
    raise DataError(message("mean unit vector", force / len(x), f"at most tol={tol}", fix))


def _is_median(points: Tensor, y: Tensor, slack: float) -> bool:
    """Points on y hold it with up to one unit of force each, all others pull with one unit."""
    pull, n_on_y, _ = _pull(points, y)
    return float(pull.norm()) <= n_on_y + slack


def _pull(points: Tensor, y: Tensor) -> tuple[Tensor, int, float]:
    """Sum of unit vectors from y to the points elsewhere, the number on y, sum of 1 / distance."""
    offset = points - y  # [n, d_in]
    distance = offset.norm(dim=1)
    inverse = torch.where(distance > 0, 1 / distance, 0.0)
    return inverse @ offset, int((distance == 0).sum()), float(inverse.sum())
