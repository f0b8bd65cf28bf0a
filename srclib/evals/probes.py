"""Probes: how well a concept is read linearly, from the residual or from a few latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from .. import rng
from ..errors import DataError, message


class Samples(NamedTuple):
    """Documents or words, one row each; pooled over the document where it has several tokens."""

    x: Tensor  # [n, d_in] residual
    acts: Tensor  # [n, d_sae]
    labels: Tensor  # [n] class, or [n, 2] two binary attributes

    def at(self, rows: Tensor) -> Samples:
        """The samples at some rows (indices or a mask)."""
        return Samples(self.x[rows], self.acts[rows], self.labels[rows])


class Probe(NamedTuple):
    """A linear classifier: positive where x w + b > 0."""

    w: Tensor  # [d] float64
    b: float

    def predict(self, x: Tensor) -> Tensor:
        """[n, d] -> [n] bool."""
        return x.double() @ self.w + self.b > 0

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Share of rows whose class is predicted. x: [n, d]; labels: [n] bool."""
        return float((self.predict(x) == labels.bool()).double().mean())


def mean_pool(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of a text that count. [n, seq, d], mask [n, seq] -> [n, d]."""
    total = values.masked_fill(~mask.bool()[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True)


def fit_probe(x: Tensor, labels: Tensor, *, reweigh: bool = False) -> Probe:
    """L2 logistic regression, C = 1. x: [n, d]; labels: [n] bool, both classes present.

    x is divided by one number, the root mean square of its centred entries, so that the penalty
    does not depend on the unit of activations; SAEBench fits them as they are (on raw Gemma
    activations the penalty is next to nothing). reweigh: both classes weigh the same.
    Raises DataError when a class is missing.
    """
    _check_both(labels)
    X = x.detach().cpu().double()
    middle = X.mean(dim=0)  # moves the intercept alone, and helps the solver
    scale = float((X - middle).square().mean().sqrt()) or 1.0
    weights = "balanced" if reweigh else None
    model = LogisticRegression(C=1.0, max_iter=1000, class_weight=weights)
    model.fit(((X - middle) / scale).numpy(), labels.bool().cpu().numpy())
    w = torch.from_numpy(model.coef_[0] / scale)
    return Probe(w, float(model.intercept_[0] - w @ middle))


def class_gap(acts: Tensor, labels: Tensor) -> Tensor:
    """[d_sae] mean of the positive rows minus mean of the others. acts: [n, d_sae]; labels: [n]."""
    positive = labels.bool()
    return acts[positive].mean(dim=0) - acts[~positive].mean(dim=0)


def most_telling(acts: Tensor, labels: Tensor, k: int) -> Tensor:
    """[min(k, d_sae)] the columns with the largest |mean_pos - mean_neg|, largest first."""
    gap = class_gap(acts, labels)
    return gap.abs().topk(min(k, len(gap))).indices


def k_sparse_f1(
    acts: Tensor, labels: Tensor, test_acts: Tensor, test_labels: Tensor, k: int
) -> float:
    """F1 on the test set of an L1 logistic regression on the k most telling latents.

    Kantamneni et al. 2025 (arXiv:2502.16681), setting "normal". acts: [n, d_sae]; labels: [n]
    bool. Latents are chosen and the probe is fitted on the training set alone. Raises DataError
    when a class is missing.
    """
    _check_both(labels)
    _check_both(test_labels)
    best = most_telling(acts, labels, k)
    X, Z = acts[:, best].numpy(), test_acts[:, best].numpy()
    scale = np.maximum(X.std(axis=0), 1e-6)  # liblinear's penalty is not scale-free
    probe = LogisticRegression(l1_ratio=1, solver="liblinear", random_state=0)
    probe.fit(X / scale, labels.numpy())
    return float(f1_score(test_labels.numpy(), probe.predict(Z / scale)))


def sparse_probing(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ks: Sequence[int],
    *,
    seed: int = 0,
) -> dict[int, float]:
    """SAEBench sparse probing: {k: test accuracy of probes on the k most telling columns}.

    Mean over classes, each against as many rows of the others (`one_vs_rest`); chance is 1/2.
    features: [n, d], pooled over the text; labels: [n] class. Columns are chosen and probes fitted
    on the training rows alone. Of the residual instead of latents: SAEBench's baselines.

    Differs from SAEBench: one data set, which the caller brings; the unit of the features does
    not count (`fit_probe`). Raises DataError for a class without rows or without a rest.
    """
    scores: dict[int, list[float]] = {k: [] for k in ks}
    for c in labels.unique().tolist():
        rows = one_vs_rest(labels, c, seed, "probing", "train", c)
        test_rows = one_vs_rest(test_labels, c, seed, "probing", "test", c)
        f, positive = features[rows], labels[rows] == c
        best = most_telling(f, positive, max(ks))
        test_f, test_positive = test_features[test_rows], test_labels[test_rows] == c
        for k in ks:
            probe = fit_probe(f[:, best[:k]], positive)
            scores[k].append(probe.accuracy(test_f[:, best[:k]], test_positive))
    return {k: sum(each) / len(each) for k, each in scores.items()}


def one_vs_rest(labels: Tensor, positive: int, seed: int, *names: str | int) -> Tensor:
    """Rows of class `positive` and as many others, drawn evenly from the other classes, in order.

    labels: [n] class per row. Where the others are too few for that, positives are left out.
    Raises DataError when a side is empty.
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
        empty = [c for c, each in enumerate(rows) if len(each) == 0]
        fix = "Take more samples."
        raise DataError(message("combinations of labels without rows", empty, "none", fix))
    return torch.cat([each[:n] for each in rows]).sort().values


def _shuffled(mask: Tensor, seed: int, *names: str | int) -> Tensor:
    """The rows of a mask in random order."""
    rows = mask.cpu().nonzero().flatten()
    return rows[torch.randperm(len(rows), generator=rng.stream(seed, "evals", *names))]


def _check_both(labels: Tensor) -> None:
    share = float(labels.double().mean()) if len(labels) else 0.0
    if not 0 < share < 1:
        fix = "Take more samples."
        raise DataError(message("share of positives in labels", share, "between 0 and 1", fix))
