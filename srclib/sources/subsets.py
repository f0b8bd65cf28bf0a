"""Random subsets of a fixed size in which members appear as often as asked.

Conditional Poisson sampling (Chen, Dempster and Liu 1994): P(subset) is proportional to the
product of its members' odds. Of all laws with the same size and the same inclusion probabilities
it has the largest entropy, so members are as independent as the fixed size lets them be.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ParameterError, message

TOLERANCE, MOST_ROUNDS = 1e-9, 10_000


class Subsets:
    """Draws subsets of `size` distinct indices below `len(odds)`; odds [n] are positive.

    Members are found in ascending order. With e_r(k) the r-th elementary symmetric polynomial of
    odds[k:], and r members still to find among the indices from `first` on,

        P(next member >= k) = e_r(k) / e_r(first)

    so each member costs one look-up in a table, however many indices there are.
    """

    def __init__(self, odds: Tensor, size: int) -> None:
        odds = odds * (size / odds.sum())  # only ratios count; this keeps the polynomials near 1
        self.n = len(odds)
        rising = torch.ones(self.n + 1, dtype=torch.float64)  # e_0
        # in the order of drawing, each e_r(n), ..., e_r(0): place j holds e_r of the last j odds
        self.tables: list[NDArray[np.float64]] = []
        for _ in range(size):  # e_r(k) = e_r(k + 1) + odds_k e_(r-1)(k + 1)
            terms = odds.flip(0) * rising[:-1]
            rising = torch.cat([terms.new_zeros(1), terms.cumsum(0)])
            self.tables.insert(0, rising.numpy())

    def draw(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """[n_rows, size], ascending in each row."""
        u = torch.rand(len(self.tables), n_rows, generator=generator, dtype=torch.float64).numpy()
        members = np.empty((n_rows, len(self.tables)), dtype=np.int64)
        left = np.full(n_rows, self.n)  # how many indices may still be members
        for i, rising in enumerate(self.tables):  # numpy: a third of torch's cost per small call
            found = np.searchsorted(rising, u[i] * rising[left], side="right")
            members[:, i] = self.n - found  # last k: e_r(k) > level
            left = found - 1
        return torch.from_numpy(members)


def inclusion(odds: Tensor, size: int) -> Tensor:
    """P(i is a member) [n] for subsets of `size`, from odds [n].

    P_r(i) is proportional to odds_i (1 - P_(r-1)(i)) and sums to r; P_0 = 0.
    """
    found = torch.zeros_like(odds)
    for r in range(1, size + 1):
        found = odds * (1 - found)
        found *= r / found.sum()
    return found


def odds_for(wanted: Tensor, size: int) -> Tensor:
    """Odds [n], float64, for the inclusion probabilities `wanted` [n], each below 1, sum `size`.

    A fixed point; raises ParameterError where it is not reached (a member that is nearly always
    there).
    """
    odds = wanted.clone()
    for _ in range(MOST_ROUNDS):
        found = inclusion(odds, size)
        if float((found / wanted - 1).abs().max()) < TOLERANCE:
            return odds
        odds *= wanted / found
    seen, fix = float(wanted.max()), "Flatten the frequencies."
    raise ParameterError(message("largest share of the rows", seen, "well below 1", fix))
