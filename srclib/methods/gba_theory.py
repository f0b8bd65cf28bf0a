"""The provable form of Bias Adaptation: every neuron on its own, a constant number of steps.

Theorem 6.1 of arXiv:2506.14002 is about a simplified algorithm: one group, the bias held at the
target activation frequency p, gradient descent on the sphere, fresh samples at each step, a
smooth ReLU phi, and an output scale a -> 0, under which the residual is x itself and neurons do
not see each other. For a neuron w with y = w.x + b the step along -d/dw 1/2 ||x - a w phi(y)||^2,
divided by a, is

    w <- normalise( w + lr / p * mean[ phi'(y) (w.x) x + phi(y) x ] ),   b: P(w.x + b > 0) = p

Our choices: b is the empirical quantile of each batch; phi is the softplus of sharpness `BETA`,
nearly a ReLU for inputs of norm 1; lr is counted in units of 1 / p, the size of a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import rng
from ..errors import ParameterError, message, whole
from ..sources import Source

BETA = 50.0


@torch.no_grad()
def modified_ba(
    source: Source, n_neurons: int, p: float, *, n_batch: int = 4096, lr: float = 10, seed: int = 0
) -> Iterator[Tensor]:
    """Directions [n_neurons, d_in] after each step, unit rows, without end; a random start.

    Neurons are independent of each other, so one run answers for every smaller width. source:
    inputs of norm about 1. Raises ParameterError unless 1 <= p * n_batch < n_batch.
    """
    n_active = round(p * n_batch)
    if not 1 <= n_active < n_batch:
        fix = "Raise n_batch or p."
        raise ParameterError(message("p * n_batch", p * n_batch, f"in [1, {n_batch})", fix))
    shape = (whole("n_neurons", n_neurons, 1), source.d_in)
    W = F.normalize(rng.normals(seed, "modified_ba", "start", shape=shape), dim=1)
    for step in itertools.count():
        x = source.batch(step, n_batch)
        W = torch.cat([_step(part, x, n_active, lr / p) for part in W.split(512)])
        yield W


def _step(W: Tensor, x: Tensor, n_active: int, lr: float) -> Tensor:
    """One step of some neurons, [n, d_in]."""
    h = W @ x.T  # [n, n_batch], w.x
    b = -h.topk(n_active, dim=1).values[:, -1:]  # the n_active-th largest stands at y = 0
    y = BETA * (h + b)
    slope = torch.sigmoid(y)  # phi' of phi(y) = softplus(BETA y) / BETA
    gradient = (slope * h + F.softplus(y) / BETA) @ x / len(x)
    return F.normalize(W + lr * gradient, dim=1)


def resonance_band(n: int, d: int, s: int) -> tuple[float, float]:
    """Target frequencies that the theorem allows, with all its constants set to 1.

    1/n <= p <= min{n^-(1 + 1/s)/2, n^-2/s, d/n}: n features, s per input, in d dimensions.
    """
    whole("n", n, 2), whole("d", d, 1), whole("s", s, 1)
    return 1 / n, min(n ** (-(1 + 1 / s) / 2), n ** (-2 / s), d / n)


def moved_pairs(features: Tensor, step: float, seed: int = 0) -> Tensor:
    """Another dictionary: of features 2i and 2i + 1 one moves by `step`, its partner back.

    [n_features, d_in], an even number of rows, left as long as the move makes them. The sum of a
    pair stays: where partners always come together, both dictionaries give the same inputs.
    """
    shape = (len(features) // 2, features.shape[1])
    move = step * F.normalize(rng.normals(seed, "moved_pairs", shape=shape), dim=1)
    return features + torch.stack([move, -move], dim=1).flatten(0, 1)


def with_common_part(features: Tensor, share: float, seed: int = 0) -> Tensor:
    """Unit rows of which a common direction carries `share` of the squared length.

    The rest of each row is its own, without that direction, so that two rows have the cosine
    share + (1 - share) c where c is the cosine of these rests.
    """
    if not 0 <= share < 1:
        raise ParameterError(message("share", share, "0 <= share < 1", "Leave them a rest."))
    u = F.normalize(rng.normals(seed, "common part", shape=(1, features.shape[1])), dim=1)
    rest = F.normalize(features - (features @ u.T) * u, dim=1)
    return math.sqrt(1 - share) * rest + math.sqrt(share) * u


def steps_until(found: Iterable[float], share: float) -> float:
    """Steps until `share` is found, between two steps; one more than there are: never.

    found: the share after each step, from none before the first.
    """
    reached = [0.0, *found]
    for step, (before, after) in enumerate(itertools.pairwise(reached)):
        if after >= share:
            return step + (share - before) / (after - before)
    return float(len(reached))


def octaves(scores: Mapping[float, float], least: float) -> float:
    """Width of a band in powers of two: from the first to the last place that scores `least`."""
    good = [math.log2(place) for place, score in scores.items() if score >= least]
    return max(good) - min(good) if good else 0.0


def width_needed(W: Tensor, features: Tensor, share: float, tau: float) -> float:
    """How many leading rows of W recover `share` of the features (cosine >= tau); NaN: not all."""
    found = F.normalize(W, dim=1) @ F.normalize(features, dim=1).T >= tau  # [n_neurons, n_features]
    reached = found.any(dim=0)
    first = torch.where(reached, found.float().argmax(dim=0) + 1.0, torch.inf)
    wanted = math.ceil(share * len(features) - 1e-6)  # 1e-6: 0.55 of 100 is 55
    needed = float(first.sort().values[wanted - 1])
    return needed if needed < torch.inf else torch.nan
