"""Does each relation drive a latent of its own? Binding matrices, margins, stand-ins for slots."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...errors import DataError, message


def binding_matrix(slots: Tensor, relation: Tensor) -> Tensor:
    """[K, K] float64: column r holds the shares of the slots that win on questions of relation r.

    slots [n, K]: pre-activations tell more than activations, which tie where several are 0.
    relation [n]. Raises DataError for one outside the ontology, or without rows.
    """
    n_slots = slots.shape[1]
    if outside := set(relation.tolist()) - set(range(n_slots)):
        fix = "Use the ontology of the SAE."
        raise DataError(message("relation", min(outside), f"0 <= relation < {n_slots}", fix))
    pairs = slots.argmax(dim=1) * n_slots + relation
    counts = torch.bincount(pairs, minlength=n_slots**2).view(n_slots, n_slots).double()
    empty = (counts.sum(dim=0) == 0).nonzero().flatten().tolist()
    if empty:
        fix = "Ask about every relation."
        raise DataError(message("relations without rows", empty, "none", fix))
    return counts / counts.sum(dim=0)


def diagonal(matrix: Tensor) -> float:
    """Diagonal accuracy: the mean of the diagonal of a binding matrix, chance 1 / K."""
    return float(matrix.diagonal().mean())


def margin(slots: Tensor) -> float:
    """Largest minus second largest slot, on average."""
    top = slots.double().topk(2, dim=1).values
    return float((top[:, 0] - top[:, 1]).mean())


class Selective(NamedTuple):
    """The latents of an unsupervised SAE that stand in for slots."""

    latents: Tensor  # [K] a latent for each relation, all different
    purity: Tensor  # [K] the share of its total class mean that a latent has on its relation


@torch.no_grad()
def most_selective(acts: Tensor, relation: Tensor, n_relations: int) -> Selective:
    """One latent per relation, chosen together (Hungarian) by mean on it minus the largest other.

    acts [n, d_sae], not negative. What a plain SAE has instead of slots.
    """
    means, scores = class_scores(acts, relation, n_relations)
    _, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    latents = torch.from_numpy(columns)
    own = means[torch.arange(n_relations), latents]
    return Selective(latents, own / means[:, latents].sum(dim=0).clamp(min=1e-12))


@torch.no_grad()
def class_scores(acts: Tensor, relation: Tensor, n_relations: int) -> tuple[Tensor, Tensor]:
    """Class means [K, d_sae] float64, and how far each stands above the largest other mean."""
    found = torch.stack([acts[relation == r].double().mean(dim=0) for r in range(n_relations)])
    top = found.topk(2, dim=0).values
    best_other = torch.where(found == top[0], top[1], top[0])
    return found, found - best_other
