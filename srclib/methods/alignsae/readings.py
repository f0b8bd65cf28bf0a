"""What trained SAEs say of a study's questions, and what stands in their weights.

x [n, d_model]: vectors of all questions; relation [n]; train, rows: places of questions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import metrics
from ...runs.tables import tidy
from . import AlignSAE, binding

if TYPE_CHECKING:
    import pandas as pd

    from ...runs.sweeps import Sweep
    from ...sae import SAE
    from .questions import Task

Rows = Sequence[int] | np.ndarray


class Reading(NamedTuple):
    """The designated latents of an SAE, one per relation, on every question."""

    latents: Tensor
    """[K] the slots; of an SAE without slots its most selective latents"""
    slots: Tensor
    """[n, K] what is compared: pre-activations of slots; activations of other latents"""
    acts: Tensor
    """[n, K]"""
    natural: Tensor
    """[K] mean activation on the training questions of the own relation: the unit of strengths"""
    purity: float
    """share of its total class mean that a latent has on its relation, on average; NaN for slots"""


@torch.no_grad()
def read(sae: SAE, x: Tensor, relation: Tensor, train: Rows) -> Reading:
    """Slots of an AlignSAE; of another SAE the latents chosen on the training questions."""
    sae.eval()
    n_relations, purity = int(relation.max()) + 1, math.nan
    if isinstance(sae, AlignSAE):
        latents = torch.arange(sae.n_free, sae.d_sae)
    else:
        chosen = binding.most_selective(sae.encode(x[train]), relation[train], n_relations)
        latents, purity = chosen.latents, chosen.purity.mean().item()
    parts = [(out.pre_acts[:, latents], out.acts[:, latents]) for out in map(sae, x.split(1024))]
    pre_acts, acts = (torch.cat(each) for each in zip(*parts, strict=True))
    slots = pre_acts if isinstance(sae, AlignSAE) else acts
    own = [acts[train][relation[train] == r, r].mean() for r in range(n_relations)]
    return Reading(latents, slots, acts, torch.stack(own), purity)


@torch.no_grad()
def fit(sae: SAE, x: Tensor) -> dict[str, float]:
    """Mean squared error per coordinate, unexplained variance, share of latents that are active."""
    out = sae.eval()(x)
    return {
        "mse": (out.x_hat - x).square().mean().item(),
        "fvu": metrics.fvu(x, out.x_hat),
        "active": (out.acts != 0).double().mean().item(),
    }


def table(
    runs: Sweep, x: Mapping[Any, Tensor], task: Task
) -> tuple[dict[Any, Reading], pd.DataFrame, pd.DataFrame]:
    """What all SAEs of a sweep with the levels (lm, seed, site, arm) say of a task.

    x: {(lm, site): [n, d_model]}. Returns the readings by key; a row per SAE and question, with
    split and person in the index too, columns relation, wording, hit (the largest slot is that
    of the relation); and a row per SAE, on unseen people (held-out wordings where there are none):
    the numbers of `fit`, margin, natural and purity.
    """
    import pandas as pd

    train, unseen, held_out = map(task.rows, ("train", "unseen", "held-out"))
    unseen = unseen if len(unseen) else held_out
    seen, hits, numbers = {}, {}, {}
    for key, run in runs.items():
        here = x[key[0], key[2]]
        seen[key] = one = read(run.sae, here, task.relation, train)
        hit = one.slots.argmax(dim=1) == task.relation
        hits[key] = task.table[["relation", "wording"]].assign(hit=hit.numpy())
        numbers[key] = fit(run.sae, here[unseen]) | {
            "margin": binding.margin(one.slots[unseen]),
            "natural": one.natural.mean().item(),
            "purity": one.purity,
        }
    return seen, pd.concat(hits, names=runs.names), tidy(numbers, runs.names)


@torch.no_grad()
def codes(sae: SAE, x: Tensor) -> Tensor:
    """[n, d_sae] all latents, in eval mode."""
    return sae.eval().encode(x)


def worst_at_random(n_errors: int, n_relations: int, seed: int) -> float:
    """The share of the worst relation to expect if errors fall on any; NaN without errors."""
    draws = np.random.default_rng(seed).multinomial(n_errors, [1 / n_relations] * n_relations, 2000)
    return draws.max(axis=1).mean() / n_errors if n_errors else math.nan


@torch.no_grad()
def geometry(sae: AlignSAE, means: Tensor) -> dict[str, float]:
    """Where slots point. means [K, d_model]: class means.

    cosine: of a slot's decoder row with its class mean's difference from the mean of all;
    crosstalk: of the rows of different slots with each other; means over slots.
    """
    rows = metrics.unit_rows(sae.W_dec[-sae.n_slots :])
    towards = metrics.unit_rows(means - means.mean(dim=0))
    others = ~torch.eye(sae.n_slots, dtype=torch.bool)
    cosine, crosstalk = (rows * towards).sum(dim=1).mean(), (rows @ rows.T)[others].mean()
    return {"cosine": cosine.item(), "crosstalk": crosstalk.item()}


def variance_shares(acts: Tensor, about: pd.DataFrame) -> dict[str, float]:
    """Analysis of variance of slots [n, K], mean over slots.

    about: n rows, a level person in the index, columns relation and wording; every person once in
    every cell of relation and wording. Shares: relation, person, wording (within relation), rest.
    """
    import pandas as pd

    frame = pd.DataFrame(acts.numpy()).astype(float)
    groups = {
        "relation": about.relation.to_numpy(),
        "person": about.index.get_level_values("person").to_numpy(),
        "cell": (about.relation * 4 + about.wording).to_numpy(),
    }
    total = ((frame - frame.mean()) ** 2).sum()
    share = {
        name: ((frame.groupby(group).transform("mean") - frame.mean()) ** 2).sum() / total
        for name, group in groups.items()
    }
    cell = share.pop("cell")
    share |= {"wording": cell - share["relation"], "rest": 1 - cell - share["person"]}
    return {name: float(each.mean()) for name, each in share.items()}


@torch.no_grad()
def leaks(
    sae: AlignSAE, slots: Tensor, x: Tensor, relation: Tensor, train: Rows, rows: Rows
) -> dict[str, float]:
    """What the orthogonality term is said to stop, on the questions `rows`. slots [n, K]: acts.

    off-target: mean of slots on other relations, over that on their own. slot correlation: mean
    |correlation| of slots with each other about their means on each relation (of slots that fire
    on nothing but their own the plain correlation would be -1 / (K - 1)). cross: mean |correlation|
    of slots with free latents. probe: accuracy for the relation of a logistic regression on the
    free latents alone, fitted to `train`.
    """
    from sklearn.linear_model import LogisticRegression

    free, fitted = (sae.free(codes(sae, x[some])) for some in (rows, train))
    z = slots[rows].double()
    own = torch.nn.functional.one_hot(relation[rows], sae.n_slots).bool()
    varying = free[:, free.std(dim=0) > 0].double()
    usual = torch.stack([z[relation[rows] == r].mean(dim=0) for r in range(sae.n_slots)])
    among = _correlations(z - usual[relation[rows]])
    across = _correlations(z, varying)
    probe = LogisticRegression(max_iter=300).fit(fitted.numpy(), relation[train].numpy())
    return {
        "off-target": (z[~own].mean() / z[own].mean()).item(),
        "slot correlation": among[~torch.eye(sae.n_slots, dtype=torch.bool)].abs().mean().item(),
        "cross": across.abs().mean().item(),
        "probe": probe.score(free.numpy(), relation[rows].numpy()),
    }


def _correlations(a: Tensor, b: Tensor | None = None) -> Tensor:
    """[columns of a, columns of b, or of a]; 0 for a column that does not vary."""
    parts = [(v - v.mean(dim=0)) / v.std(dim=0) for v in (a, a if b is None else b)]
    return torch.nan_to_num(parts[0].T @ parts[1] / (len(a) - 1))


@torch.no_grad()
def named(sae: AlignSAE, acts: Tensor, relation: Tensor, answer: Tensor) -> Tensor:
    """[n] bool: whether the head of the true relation names the answer. acts [n, K] slots."""
    found = torch.zeros(len(answer), dtype=torch.bool)
    for r in range(sae.n_slots):
        rows = relation == r
        found[rows] = sae.answer_logits(r, acts[rows, r]).argmax(dim=1) == answer[rows]
    return found


def commonest(answer: Tensor, relation: Tensor, train: Rows) -> Tensor:
    """[n] bool: whether the answer is the most frequent one of its relation in training."""
    best = [answer[train][relation[train] == r].mode().values for r in relation.unique()]
    return torch.stack(best)[relation] == answer
