"""Latents against known features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .dictionary import max_cosine_similarity, unit_rows

RECOVERED = 0.98  # a feature counts as recovered when its matched cosine is above this
ROUNDING = 1e-6  # float32 rows have cosines that are known to about 1e-7


class Match(NamedTuple):
    """A one-to-one assignment of latents to features."""

    mcc: float
    """mean over features of the matched cosine; an unmatched feature counts as 0"""
    cosines: Tensor
    """[n_features] signed cosine of each feature with its latent, 0 without one"""
    assignment: Tensor
    """[n_features] index of the latent matched to each feature, -1 without one"""


@torch.no_grad()
def match_to_features(W_dec: Tensor, features: Tensor) -> Match:
    """The assignment of latents to features with the largest sum of signed cosines."""
    cosines = (unit_rows(features.double()) @ unit_rows(W_dec.double()).T).cpu()
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    matched = torch.zeros(len(features), dtype=torch.float64)
    assignment = torch.full((len(features),), -1)
    matched[rows] = cosines[rows, columns]
    assignment[rows] = torch.from_numpy(columns)
    return Match(float(matched.mean()), matched, assignment)


@torch.no_grad()
def cosine_matrix(W_dec: Tensor, features: Tensor) -> Tensor:
    """[n_features, n_features]: row i is the latent matched to feature i, against all features.

    A feature without a latent has a row of zeros. What the papers draw as a heat map.
    """
    assignment = match_to_features(W_dec, features).assignment
    cosines = unit_rows(W_dec.double()) @ unit_rows(features.double()).T
    matrix = cosines[assignment.clamp(min=0)]
    matrix[assignment < 0] = 0.0
    return matrix


@torch.no_grad()
def feature_recovery_rate(W_dec: Tensor, features: Tensor, tau: float) -> float:
    """FRR: the share of features with max_i cos(W_i, feature) >= tau  (arXiv:2506.14002).

    Signed, and not one-to-one: one latent may serve two features. The bound gives way by
    `ROUNDING`, so that a feature copied into the decoder is recovered at tau = 1.
    """
    nearest = max_cosine_similarity(features.double(), W_dec.double())
    return float((nearest >= tau - ROUNDING).double().mean())
