"""What weights, activations, a second SAE, siblings and a model tell of an SAE, in numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .. import metrics, rng
from ..activations import BatchTopK, TopK
from ..errors import DataError, message
from ..lm.harvest import token_losses
from ..lm.sites import Site, edited
from ..methods.mirror import mirror_decoder
from ..metrics.dictionary import unit_rows
from ..sae import SAE
from .rows import N_PARTS, Row, bare, over, share

TWIN = 0.95  # decoder rows with a larger cosine are copies of each other


def weights(sae: SAE) -> Iterator[Row]:
    W = sae.W_dec.detach()
    c_dec = metrics.decoder_pairwise_cosine(W)
    random = metrics.decoder_pairwise_cosine(rng.normals(0, "report", "rows", shape=tuple(W.shape)))
    nearest = _nearest(W, W, itself=False)
    yield bare(
        "weights", "c_dec", c_dec, "In toys it is smallest at the right L0 (Sparse but Wrong).",
        f"One SAE has no minimum: compare siblings at other L0. Random rows have {random:.3f}.",
    )  # fmt: skip
    yield bare(
        "weights", "rows with a copy", float((nearest > TWIN).double().mean()),
        "Copies count twice in every share of latents.", "Whether they fire on the same inputs.",
    )  # fmt: skip
    together = torch.cosine_similarity(sae.W_enc.detach().T, W)
    yield bare(
        "weights", "encoder along decoder", float(together.mean()),
        "1 at the start of training; it falls where latents share directions.",
        "Whether a latent means anything.",
    )  # fmt: skip


def activations(sae: SAE, acts: Tensor) -> Iterator[Row]:
    parts = acts.chunk(N_PARTS)
    with torch.no_grad():
        outs = [sae(part) for part in parts]
    fires = torch.cat([(out.acts != 0) for out in outs])
    kind = sae.activation
    wanted = f"It was made for {kind.k}." if isinstance(kind, TopK | BatchTopK) else ""
    yield over(
        "activations", "L0", [metrics.l0(out.acts) for out in outs],
        f"{wanted} Too low, and features are mixed (Sparse but Wrong).".strip(),
        "Which L0 is right.",
    )  # fmt: skip
    fvu = [metrics.fvu(part, out.x_hat) for part, out in zip(parts, outs, strict=True)]
    yield over(
        "activations", "FVU", fvu, "A too low L0 explains more than the truth would.",
        "Whether the latents are right: a mixed dictionary reconstructs better.",
    )  # fmt: skip
    yield share(
        "activations", "latents that never fired", (int((~fires.any(0)).sum()), sae.d_sae),
        "Dead latents keep their start, so seeds agree on them for nothing (SAE-MD).",
        f"Rare ones: {len(acts):,} rows were looked at.",
    )  # fmt: skip
    rates = fires.double().mean(0)
    alive = rates[rates > 0]
    yield bare(
        "activations", "median firing rate", float(alive.median()) if len(alive) else math.nan,
        "Group Bias Adaptation: a latent learns features about as frequent as itself.",
        "The frequency of the features.",
    )  # fmt: skip
    n = sae.d_sae // 2
    s_n = metrics.nth_decoder_projection(acts, sae.W_dec, sae.b_dec, n)
    yield bare(
        "activations", f"s_n, n = {n}", s_n, "Smallest at the right L0 (Sparse but Wrong).",
        "One SAE has no minimum: compare siblings at other L0.",
    )  # fmt: skip


def stability(sae: SAE, second: SAE, acts: Tensor | None) -> Iterator[Row]:
    if second.d_in != sae.d_in:
        raise DataError(message("second.d_in", second.d_in, str(sae.d_in), "Take its sibling."))
    found = metrics.stability(sae.W_enc, sae.W_dec, second.W_enc, second.W_dec)
    weight, note = None, "Dead latents are counted too: give activations."
    if acts is not None:
        with torch.no_grad():
            alive = [(each(acts).acts != 0).any(0) for each in (sae, second)]
        weight, note = found.alive_in_both(*alive), "Whether both are wrong in the same way."
    weight = torch.ones(sae.d_sae, dtype=torch.bool) if weight is None else weight
    yield share(
        "stability", "latents shared with the second SAE",
        (int((found.common(0.7) & weight).sum()), int(weight.sum())),
        f"Random dictionaries share {metrics.noise_floor(sae.d_sae, sae.d_in):.3f} in cosine. "
        "A common start makes runs agree (SAE-MD).", note,
    )  # fmt: skip
    # Two rows at a cosine of t or more with one feature have one of 2 t^2 - 1 with each other. If
    # the two SAEs recover shares r and q of N features, r + q - 1 of them are recovered twice.
    apart = 2 * metrics.RECOVERED**2 - 1
    near = float((_nearest(sae.W_dec, second.W_dec) >= apart).double().mean())
    yield bare(
        "stability", "recovered features, at most", (1 + near) / 2,
        "Two SAEs cannot both be right where they differ: a mean over the two, for as many true "
        f"features as latents, recovered at a cosine of {metrics.RECOVERED}.",
        "How many are recovered: two that agree may be wrong together.",
    )  # fmt: skip


def mlp(sae: SAE, model: PreTrainedModel, layer: int) -> Iterator[Row]:
    """How many decoder rows point where a neuron of the block's MLP writes, or the other way."""
    neurons = mirror_decoder(model, layer)  # [2m, d_in]
    rows = unit_rows(sae.W_dec.detach())
    random = unit_rows(rng.normals(0, "report", "mlp", shape=tuple(rows.shape)))
    near, by_chance = (int(((each @ neurons.T).max(1).values > 0.7).sum())
                       for each in (rows, random))  # fmt: skip
    yield share(
        "model", "latents along an MLP neuron", (near, len(rows)),
        "SAEs that start at these weights keep part of them (SAE-MD). "
        f"By chance: {by_chance / len(rows):.3f}.",
        "Whether such a latent is right: a start that is shared is stable, not true.",
    )  # fmt: skip


