"""Is an SAE used as it was trained?

table = doctor(sae, model, tokens)             # FVU at every layer, site, BOS and input scale
print(diagnosis(table))
"""

from __future__ import annotations

import itertools
import math

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .. import metrics
from ..errors import DataError, message
from ..lm.harvest import harvest
from ..lm.layouts import blocks
from ..lm.sites import Site
from ..sae import SAE


def doctor(sae: SAE, model: PreTrainedModel, tokens: Tensor) -> pd.DataFrame:
    """How well the SAE explains each place of a model, best first: where was it trained, and how?

    tokens: [n_texts, seq]. One row per layer, site (what enters the first block, and what each
    returns, which is what the next one reads), BOS (kept or dropped) and input scale: as is,
    of norm sqrt(d_in) on average (SAELens' expected_average_only_in) or of norm 1 each. Columns:
    fvu, of inputs as scaled, and L0. An SAE that is used as it was trained stands first by far;
    where all are near 1 or above, it belongs to another model.
    """
    places: list[tuple[int, Site]] = [(0, "in")]
    places += [(layer, "out") for layer in range(len(blocks(model)))]
    found = {}
    for (layer, site), bos in itertools.product(places, ("keep", "drop")):
        acts = rows_of(model, tokens, layer, site, drop_first=bos == "drop")
        if acts.shape[1] != sae.d_in:
            fix = "Take the model that the SAE was trained on."
            raise DataError(message("d_in", sae.d_in, f"{acts.shape[1]}, as the model has", fix))
        for scale, x in _scaled(acts).items():
            with torch.no_grad():
                out = sae(x)
            found[layer, site, bos, scale] = metrics.fvu(x, out.x_hat), metrics.l0(out.acts)
    index = pd.MultiIndex.from_tuples(found, names=("layer", "site", "bos", "scale"))
    return pd.DataFrame(found.values(), index, ["fvu", "l0"]).sort_values("fvu", kind="stable")


def diagnosis(table: pd.DataFrame) -> str:
    """The first row of `doctor` in words, with the next best that differs in layer or scale."""
    (layer, site, bos, scale), best = table.index[0], table.iloc[0]
    if best.fvu > 0.9:
        return (
            f"No place fits: the best, layer {layer} {site} ({scale}), leaves {best.fvu:.2f} "
            "unexplained. It belongs to another model, or to a site that is no residual stream."
        )
    other = next((at for at in table.index if at[0] != layer or at[3] != scale), None)
    rest = "" if other is None else (
        f" Next: layer {other[0]} {other[1]} ({other[3]}), FVU {table.fvu[other]:.3f}."
    )  # fmt: skip
    return (
        f"Fits best: layer {layer}, site {site}, inputs {scale}, BOS {bos}: FVU {best.fvu:.3f}, "
        f"L0 {best.l0:.1f}.{rest}"
    )


def rows_of(
    model: PreTrainedModel, tokens: Tensor, layer: int, site: Site, drop_first: bool = False
) -> Tensor:
    """[n, d_model] residual stream of the tokens; drop_first: without each text's first token."""
    acts, mask = harvest(model, tokens, layer, site)
    return acts[:, drop_first:][mask[:, drop_first:]]


def _scaled(acts: Tensor) -> dict[str, Tensor]:
    norms = acts.norm(dim=1, keepdim=True)
    return {
        "as they are": acts,
        "of mean norm sqrt(d)": acts * math.sqrt(acts.shape[1]) / norms.mean(),
        "of norm 1": acts / norms.clamp(min=1e-12),
    }
