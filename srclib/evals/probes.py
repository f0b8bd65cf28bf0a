"""What several evaluations share: pooled samples, balanced classes, a linear probe."""

from __future__ import annotations

from typing import NamedTuple

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from .. import rng
from ..errors import DataError, message


class Samples(NamedTuple):
    """Documents or words: one row per sample in every tensor."""

    x: Tensor
    """[n, d_in] residual, pooled over the document where there are several tokens"""
    acts: Tensor
    """[n, d_sae] latents, pooled in the same way"""
    labels: Tensor
    """[n] class, or [n, 2] two binary attributes"""

    def at(self, rows: Tensor) -> Samples:
        """The samples at some rows (indices or a mask)."""
        return Samples(self.x[rows], self.acts[rows], self.labels[rows])


class Probe(NamedTuple):
    """A linear classifier: positive where x w + b > 0."""

    w: Tensor
    """[d] float64"""
    b: float

    def predict(self, x: Tensor) -> Tensor:
        """[n, d] -> [n] bool."""
        return x.double() @ self.w + self.b > 0

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Share of rows whose class is predicted. x: [n, d]; labels: [n] bool."""
        return float((self.predict(x) == labels.bool()).double().mean())


def mean_pool(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of a text that count. [n, seq, d], mask [n, seq] -> [n, d].

    Raises DataError, with its index, for a text without any.
    """
    n_tokens = mask.sum(dim=1, keepdim=True)
    if bool((n_tokens == 0).any()):
        first = int((n_tokens == 0).nonzero()[0, 0])
        fix = "Drop texts that hold nothing but special tokens."
        raise DataError(message(f"tokens that count in text {first}", 0, "at least 1", fix))
    return values.masked_fill(~mask.bool()[..., None], 0.0).sum(dim=1) / n_tokens


def fit_probe(x: Tensor, labels: Tensor, *, reweigh: bool = False) -> Probe:
    """L2 logistic regression, C = 1. x: [n, d]; labels: [n] bool, both classes present.

    x is divided by one number, the root mean square of its centred entries, so that the penalty
    does not depend on the unit of activations; SAEBench fits them as they are (on raw Gemma
    activations the penalty is next to nothing). reweigh: both classes weigh the same.
    Raises DataError when a class is missing.
    """
    share = float(labels.double().mean()) if len(labels) else 0.0
    if not 0 < share < 1:
        raise DataError(message("share of positives", share, "between 0 and 1", "Take more rows."))
    X = x.detach().cpu().double()
    middle = X.mean(dim=0)  # moves the intercept alone, and helps the solver
    scale = float((X - middle).square().mean().sqrt()) or 1.0
    weights = "balanced" if reweigh else None
    model = LogisticRegression(C=1.0, max_iter=1000, class_weight=weights)
    model.fit(((X - middle) / scale).numpy(), labels.bool().cpu().numpy())
    w = torch.from_numpy(model.coef_[0] / scale)
    return Probe(w, float(model.intercept_[0] - w @ middle))


def f1_score(predicted: Tensor, truth: Tensor) -> float:
    """2 TP / (number predicted + number true); both [n] bool, not both empty."""
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


def one_vs_rest(labels: Tensor, positive: int, seed: int, *names: str | int) -> Tensor:
    """Rows of class `positive` and as many others, drawn evenly from the other classes.

    labels: [n] class per row. Where the others are too few for that, positives are left out. The
    order is by row. Raises DataError when a side is empty.
    """
    others = [int(c) for c in labels.unique() if int(c) != positive]
    inside = _shuffled(labels == positive, seed, *names, "inside")
    quota = -(-len(inside) // max(len(others), 1))
    drawn = [_shuffled(labels == c, seed, *names, "outside", c)[:quota] for c in others]
    n = min(len(inside), sum(map(len, drawn)))
    if n == 0:
        fix = "Take more samples, or leave the class out."
        allowed = "at least 1 row inside and outside the class"
        raise DataError(message(f"rows of class {positive} against others", n, allowed, fix))
    # one of each class in turn, so that cutting to n takes from all alike
    turns = torch.cat([torch.arange(len(rows)) for rows in drawn])
    outside = torch.cat(drawn)[turns.argsort(stable=True)]
    return torch.cat([inside[:n], outside[:n]]).sort().values


def equal_cells(cells: Tensor, n_cells: int, seed: int, *names: str | int) -> Tensor:
    """Rows such that each of the cells 0..n_cells-1 occurs equally often. cells: [n] -> [m].

    Raises DataError for an empty cell.
    """
    rows = [_shuffled(cells == c, seed, *names, c) for c in range(n_cells)]
    n = min(map(len, rows))
    if n == 0:
        fix = "Take more samples."
        empty = [c for c, each in enumerate(rows) if len(each) == 0]
        raise DataError(message("combinations of labels without rows", empty, "none", fix))
    return torch.cat([each[:n] for each in rows]).sort().values


def _shuffled(mask: Tensor, seed: int, *names: str | int) -> Tensor:
    """The rows of a mask in random order."""
    rows = mask.cpu().nonzero().flatten()
    return rows[torch.randperm(len(rows), generator=rng.stream(seed, "evals", *names))]
