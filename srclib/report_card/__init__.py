"""What can be said about one SAE.

    rows = report(sae, acts)                       # acts: [n, d_in] of the site it was trained on

Weights alone tell some of it, activations more, a language model most; what was not given is left
out and named. Each row says what the papers of this book make of such a number, and what not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .. import metrics
from ..errors import DataError, message
from ..lm.layouts import LAYOUTS
from ..lm.sites import Site
from ..sae import SAE
from . import numbers, words
from .diagnosis import rows_of
from .rows import Row
from .words import Decode

__all__ = ["DEFINITIONS", "UNIT", "Row", "explained", "missing", "report", "texts_of"]

UNIT = "as SAEBench computes it, in this unit"  # the one that depends on the unit of activations
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
    # `explained_variance` of its core evaluation (commit 8042bb3): what it takes from the mean
    # square is not the square of the mean input but that of the mean square per dimension.
    UNIT: lambda x, y: float(
        1 - (x - y).square().sum(1).mean() / (x.square().sum(1).mean() - x.square().mean() ** 2)
    ),
}


def report(
    sae: SAE,
    acts: Tensor | None = None,
    *,
    second: SAE | None = None,
    siblings: Sequence[SAE] = (),
    model: PreTrainedModel | None = None,
    tokens: Tensor | None = None,
    decode: Decode | None = None,
    labels: Sequence[str] | None = None,
    layer: int = 0,
    site: Site = "out",
) -> list[Row]:
    """Everything that weights, activations, other SAEs, a model and its words can tell.

    acts: [n, d_in] of the site that the SAE was trained on, or [n_texts, seq, d_in], which rows
    about words need; where only model and tokens [n_texts, seq] are given, they are harvested.
    second: another seed of the same SAE. siblings: the same SAE at other sparsities.
    decode: the text of a token. labels: one a document.
    Raises DataError where widths differ or there are fewer than 100 rows.
    """
    if acts is None and model is not None and tokens is not None:
        acts = texts_of(model, tokens, layer, site)
    texts = acts if acts is not None and acts.ndim == 3 else None
    acts = acts.flatten(0, 1) if acts is not None and texts is not None else acts
    rows = list(numbers.weights(sae))
    if acts is not None:
        _check(sae, acts)
        rows += numbers.activations(sae, acts)
        rows += numbers.siblings([sae, *siblings], acts) if siblings else []
    if second is not None:
        rows += numbers.stability(sae, second, acts)
    if model is not None and model.config.get_text_config().model_type in LAYOUTS:
        rows += numbers.mlp(sae, model, layer)
    if model is not None and tokens is not None:
        rows += numbers.loss(sae, model, tokens, layer, site)
    if texts is not None and tokens is not None and decode is not None:
        rows += words.reading(sae, texts, tokens, decode)
        rows += words.spelling(sae, texts, tokens, decode)
    if texts is not None and labels is not None:
        rows += words.labels(sae, texts, labels)
    return rows


def texts_of(model: PreTrainedModel, tokens: Tensor, layer: int, site: Site) -> Tensor:
    """[n_texts, seq, d_in], float32, in the order of the tokens."""
    return rows_of(model, tokens, layer, site).view(*tokens.shape, -1)


def missing(
    acts: object, second: object, model: object, siblings: object = None, labels: object = None
) -> list[str]:
    """What was not given, and what it would tell."""
    would = {
        "activations": (acts, "L0 as measured, unexplained variance, dead latents, s_n"),
        "a second SAE": (second, "whether another seed finds the same latents"),
        "siblings at other L0": (siblings or None, "at which L0 c_dec and s_n are least"),
        "a model and a text": (
            model,
            "the loss recovered, what latents read, and whether it is used as it was trained",
        ),
        "labels of the documents": (labels, "how well a few latents read them"),
    }
    return [f"{name} would tell: {what}" for name, (given, what) in would.items() if given is None]


def explained(sae: SAE, acts: Tensor, unit: float = 1.0) -> dict[str, float]:
    """ "Explained variance" under each definition in use: the same SAE, seven numbers.

    unit: activations and reconstructions are divided by it, which should change nothing.
    """
    with torch.no_grad():
        x, x_hat = acts / unit, sae(acts).x_hat / unit
    return {name: rule(x, x_hat) for name, rule in DEFINITIONS.items()}


def _check(sae: SAE, acts: Tensor) -> None:
    if acts.ndim != 2 or acts.shape[1] != sae.d_in:
        fix = "Give one row per token, of the width of the SAE."
        raise DataError(message("acts", tuple(acts.shape), f"[n, {sae.d_in}]", fix))
    if len(acts) < 100 or not acts.isfinite().all():
        raise DataError(message("acts", len(acts), "100 finite rows or more", "Give more."))
