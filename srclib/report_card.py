"""What can be said about one SAE.

    rows = report(sae, acts)                       # acts: [n, d_in] of the site it was trained on

Weights alone tell some of it, activations more, a language model most; what was not given is left
out and named. Each row says what the papers of this book make of such a number, and what not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from transformers import PreTrainedModel

from . import metrics, rng
from .activations import BatchTopK, TopK
from .diagnosis import rows_of
from .errors import DataError, message
from .lm.harvest import token_losses
from .lm.sites import LAYOUTS, Site, edited
from .methods.mirror import mirror_decoder
from .metrics.dictionary import unit_rows
from .sae import SAE

N_PARTS = 20  # an interval is Student's t over so many parts of the rows
TWIN = 0.95  # decoder rows with a larger cosine are copies of each other
DEFINITIONS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "share of variance, all dimensions together": lambda x, y: 1 - metrics.fvu(x, y),
    "share of squares, not centred": metrics.uncentred_variance_explained,
    "mean over dimensions": lambda x, y: float(
        1 - ((x - y).var(0, correction=0) / x.var(0, correction=0)).mean()
    ),
    "mean over inputs": lambda x, y: float(
        1 - ((x - y).square().sum(1) / (x - x.mean(0)).square().sum(1)).mean()
    ),
    "mean over inputs, not centred": lambda x, y: float(
        1 - ((x - y).square().sum(1) / x.square().sum(1)).mean()
    ),
    "squared cosine with the input": lambda x, y: float(
        torch.cosine_similarity(x, y).square().mean()
    ),
}


class Row(NamedTuple):
    """One number of a report card; low and high are equal where there is no interval."""

    group: str
    name: str
    value: float
    low: float
    high: float
    says: str  # what the papers say about such a number
    silent: str  # what it does not tell


def report(
    sae: SAE,
    acts: Tensor | None = None,
    *,
    second: SAE | None = None,
    model: PreTrainedModel | None = None,
    tokens: Tensor | None = None,
    layer: int = 0,
    site: Site = "out",
) -> list[Row]:
    """Everything that weights, activations, a second SAE and a model can tell.

    acts: [n, d_in] of the site that the SAE was trained on; where model and tokens [n_texts, seq]
    are given and acts are not, they are harvested there. second: another seed of the same SAE.
    Raises DataError where widths differ or there are fewer than 100 rows.
    """
    if acts is None and model is not None and tokens is not None:
        acts = rows_of(model, tokens, layer, site)
    rows = list(_weights(sae))
    if acts is not None:
        _check(sae, acts)
        rows += _activations(sae, acts)
    if second is not None:
        rows += _stability(sae, second, acts)
    if model is not None and model.config.get_text_config().model_type in LAYOUTS:
        rows += _mlp(sae, model, layer)
    if model is not None and tokens is not None:
        rows += _loss(sae, model, tokens, layer, site)
    return rows


def missing(acts: object, second: object, model: object) -> list[str]:
    """What was not given, and what it would tell."""
    would = {
        "activations": (acts, "L0 as measured, unexplained variance, dead latents, s_n"),
        "a second SAE": (second, "whether another seed finds the same latents"),
        "a model and a text": (
            model,
            "the loss recovered, and whether it is used as it was trained",
        ),
    }
    return [f"{name} would tell: {what}" for name, (given, what) in would.items() if given is None]


def explained(sae: SAE, acts: Tensor) -> dict[str, float]:
    """ "Explained variance" under each definition in use: the same SAE, six numbers."""
    with torch.no_grad():
        x_hat = sae(acts).x_hat
    return {name: rule(acts, x_hat) for name, rule in DEFINITIONS.items()}


def _check(sae: SAE, acts: Tensor) -> None:
    if acts.ndim != 2 or acts.shape[1] != sae.d_in:
        fix = "Give one row per token, of the width of the SAE."
        raise DataError(message("acts", tuple(acts.shape), f"[n, {sae.d_in}]", fix))
    if len(acts) < 100 or not acts.isfinite().all():
        raise DataError(message("acts", len(acts), "100 finite rows or more", "Give more."))


def _weights(sae: SAE) -> Iterator[Row]:
    W = sae.W_dec.detach()
    c_dec = metrics.decoder_pairwise_cosine(W)
    random = metrics.decoder_pairwise_cosine(rng.normals(0, "report", "rows", shape=tuple(W.shape)))
    nearest = _nearest(W)
    yield _row(
        "weights", "c_dec", c_dec, "In toys it is smallest at the right L0 (Sparse but Wrong).",
        f"One SAE has no minimum: compare siblings at other L0. Random rows have {random:.3f}.",
    )  # fmt: skip
    yield _row(
        "weights", "rows with a copy", float((nearest > TWIN).double().mean()),
        "Copies count twice in every share of latents.", "Whether they fire on the same inputs.",
    )  # fmt: skip
    together = torch.cosine_similarity(sae.W_enc.detach().T, W)
    yield _row(
        "weights", "encoder along decoder", float(together.mean()),
        "1 at the start of training; it falls where latents share directions.",
        "Whether a latent means anything.",
    )  # fmt: skip


def _activations(sae: SAE, acts: Tensor) -> Iterator[Row]:
    parts = acts.chunk(N_PARTS)
    with torch.no_grad():
        outs = [sae(part) for part in parts]
    fires = torch.cat([(out.acts != 0) for out in outs])
    kind = sae.activation
    wanted = f"It was made for {kind.k}." if isinstance(kind, TopK | BatchTopK) else ""
    yield _over(
        "activations", "L0", [metrics.l0(out.acts) for out in outs],
        f"{wanted} Too low, and features are mixed (Sparse but Wrong).".strip(),
        "Which L0 is right.",
    )  # fmt: skip
    fvu = [metrics.fvu(part, out.x_hat) for part, out in zip(parts, outs, strict=True)]
    yield _over(
        "activations", "FVU", fvu, "A too low L0 explains more than the truth would.",
        "Whether the latents are right: a mixed dictionary reconstructs better.",
    )  # fmt: skip
    low, high = metrics.wilson(int((~fires.any(0)).sum()), sae.d_sae)
    dead = float((~fires.any(0)).double().mean())
    yield Row(
        "activations", "latents that never fired", dead, low, high,
        "Dead latents keep their start, so seeds agree on them for nothing (SAE-MD).",
        f"Rare ones: {len(acts):,} rows were looked at.",
    )  # fmt: skip
    rates = fires.double().mean(0)
    alive = rates[rates > 0]
    yield _row(
        "activations", "median firing rate", float(alive.median()) if len(alive) else math.nan,
        "Group Bias Adaptation: a latent learns features about as frequent as itself.",
        "The frequency of the features.",
    )  # fmt: skip
    n = sae.d_sae // 2
    s_n = metrics.nth_decoder_projection(acts, sae.W_dec, sae.b_dec, n)
    yield _row(
        "activations", f"s_n, n = {n}", s_n, "Smallest at the right L0 (Sparse but Wrong).",
        "One SAE has no minimum: compare siblings at other L0.",
    )  # fmt: skip


def _stability(sae: SAE, second: SAE, acts: Tensor | None) -> Iterator[Row]:
    if second.d_in != sae.d_in:
        raise DataError(message("second.d_in", second.d_in, str(sae.d_in), "Take its sibling."))
    found = metrics.stability(sae.W_enc, sae.W_dec, second.W_enc, second.W_dec)
    weight, note = None, "Dead latents are counted too: give activations."
    if acts is not None:
        with torch.no_grad():
            alive = [(each(acts).acts != 0).any(0) for each in (sae, second)]
        weight, note = found.alive_in_both(*alive), "Whether both are wrong in the same way."
    share = found.shared(0.7, weight)
    n = int(weight.sum()) if weight is not None else sae.d_sae
    low, high = metrics.wilson(round(share * n), n) if n else (math.nan, math.nan)
    yield Row(
        "stability", "latents shared with the second SAE", share, low, high,
        f"Random dictionaries share {metrics.noise_floor(sae.d_sae, sae.d_in):.3f} in cosine. "
        "A common start makes runs agree (SAE-MD).", note,
    )  # fmt: skip


def _mlp(sae: SAE, model: PreTrainedModel, layer: int) -> Iterator[Row]:
    """How many decoder rows point where a neuron of the block's MLP writes, or the other way."""
    neurons = mirror_decoder(model, layer)  # [2m, d_in]
    rows = unit_rows(sae.W_dec.detach())
    random = unit_rows(rng.normals(0, "report", "mlp", shape=tuple(rows.shape)))
    near, by_chance = (float(((each @ neurons.T).max(1).values > 0.7).double().mean())
                       for each in (rows, random))  # fmt: skip
    low, high = metrics.wilson(round(near * len(rows)), len(rows))
    yield Row(
        "model", "latents along an MLP neuron", near, low, high,
        f"SAEs that start at these weights keep part of them (SAE-MD). By chance: {by_chance:.3f}.",
        "Whether such a latent is right: a start that is shared is stable, not true.",
    )  # fmt: skip


