"""The few fast paths, each exact and each tested against the sentence that defines it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from .place import on_cpu

IN_CACHE = 2**19  # numbers of a block that stays in a processor's cache: 2 MB
WORTH_A_FLOOR = 2**14  # numbers among which looking for a floor first takes less than it saves


def kth_largest(values: Tensor, n: int) -> float:
    """The n-th largest entry (n = 1 is the maximum) of a tensor of any shape.

    A partition, not a sort; numpy's is several times faster on CPU than `Tensor.kthvalue`. Where n
    is small only the entries above a floor are partitioned: the same entry, found sooner.
    """
    if not 1 <= n <= values.numel():
        raise ValueError(f"n={n}: allowed is 1..{values.numel()}, the number of entries.")
    flat = values.detach().reshape(-1)
    if not on_cpu(flat):
        return float(flat.kthvalue(flat.numel() - n + 1).values)
    array = flat.numpy()
    if array.size > WORTH_A_FLOOR and n < array.size // 8:
        above = _above_a_floor(array, n)
        array = above if above.size >= n else array
    return float(np.partition(array, array.size - n)[array.size - n])


def _above_a_floor(array: np.ndarray, n: int) -> np.ndarray:
    """Entries among which the n largest are, unless fewer than n: then the floor was too high.

    The floor is an entry of a sample, somewhat below where the n-th largest is expected. What is
    not a number is never below it, so it stays in.
    """
    sample = array[:: max(16, array.size // 2**15)]
    expected = n * sample.size / array.size
    rank = min(sample.size, int(expected + 4 * math.sqrt(expected) + 4))
    floor = np.partition(sample, sample.size - rank)[sample.size - rank]
    blocks = (array[i : i + IN_CACHE] for i in range(0, array.size, IN_CACHE))
    return np.concatenate([block[~(block < floor)] for block in blocks])


def keep_largest(scores: Tensor, n: int) -> tuple[Tensor, float | Tensor]:
    """A float mask, 1 at the n largest entries that are positive, and the smallest entry kept.

    Equal entries at the boundary are kept in index order, so at most n survive. The smallest is
    infinite where nothing is positive. Masks are floats because comparisons and boolean products
    cost several times more on CPU. On an accelerator the smallest stays there, as a scalar.
    """
    if not on_cpu(scores):
        values, places = scores.flatten().topk(min(n, scores.numel()), sorted=False)
        mask = torch.zeros_like(scores).flatten().scatter_(0, places, torch.relu(values).sign_())
        return mask.view_as(scores), torch.threshold(values, 0.0, math.inf).min()
    nth = kth_largest(scores, n) if n < scores.numel() else 0.0
    if nth <= 0:  # all positive entries survive
        smallest = float(torch.threshold(scores, 0.0, math.inf).min())
        return torch.threshold(scores, 0.0, 0.0).sign(), smallest
    below = float(np.nextafter(np.float32(nth), np.float32(0)))
    mask = torch.threshold(scores, below, 0.0).sign()
    surplus = int(mask.sum()) - n
    if surplus > 0:
        ties = (scores == nth).flatten().nonzero().flatten()
        mask.view(-1)[ties[-surplus:]] = 0.0
    return mask, nth


def largest_places(scores: Tensor, n: int, mask: Tensor) -> np.ndarray | None:
    """Flat places, ascending, of the n largest positive entries of each row; fewer where fewer are.

    Equal entries at the boundary are kept in index order. scores: [rows, width] on the CPU; mask:
    bool scratch of the same shape. None where a score is not a number: the caller's plain way says
    so loudly.

    The n-th largest of the maxima of groups is a floor that at least n entries reach and few more:
    no row is sorted or partitioned as a whole.
    """
    n_rows, width = scores.shape
    n = min(n, width)
    group = next(g for g in (16, 8, 4, 2, 1) if g == 1 or (width % g == 0 and 2 * n <= width // g))
    peaks = scores.view(n_rows, group, -1).amax(dim=1).numpy()
    peaks.partition(peaks.shape[1] - n, axis=1)
    floor = peaks[:, -n:].min(axis=1)
    if np.isnan(peaks[:, -n:]).any():  # they count as largest
        return None
    floor = np.maximum(floor, np.finfo(floor.dtype).tiny)
    array = scores.numpy()
    places = np.flatnonzero(np.greater_equal(array, floor[:, None], out=mask.numpy()))
    rows, values = places // width, array.reshape(-1)[places]
    counts = np.bincount(rows, minlength=n_rows)
    if counts.max() <= n:
        return places
    starts = counts.cumsum() - counts
    table = np.full((n_rows, counts.max()), -np.inf, dtype=array.dtype)
    table[rows, np.arange(len(rows)) - starts[rows]] = values
    nth = np.partition(table, -n, axis=1)[:, -n][rows]
    above, equal = values > nth, values == nth
    earlier = np.concatenate([[0], equal.cumsum()])  # equal entries before each place
    rank = earlier[1:] - earlier[starts][rows]
    left = n - np.bincount(rows, weights=above, minlength=n_rows)
    return places[above | (equal & (rank <= left[rows]))]


class Adam:
    """Adam on one vector, in place; its moments are plain tensors.

    torch's functional form: to construct `torch.optim.Adam` loads torch's compiler, a second or
    more in every process.
    """

    def __init__(
        self, vector: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self.vector = vector
        self.betas, self.eps = betas, eps
        self.moments = {
            "exp_avg": torch.zeros_like(vector),
            "exp_avg_sq": torch.zeros_like(vector),
            "step": torch.zeros((), device=vector.device),
        }

    def update(self, gradient: Tensor, lr: float) -> None:
        """One step; the strides of vector and gradient must be equal."""
        first, second, step = ([each] for each in self.moments.values())
        adam(
            [self.vector],
            [gradient],
            first,
            second,
            [],
            step,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
        )
