"""Does a concept lie at the same place in two languages? Retrieval across them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import DataError, message


class Retrieval(NamedTuple):
    """R@1, both directions averaged, with what guessing gives."""

    concept: float  # share of concepts whose nearest in the other language is the concept itself
    category: float  # share whose nearest neighbour has the same category
    n_concepts: int  # concepts seen in both languages; guessing finds 1 / n_concepts of them


@torch.no_grad()
def retrieval(x: Tensor, concept: Tensor, language: Tensor, category: Tensor) -> Retrieval:
    """Nearest neighbours by cosine among the means of concepts, from one language to the other.

    x: states [n, d]; concept and language (0 or 1): [n], concept -1 where a token has none;
    category: [n_concepts]. A mean is over unit vectors, less the mean over all concepts of its
    language, because the largest difference between two languages is which language it is.
    Raises DataError when a language has no concept in common with the other.
    """
    x = torch.nn.functional.normalize(x.double(), dim=-1)
    n = len(category)
    sums, counts = x.new_zeros(2, n, x.shape[1]), x.new_zeros(2, n)
    for side in (0, 1):
        here = (concept >= 0) & (language == side)
        sums[side].index_add_(0, concept[here], x[here])
        counts[side].index_add_(0, concept[here], torch.ones_like(x[here, 0]))
    both = (counts > 0).all(0).nonzero().flatten()
    if len(both) < 2:
        fix = "Give texts of both languages about the same things."
        raise DataError(message("concepts in both languages", len(both), "at least 2", fix))
    means = sums[:, both] / counts[:, both, None]  # [2, n_both, d]
    means = torch.nn.functional.normalize(means - means.mean(1, keepdim=True), dim=-1)
    cosines, kinds = means[0] @ means[1].T, category[both]
    nearest = torch.stack([cosines.argmax(1), cosines.argmax(0)])  # [2, n_both]
    own = (nearest == torch.arange(len(both))).double().mean()
    alike = (kinds[nearest] == kinds).double().mean()
    return Retrieval(float(own), float(alike), len(both))
