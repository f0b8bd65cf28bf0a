"""k-sparse probing: what a classifier reads from the k most telling latents.

Kantamneni et al. 2025 (arXiv:2502.16681), setting "normal": latents are ranked by the difference
of class means, an L1 logistic regression is fitted on the best k, F1 is taken on held-out data.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from ..errors import DataError, message


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
    """F1 on the test set of a probe on the k best latents.

    acts: [n, d_sae]; labels: [n] bool, both classes present. The latents are chosen and the probe
    is fitted on the training set alone. Raises DataError when a class is missing.
    """
    for name, values in (("labels", labels), ("test_labels", test_labels)):
        share = float(values.float().mean())
        if not 0 < share < 1:
            fix = "Take more samples."
            raise DataError(message(f"share of positives in {name}", share, "between 0 and 1", fix))
    best = most_telling(acts, labels, k)
    X, Z = acts[:, best].numpy(), test_acts[:, best].numpy()
    scale = np.maximum(X.std(axis=0), 1e-6)  # liblinear's penalty is not scale-free
    probe = LogisticRegression(l1_ratio=1, solver="liblinear", random_state=0)
    probe.fit(X / scale, labels.numpy())
    return float(f1_score(test_labels.numpy(), probe.predict(Z / scale)))
