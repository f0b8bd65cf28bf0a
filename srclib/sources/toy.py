"""Toy activations with known features: Sparse but Wrong, section 3 and appendix A.

z ~ N(0, C)                      one correlated normal per feature (a Gaussian copula)
fires_i = 1[z_i > Phi^-1(1 - p_i)]
code_i  = ReLU(fires_i (1 + sigma eps_i))
x = code F                       F: unit rows, the features
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from .. import rng
from ..compute.fast import Adam
from ..errors import DataError, ParameterError, message
from ..store import files


class ToyFeatures:
    """An endless source of sparse sums of `n_features` known directions in `d_in` dimensions.

    p: firing probability, one number or one per feature.
    corr: copula correlation matrix [n_features, n_features], or None for independent features.
        It is the correlation of the normals, not of the firings: `firing_correlation` measures
        that.
    magnitude_std: sigma above.
    overlap_steps: None makes the features exactly orthonormal when they fit (QR) and as
        orthogonal as 1,000 optimiser steps make them when they do not; a number starts from
        random rows and stops the optimiser after so many steps (the papers' superposition).

    Attributes: features [n_features, d_in] with unit rows; true_l0, the mean number of features
    that fire. Raises ParameterError or DataError for values outside these bounds.
    """

    n_samples: int | None = None

    def __init__(
        self,
        n_features: int,
        d_in: int,
        p: float | Tensor,
        corr: Tensor | None = None,
        magnitude_std: float = 0.15,
        seed: int = 0,
        overlap_steps: int | None = None,
    ) -> None:
        if not 0 <= magnitude_std < math.inf:
            fix = "The paper's is 0.15."
            raise ParameterError(message("magnitude_std", magnitude_std, "a finite number", fix))
        self.p = _probabilities(p, n_features)
        self.d_in, self.seed, self.magnitude_std = d_in, seed, magnitude_std
        self.features = _features(n_features, d_in, seed, overlap_steps)  # [n_features, d_in]
        self.true_l0 = float(self.p.sum())
        # The copula is factored once, in float64; a batch is then one matrix product.
        self.corr = None if corr is None else _correlation(corr, n_features)
        factor = None if self.corr is None else torch.linalg.cholesky(self.corr)
        self._mix = None if factor is None else factor.T.float().contiguous()
        self._minus_cut = torch.from_numpy(-norm.isf(self.p.numpy())).float()  # [n_features]

    @property
    def identity(self) -> dict[str, Any]:
        corr = "none" if self.corr is None else files.sha256(self.corr.numpy().tobytes())
        return {
            "source": "ToyFeatures",
            "features": files.sha256(self.features.numpy().tobytes()),
            "p": files.sha256(self.p.numpy().tobytes()),
            "corr": corr,
            "magnitude_std": self.magnitude_std,
            "seed": self.seed,
        }

    def codes(self, step: int, n_batch: int) -> Tensor:
        """The true coefficients [n_batch, n_features] of `batch(step, n_batch)`."""
        shape = (2, n_batch, len(self.features))
        z, eps = rng.normals(self.seed, "toy", "batch", step, shape=shape)
        cut = self._minus_cut
        z = z + cut if self._mix is None else torch.addmm(cut, z, self._mix)
        fires = z.sign_().relu_()
        return eps.mul_(self.magnitude_std).add_(1).relu_().mul_(fires)

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in] float32; negative steps are the evaluation stream."""
        return self.codes(step, n_batch) @ self.features

    def firing_correlation(self, n_samples: int = 100_000) -> Tensor:
        """Pearson correlation of the binary firings [n_features, n_features], by sampling."""
        return torch.corrcoef((self.codes(-1, n_samples) > 0).T.double())


def random_correlation(
    n_features: int,
    seed: int,
    low: float = 0.3,
    high: float = 0.9,
    sparsity: float = 0.3,
    positive: float = 0.5,
) -> Tensor:
    """The paper's random copula matrix, float64 [n_features, n_features] (official code).

    A share `1 - sparsity` of all pairs gets a correlation of size U(low, high), a share
    `positive` of those with a plus sign; then eigenvalues are clipped at 1e-6 (not few: 20 of 50).
    Uses Python's own generator, as the official code does, to give the same matrix.
    """
    if not 0 < low <= high < 1:
        raise ParameterError(message("(low, high)", (low, high), "0 < low <= high < 1", "Swap?"))
    R = random.Random(seed)
    pairs = [(i, j) for i in range(n_features) for j in range(i + 1, n_features)]
    chosen = R.sample(pairs, len(pairs) - int(len(pairs) * sparsity))
    n_positive = int(len(chosen) * positive)
    matrix = np.eye(n_features)
    for rank, (i, j) in enumerate(chosen):
        strength = R.uniform(low, high)
        matrix[i, j] = matrix[j, i] = strength if rank < n_positive else -strength
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * values.clip(min=1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(matrix))
    matrix /= np.outer(scale, scale)
    np.fill_diagonal(matrix, 1.0)
    return torch.from_numpy(matrix)


def _probabilities(p: float | Tensor, n_features: int) -> Tensor:
    """float64 [n_features], each strictly between 0 and 1."""
    p = torch.as_tensor(p, dtype=torch.float64).detach().clone()
    p = p.expand(n_features).clone() if p.ndim == 0 else p
    if p.shape != (n_features,):
        fix = "Give one number, or one per feature."
        raise ParameterError(message("len(p)", len(p), f"n_features={n_features}", fix))
    if not bool(((p > 0) & (p < 1)).all()):
        bad = next(float(v) for v in p if not 0 < v < 1)
        raise ParameterError(message("p", bad, "0 < p < 1", "A feature must fire at times."))
    return p


def _correlation(corr: Tensor, n_features: int) -> Tensor:
    """float64 copy with a jitter that lets an exactly singular matrix be factored."""
    corr = corr.detach().to(torch.float64)
    if corr.shape != (n_features, n_features):
        fix = "One row and one column per feature."
        allowed = f"({n_features}, {n_features})"
        raise ParameterError(message("corr.shape", tuple(corr.shape), allowed, fix))
    if not torch.allclose(corr, corr.T) or not torch.allclose(corr.diag(), torch.ones(()).double()):
        raise DataError("corr: allowed is a symmetric matrix with unit diagonal. Symmetrise it.")
    lowest = float(torch.linalg.eigvalsh(corr)[0])
    if lowest < -1e-6:
        fix = "Lower the correlations, or clip eigenvalues as random_correlation does."
        raise DataError(message("smallest eigenvalue of corr", lowest, ">= 0", fix))
    jitter = 1e-9 + max(0.0, -lowest)
    return (corr + jitter * torch.eye(n_features).double()) / (1 + jitter)


def _features(n_features: int, d_in: int, seed: int, overlap_steps: int | None) -> Tensor:
    """Unit rows [n_features, d_in]."""
    generator = rng.stream(seed, "toy", "features")
    rows = torch.randn(n_features, d_in, generator=generator, dtype=torch.float64)
    if overlap_steps is None and n_features <= d_in:
        q, r = torch.linalg.qr(rows.T)
        return (q * r.diag().sign()).T.float().contiguous()
    steps = 1000 if overlap_steps is None else overlap_steps
    # Unit rows: from longer ones the optimiser spends its steps on lengths, not on angles.
    return _spread((rows / rows.norm(dim=1, keepdim=True)).float(), steps)


def _spread(rows: Tensor, n_steps: int) -> Tensor:
    """Adam on sum_{i != j} (f_i . f_j)^2 + g sum_i (|f_i|^2 - 1)^2, then unit rows (official).

    The gradient is 4 (offdiag(F F^T) F + g (|f_i|^2 - 1) f_i).
    """
    adam = Adam(rows)
    for _ in range(n_steps):
        gram = rows @ rows.T
        excess = gram.diag() - 1
        gram.fill_diagonal_(0)
        gradient = 4 * (gram @ rows + len(rows) * excess[:, None] * rows)
        adam.update(gradient, lr=0.01)
    return rows / rows.norm(dim=1, keepdim=True)
