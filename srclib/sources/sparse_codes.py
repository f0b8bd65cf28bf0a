"""Sparse sums of known features: the data model X = H V of Group Bias Adaptation.

    V [n_features, d_in]    Gaussian rows scaled to norm 1: the features
    H [batch, n_features]   non-negative, exactly s entries per row
    x = h V / ||h V||       so |w.x| <= 1 for a unit w, the range a bias in [-1, 0] can cut

The paper does not say how features are drawn, nor how large coefficients are. Our choice: s
distinct features per row, uniformly, with coefficient 1. The options below leave it on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .. import rng
from ..errors import DataError, ParameterError, message, whole
from ..store import files

TOLERANCE, MOST_ROUNDS = 1e-9, 10_000


class SparseCodes:
    """An endless source of rows that each hold `s` of `n_features` features in `d_in` dimensions.

    s: non-zeros per row; a tuple such as (3, 20) gives equal shares of the rows to its members.
    sizes: [n_features] > 0, coefficient of each feature before a row is scaled; None: all 1.
    frequency: [n_features] > 0, how often features occur, relative to each other (a long tail:
        `1 / torch.arange(1, n + 1)`); None: equally often. Feature i occurs in exactly a share
        s frequency_i / sum(frequency) of the rows, otherwise as independently as s allows.
    pair_rho: couples features 2i and 2i + 1 so that P(one | the other) = pair_rho, at equal
        frequencies (needs frequency=None); None: no pairs, where P(j | i) = (s-1) / (n_features-1).

    Attributes: features [n_features, d_in], unit rows; frequencies [n_features], float64, the
    share of rows that hold each feature. Raises ParameterError or DataError for other values.
    """

    n_samples: int | None = None

    def __init__(
        self,
        n_features: int,
        d_in: int,
        s: int | tuple[int, ...],
        seed: int = 0,
        *,
        sizes: Tensor | None = None,
        frequency: Tensor | None = None,
        pair_rho: float | None = None,
    ) -> None:
        whole("n_features", n_features, 1)
        whole("d_in", d_in, 2)
        self.s = _row_sizes(s, n_features)
        if pair_rho is not None:
            _check_pairs(pair_rho, self.s, n_features, frequency)
        self.d_in, self.seed, self.pair_rho = d_in, seed, pair_rho
        self.sizes = None if sizes is None else _positive("sizes", sizes, n_features).float()
        generator = rng.stream(seed, "sparse_codes", "features")
        rows = torch.randn(n_features, d_in, generator=generator)
        self.features = rows / _norm(rows)

        share = _shares(frequency, n_features, max(self.s))  # [n_features], sums to 1
        self.frequencies = share * sum(self.s) / len(self.s)
        # one way of drawing per member of s; with pairs these are drawn first, then their members
        pairs = torch.ones(n_features // 2, dtype=torch.float64)
        odds = [odds_for(s * share, s) if pair_rho is None else pairs for s in self.s]
        self._draws = [Subsets(each, s) for each, s in zip(odds, self.s, strict=True)]

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "source": "SparseCodes",
            "features": files.sha256(self.features.numpy().tobytes()),
            "frequencies": files.sha256(self.frequencies.numpy().tobytes()),
            "sizes": "one" if self.sizes is None else files.sha256(self.sizes.numpy().tobytes()),
            "s": list(self.s),
            "pair_rho": self.pair_rho,
            "seed": self.seed,
        }

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in] float32, rows of norm 1; negative steps are the evaluation stream."""
        x = torch.empty(n_batch, self.d_in)
        for rows, _, _, each in self._parts(step, n_batch):
            x[rows] = each
        return x

    def codes(self, step: int, n_batch: int) -> Tensor:
        """H [n_batch, n_features] of `batch(step, n_batch)`, the scale of the rows included:
        codes @ features is that batch."""
        H = torch.zeros(n_batch, len(self.features))
        for rows, chosen, values, _ in self._parts(step, n_batch):
            H[rows] = H[rows].scatter_(1, chosen, values)
        return H

    def _parts(self, step: int, n_batch: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Per member of `s` which rows are its own, their features and coefficients
        [rows, s], and the rows themselves [rows, d_in]. Rows take turns: every batch is mixed."""
        generator = rng.stream(self.seed, "sparse_codes", "codes", step)
        for first, draw in enumerate(self._draws):
            own = slice(first, n_batch, len(self.s))
            chosen = draw.draw(len(range(n_batch)[own]), generator)
            if self.pair_rho is not None:
                chosen = _members(chosen, self.pair_rho, generator)
            values = torch.ones(chosen.shape) if self.sizes is None else self.sizes[chosen]
            x = F.embedding_bag(chosen, self.features, per_sample_weights=values, mode="sum")
            norm = _norm(x)
            yield own, chosen, values / norm, x / norm


def _members(pairs: Tensor, rho: float, generator: torch.Generator) -> Tensor:
    """s features per row from s distinct pairs per row [rows, s], so that P(partner | i) = rho.

    A row holds t couples, s - 2t single features and, of the pairs drawn, t not at all. By
    symmetry P(partner | i) = E[2t] / s, and t is binomial with s // 2 trials.
    """
    n_rows, s = pairs.shape
    u = torch.rand(3, n_rows, s, generator=generator)
    pairs = pairs.gather(1, u[0].argsort(dim=1))  # they come in ascending order
    slot = torch.arange(s)
    coupled = u[1, :, : s // 2] < rho * s / (2 * max(s // 2, 1))
    n_both = 2 * coupled.sum(dim=1, keepdim=True)  # 2t; slots 0..2t-1 hold the couples
    single = (u[2] < 0.5).long()
    in_couple = slot < n_both
    pair = pairs.gather(1, torch.where(in_couple, slot // 2, slot))
    return 2 * pair + torch.where(in_couple, slot % 2, single)


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _row_sizes(s: int | tuple[int, ...], n_features: int) -> tuple[int, ...]:
    sizes = tuple(s) if isinstance(s, tuple | list) else (s,)
    if not sizes:
        raise ParameterError(message("s", s, "a number, or a tuple of at least one", "Use 3."))
    for each in sizes:
        if whole("s", each, 1) > n_features:
            raise ParameterError(message("s", each, f"at most n_features={n_features}", "Lower s."))
    return sizes


def _check_pairs(
    rho: float, sizes: tuple[int, ...], n_features: int, frequency: Tensor | None
) -> None:
    if frequency is not None:
        fix = "Pairs occur equally often: leave one of the two out."
        raise ParameterError(message("frequency", "a tensor", "None beside pair_rho", fix))
    if n_features % 2 or max(sizes) > n_features // 2:
        fix = "A row takes its features from as many pairs."
        allowed = f"even and >= 2 s = {2 * max(sizes)} beside pair_rho"
        raise ParameterError(message("n_features", n_features, allowed, fix))
    most = min(2 * (s // 2) / s for s in sizes)  # an odd s leaves one feature without partner
    if not 0 <= rho <= most:
        allowed = f"0 <= pair_rho <= {most:.4g} for s={sizes}"
        raise ParameterError(message("pair_rho", rho, allowed, "Lower it."))


def _shares(frequency: Tensor | None, n_features: int, s: int) -> Tensor:
    """Relative frequencies that sum to 1, float64 [n_features]."""
    if frequency is None:
        return torch.full((n_features,), 1 / n_features, dtype=torch.float64)
    share = _positive("frequency", frequency, n_features)
    share /= share.sum()
    most = s * float(share.max())
    if most >= 1:  # it would have to stand in a row twice
        fix = f"Feature {int(share.argmax())} is too frequent: flatten the tail or lower s."
        allowed = "a share of the rows below 1"
        raise ParameterError(message("s * max(frequency) / sum(frequency)", most, allowed, fix))
    return share


def _positive(name: str, values: Tensor, n_features: int) -> Tensor:
    """float64 copy [n_features]."""
    values = torch.as_tensor(values).detach().double().clone()
    if values.shape != (n_features,):
        fix = "Give one number per feature."
        raise DataError(message(f"{name}.shape", tuple(values.shape), f"({n_features},)", fix))
    bad = ~((values > 0) & values.isfinite())
    if bool(bad.any()):
        fix = "Leave out features that never occur."
        raise DataError(message(name, float(values[bad][0]), "finite numbers > 0", fix))
    return values


class Subsets:
    """Draws subsets of `size` distinct indices below `len(odds)`; odds [n] are positive.

    Conditional Poisson sampling (Chen, Dempster and Liu 1994): P(subset) is proportional to the
    product of its members' odds. Of all laws with this size and these inclusion probabilities it
    has the largest entropy: members are as independent as the fixed size lets them be.

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
    """P(i is a member) [n], from odds [n]: P_r(i) ~ odds_i (1 - P_(r-1)(i)), sum r; P_0 = 0."""
    found = torch.zeros_like(odds)
    for r in range(1, size + 1):
        found = odds * (1 - found)
        found *= r / found.sum()
    return found


def odds_for(wanted: Tensor, size: int) -> Tensor:
    """Odds [n], float64, for the inclusion probabilities `wanted` [n], each below 1, sum `size`.

    A fixed point. Raises ParameterError where it is not reached: a member nearly always there.
    """
    odds = wanted.clone()
    for _ in range(MOST_ROUNDS):
        found = inclusion(odds, size)
        if float((found / wanted - 1).abs().max()) < TOLERANCE:
            return odds
        odds *= wanted / found
    seen, fix = float(wanted.max()), "Flatten the frequencies."
    raise ParameterError(message("largest share of the rows", seen, "well below 1", fix))
