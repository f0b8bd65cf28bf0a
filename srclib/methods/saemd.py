"""Do two runs learn the same latents, what do those that they share mean, what does an MLP add?

Measures of a sweep: `runs.table(fit)`, `runs.pairs("seed", agreement)`. What trained runs do on the
evaluation rows of their source is computed once and remembered.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import metrics
from ..lm.sites import mlp_pass
from ..metrics import Stability, alive, firing_rate
from ..runs.run import Run
from ..sources.held_out import HeldOut

if TYPE_CHECKING:
    from pandas import DataFrame
    from transformers import PreTrainedModel

SHARED = 0.7  # both cosines of a shared latent exceed it (Paulo & Belrose)
FOUND = 0.5  # F1 from which a latent stands for a predicate


@torch.no_grad()
def mlp_share(model: PreTrainedModel, layer: int, ids: Tensor) -> dict[str, float]:
    """How much of a block's output is its MLP's term f, of the rest x - f; over all tokens.

        share = E|f|^2 / E|x|^2    residual = E|x - f|^2 / E|x|^2    cosine = E cos(f, x)

    negative: share of (neuron, token) entries below 0. float64.
    """
    seen = mlp_pass(model, layer, ids)
    out, term = seen.out.flatten(0, 1).double(), seen.term.flatten(0, 1).double()
    power = out.square().sum()
    return {
        "share": float(term.square().sum() / power),
        "residual": float((out - term).square().sum() / power),
        "cosine": float(torch.nn.functional.cosine_similarity(term, out).mean()),
        "negative": float((seen.neurons < 0).double().mean()),
    }


class Usage(NamedTuple):
    """How an SAE uses its latents on held-out tokens."""

    rate: Tensor  # [d_sae] float64, share of tokens on which a latent fires
    live: Tensor  # [d_sae] bool, see `metrics.alive`
    l0: float
    fvu: float


@functools.cache
@torch.no_grad()
def usage(run: Run) -> Usage:
    """Of a run whose source is `HeldOut`; the SAE is set to eval mode."""
    assert isinstance(run.source, HeldOut)
    x = run.source.test
    out = run.sae.eval()(x)
    l0 = float((out.acts > 0).sum(1).double().mean())
    return Usage(firing_rate(out.acts), alive(out.acts), l0, metrics.fvu(x, out.x_hat))


def fit(run: Run) -> dict[str, float]:
    """fvu, L0 and the share of live latents."""
    seen = usage(run)
    return {"fvu": seen.fvu, "L0": seen.l0, "alive": float(seen.live.double().mean())}


class Pair(NamedTuple):
    """Two SAEs, latent by latent of the first."""

    match: Stability
    both: Tensor  # [d_sae] bool, alive in both; over the others runs with one start agree always

    @property
    def alignment(self) -> Tensor:
        """[d_sae] mean of the two matched cosines."""
        return (self.match.cos_enc + self.match.cos_dec) / 2


@functools.cache
def pair(a: Run, b: Run) -> Pair:
    """Two runs at one hook point."""
    match = metrics.stability(a.sae.W_enc, a.sae.W_dec, b.sae.W_enc, b.sae.W_dec)
    return Pair(match, match.alive_in_both(usage(a).live, usage(b).live))


def agreement(a: Run, b: Run) -> dict[str, float]:
    """Means over latents alive in both runs, NaN over none.

    shared (`all`: dead ones too), equal: both matches name one partner, cos_enc, cos_dec; and
    cosines and alignment where the matches agree and where they do not.
    """
    two = pair(a, b)
    match, both = two.match, two.both
    parts = {"agree": both & match.equal, "disagree": both & ~match.equal}
    row = {"shared": match.shared(SHARED, both.double()), "all": match.shared(SHARED)}
    row["equal"] = _mean(match.equal, both)
    for name, values in (("enc", match.cos_enc), ("dec", match.cos_dec)):
        row[f"cos_{name}"] = _mean(values, both)
        row |= {f"{name} {part}": _mean(values, mask) for part, mask in parts.items()}
    return row | {part: _mean(two.alignment, mask) for part, mask in parts.items()}


def still(table: DataFrame, arms: Sequence[str] = (), suffix: str = "") -> DataFrame:
    """Shares of dead latents, and of live ones that never left their start; by arm where given.

    Of a table with `alive` and `stayed`. Beside every stability: where two runs share a start, such
    latents agree for nothing.
    """
    import pandas as pd

    found = pd.DataFrame({"dead": 1 - table.alive, "unmoved": table.stayed})
    if not arms:
        return found
    wide = found.unstack("arm").reindex(columns=pd.MultiIndex.from_product([list(found), arms]))
    return pd.DataFrame({f"{name} {arm}{suffix}": wide[name, arm] for name, arm in wide})


def modes(a: Run, b: Run, floor: float, dead_too: bool = False) -> dict[str, float]:
    """Do matched decoder cosines of live latents, or of all, fall into two groups?

    high: share from 0.6 to 1; low: share within 0.15 of `floor`, which random dictionaries reach;
    valley: density between the two, over the smaller of theirs, at most 1,000. Below 1 there are
    two modes.
    """
    two = pair(a, b)
    cosines = two.match.cos_dec[two.both | dead_too]
    edges = [floor - 0.15, floor + 0.15, 0.6, 1.0]
    low, middle, high = (
        ((cosines >= edges[i]) & (cosines < edges[i + 1] + (i == 2))).double().mean().item()
        for i in range(3)
    )
    density = [low / 0.3, middle / (0.6 - floor - 0.15), high / 0.4]
    valley = density[1] / min(density[0], density[2]) if min(low, high) > 0 else math.inf
    return {"high": high, "low": low, "valley": min(valley, 1e3)}


class Gap(NamedTuple):
    """Curve a minus curve b; NaN where none of x is covered by both."""

    mean: float  # over the range of x that both cover
    first: float  # at the smallest x of that range


def matched_gap(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], below: float = math.inf
) -> Gap:
    """The gap between two curves where both are. a, b: points (x, y), joined by straight lines.

    below: no x above it counts.
    """
    lines = sorted(map(tuple, a)), sorted(map(tuple, b))
    low, high = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    if min(high, below) <= low:
        return Gap(math.nan, math.nan)
    grid = np.linspace(low, min(high, below), 50)
    first, second = (np.interp(grid, *np.array(line).T) for line in lines)
    return Gap(float((first - second).mean()), float(first[0] - second[0]))


@torch.no_grad()
def f1_with(run: Run, x: Tensor, truth: Tensor) -> Tensor:
    """F1 of "fires" with each predicate, [d_sae, n_predicates].

    x: [n_tokens, d_in]; truth: [n_tokens, n_predicates] bool.
    """
    fires, holds = (run.sae.eval().encode(x) > 0).float(), truth.float()
    return 2 * (fires.T @ holds) / (fires.sum(0)[:, None] + holds.sum(0)).clamp(min=1)


def meaning(a: Run, b: Run, x: Tensor, truth: Tensor) -> dict[str, float]:
    """Do latents that two runs share mean more? x, truth: as in `f1_with`.

    aligned, unaligned: mean best F1 of the third of live latents with the highest and the lowest
    alignment; rate: how often these fire. found: share of predicates with a latent of F1 > 0.5;
    missed: share of those found by either run that one of them lacks, NaN where none is found.
    f1 shared, f1 unshared: only where there are both. Empty where nothing is known of the text.
    """
    if not truth.shape[1]:
        return {}
    two, f1_a, f1_b = pair(a, b), f1_with(a, x, truth), f1_with(b, x, truth)
    best, common = f1_a.max(dim=1).values[two.both], two.match.common(SHARED)[two.both]
    order = two.alignment[two.both].argsort(descending=True)
    third = max(1, len(order) // 3)
    found_a, found_b = (f1.max(dim=0).values > FOUND for f1 in (f1_a, f1_b))
    either, both = (each.double().mean().item() for each in (found_a | found_b, found_a & found_b))
    row = {"found either": either, "found both": both}
    row["missed"] = 1 - both / either if either else math.nan
    rate = usage(a).rate[two.both]
    for name, part in (("aligned", order[:third]), ("unaligned", order[-third:])):
        row |= {name: best[part].mean().item(), f"rate {name}": rate[part].mean().item()}
    if common.any() and not common.all():
        row |= {"f1 shared": best[common].mean().item(), "f1 unshared": best[~common].mean().item()}
    return row


def _mean(values: Tensor, mask: Tensor) -> float:
    return float(values[mask].double().mean()) if mask.any() else math.nan
