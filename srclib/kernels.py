"""The few fast paths, each exact and each tested against the sentence that defines it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def kth_largest(values: Tensor, n: int) -> float:
    """The n-th largest entry (n = 1 is the maximum) of a tensor of any shape.

    A partition, not a sort; numpy's is several times faster on CPU than `Tensor.kthvalue`.
    """
    if not 1 <= n <= values.numel():
        raise ValueError(f"n={n}: allowed is 1..{values.numel()}, the number of entries.")
    flat = values.detach().reshape(-1)
    if flat.is_cuda:
        return float(flat.kthvalue(flat.numel() - n + 1).values)
    array = flat.numpy()
    return float(np.partition(array, array.size - n)[array.size - n])


def keep_largest(scores: Tensor, n: int) -> Tensor:
    """A float mask: 1 at the n largest entries of the whole tensor that are positive, else 0.

    Equal entries at the boundary are kept in index order, so at most n survive. Masks are
    floats because comparisons and boolean products cost several times more on CPU.
    """
    if n >= scores.numel():
        return torch.threshold(scores, 0.0, 0.0).sign()
    smallest = kth_largest(scores, n)
    below = float(np.nextafter(np.float32(smallest), np.float32(-np.inf)))
    mask = torch.threshold(scores, max(below, 0.0), 0.0).sign()
    surplus = int(mask.sum()) - n if smallest > 0 else 0
    if surplus > 0:
        ties = (scores == smallest).flatten().nonzero().flatten()
        mask.view(-1)[ties[-surplus:]] = 0.0
    return mask