def _loss(
    sae: SAE, model: PreTrainedModel, tokens: Tensor, layer: int, site: Site
) -> Iterator[Row]:
    """Loss recovered, over texts: (zero - spliced) / (zero - clean)."""

    @torch.no_grad()
    def splice(residual: Tensor) -> Tensor:
        return sae(residual.flatten(0, 1).float()).x_hat.view_as(residual)

    clean = token_losses(model, tokens).mean(1)
    with edited(model, layer, site, torch.zeros_like):
        zero = token_losses(model, tokens).mean(1)
    with edited(model, layer, site, splice):
        spliced = token_losses(model, tokens).mean(1)
    parts = zip(zero.chunk(N_PARTS), spliced.chunk(N_PARTS), clean.chunk(N_PARTS), strict=True)
    recovered = [float((z - s).sum() / (z - c).sum()) for z, s, c in parts]
    yield _over(
        "model", "loss recovered", recovered, "1: the model does not notice; 0: as bad as zeros.",
        "Which features matter: most of the loss needs few of them.",
    )  # fmt: skip


def _nearest(W: Tensor, block: int = 2048) -> Tensor:
    """[d_sae], cosine of each decoder row with the nearest other one."""
    rows = unit_rows(W)
    found = []
    for i in range(0, len(rows), block):
        cosines = rows[i : i + block] @ rows.T
        here = torch.arange(len(cosines))
        cosines[here, here + i] = -1
        found.append(cosines.max(1).values)
    return torch.cat(found)


def _row(group: str, name: str, value: float, says: str, silent: str) -> Row:
    return Row(group, name, value, value, value, says, silent)


def _over(group: str, name: str, values: list[float], says: str, silent: str) -> Row:
    """The mean over parts of the rows with Student's 95 % interval."""
    value, n = float(pd.Series(values).mean()), len(values)
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values) if n > 1 else math.nan
    return Row(group, name, value, value - half, value + half, says, silent)
