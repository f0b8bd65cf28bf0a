"""SAEBench sparse probing: is a concept readable from the k most telling latents?"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .k_sparse import most_telling
from .probes import fit_probe, one_vs_rest


def sparse_probing(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    ks: Sequence[int] = (1, 2, 5),
    *,
    seed: int = 0,
) -> dict[int, float]:
    """Test accuracy of probes on the k best columns, mean over classes: {k: accuracy}.

        best_c   = the k columns with the largest |mean_{i in c} f_i - mean_{i not in c} f_i|
        accuracy = mean_c accuracy of (logistic regression of 1[c] on f[best_c]);  chance is 1/2

    features: [n, d], pooled over the text; labels: [n] class. One class against the rest, as many
    negatives as positives and drawn evenly from the other classes, in training and test alike.
    Columns are chosen and probes fitted on the training rows alone.

    SAEBench's baselines are the same call: the residual instead of latents for its k best
    channels, and `ks=(d,)` for the probe on all columns.

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
