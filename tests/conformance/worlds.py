"""The toy worlds of Sparse but Wrong, drawn by SAELens' generator and by ours.

The random numbers are others, so moments are compared: each in units of its standard error.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from agreement import Row
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary
from torch import Tensor

from srclib.sources import ToyFeatures, random_correlation

N_FEATURES, D_IN, N = 12, 20, 200_000
LARGEST = 5.0  # standard errors, over all moments: one run in 10,000 goes further by chance


def rows() -> Iterator[Row]:
    p = torch.linspace(0.4, 0.05, N_FEATURES, dtype=torch.float64)
    world = ToyFeatures(N_FEATURES, D_IN, p, random_correlation(N_FEATURES, seed=3))
    assert world.corr is not None
    torch.manual_seed(7)  # SAELens draws from the global stream
    drawn = ActivationGenerator(
        N_FEATURES,
        firing_probabilities=p.float(),
        std_firing_magnitudes=world.magnitude_std,
        correlation_matrix=world.corr.float(),
    )
    dictionary = FeatureDictionary(N_FEATURES, D_IN, initializer=None)
    dictionary.feature_vectors.data.copy_(world.features)
    with torch.no_grad():
        theirs = drawn.sample(N).double()
        same = dictionary(theirs.float()).double()
    ours = torch.linalg.lstsq(world.features.double().T, world.batch(0, N).double().T).solution.T
    told = f"{N_FEATURES} correlated features, {N:,} inputs"
    for what, moment in MOMENTS.items():
        yield Row(what, told, "SAELens", _apart(moment(theirs), moment(ours)), LARGEST)
    shift = world.batch(0, N).double().mean(0) - same.mean(0)
    error = (same.var(0) / N + world.batch(0, N).double().var(0) / N).sqrt()
    yield Row("mean input", told, "SAELens", float((shift / error).abs().max()), LARGEST)


def _both(z: Tensor) -> Tensor:
    """[inputs, pairs] whether both features of a pair fire."""
    fires = (z > 1e-4).double()
    i, j = torch.triu_indices(N_FEATURES, N_FEATURES, 1)
    return fires[:, i] * fires[:, j]


MOMENTS = {
    "how often a feature fires": lambda z: (z > 1e-4).double(),
    "how often two fire together": _both,
    "magnitude": lambda z: z,
    "squared magnitude": lambda z: z.square(),
}


def _apart(a: Tensor, b: Tensor) -> float:
    """Largest difference of means over columns, in standard errors of that difference."""
    error = ((a.var(0) + b.var(0)) / N).sqrt()
    return float(((a.mean(0) - b.mean(0)) / error).abs().max())