def loss(sae: SAE, model: PreTrainedModel, tokens: Tensor, layer: int, site: Site) -> Iterator[Row]:
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
    yield over(
        "model", "loss recovered", recovered, "1: the model does not notice; 0: as bad as zeros.",
        "Which features matter: most of the loss needs few of them.",
    )  # fmt: skip


def siblings(saes: Sequence[SAE], acts: Tensor) -> Iterator[Row]:
    """At which L0 the two blind scores are least, over SAEs alike but for their sparsity."""
    rows = []
    for each in saes:
        with torch.no_grad():
            l0 = metrics.l0(each(acts).acts)
        c_dec = metrics.decoder_pairwise_cosine(each.W_dec.detach())
        s_n = metrics.nth_decoder_projection(acts, each.W_dec, each.b_dec, each.d_sae // 2)
        rows.append((l0, c_dec, s_n))
    rows.sort()
    curve = ", ".join(f"{l0:.3g}: {c:.4g}, {s:.4g}" for l0, c, s in rows)
    for i, name in ((1, "c_dec"), (2, "s_n")):
        best = min(rows, key=lambda row: row[i])[0]
        end = " It is at an end of those tried." * (best in (rows[0][0], rows[-1][0]))
        yield bare(
            "siblings", f"L0 where {name} is least", best,
            f"In toys about the right L0 (Sparse but Wrong). L0: c_dec, s_n are {curve}.",
            f"Whether siblings were trained alike.{end}",
        )  # fmt: skip


def _nearest(W: Tensor, others: Tensor, itself: bool = True, block: int = 2048) -> Tensor:
    """[d_sae], cosine of each row with the nearest other one; itself: rows may match themselves."""
    rows, others = unit_rows(W.detach()), unit_rows(others.detach())
    found = []
    for i in range(0, len(rows), block):
        cosines = rows[i : i + block] @ others.T
        here = torch.arange(len(cosines))
        if not itself:
            cosines[here, here + i] = -1
        found.append(cosines.max(1).values)
    return torch.cat(found)
