"""Latents of language models as a page shows them: shares of classes, the explorer, their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes

from ..methods.latents.examples import Examples, heat
from ..methods.latents.trajectory import Checkpoints
from ..metrics import wilson
from ..sae import SAE
from .figures import curves
from .interactive import Example, Latent, Neighbour


def bars_of_shares(ax: Axes, table: pd.DataFrame, colors: Mapping[str, str], **look: Any) -> None:
    """A bar per checkpoint; the columns of the table that have a colour are its parts."""
    table = table.filter(list(colors)).rename("{:,}".format)
    table.plot.bar(ax=ax, stacked=True, width=0.75, rot=45, color=colors, legend=False)
    ax.set(**{"ylim": (0, 1), "xlabel": "checkpoint (step)"} | look)


def counted_shares(
    ax: Axes, shares: pd.Series, counts: pd.Series, color: str, label: str, **look: Any
) -> None:
    """Shares of `counts` latents by step, with Wilson's intervals. look: of `figures.curves`."""
    counted = shares.to_numpy() * counts.to_numpy()
    ends = zip(*map(wilson, counted, counts), strict=True)
    interval = tuple(pd.Series(each, shares.index, name=shares.name) for each in ends)
    curves(shares, "step", ax=ax, colors=color, labels=label, interval=interval, **look)


def legend_below(axes: Sequence[Axes], n_columns: int) -> None:
    """One legend for several panels, below them."""
    named = {
        name: handle
        for ax in axes
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    names, handles = list(named), list(named.values())
    plt.figlegend(handles, names, loc="outside lower center", ncols=n_columns)


class Reader(NamedTuple):
    """An SAE, what it reads, and the texts that were kept for its latents."""

    lms: Checkpoints
    site: tuple[int, int, int]  # lm, step, layer
    sae: SAE
    found: Examples

    def lines(self, latent: int, n_texts: int) -> list[Example]:
        """The first kept texts of a latent, whole, shaded by its activation."""
        documents = self.found.documents[latent, : min(n_texts, int(self.found.count[latent]))]
        texts = self.lms.ids[documents]
        shades = heat(self.sae, self.lms.activations(*self.site, texts), latent).tolist()
        pairs = zip(texts, shades, strict=True)
        return [Example(self.lms.words(text), shade) for text, shade in pairs]


@torch.no_grad()
def page_of(row: pd.Series, step: int, readers: Mapping[int, Reader], n_texts: int = 6) -> Latent:
    """One latent for the explorer.

    row: of `reading.describe`, named by the latent. readers: one per step that is shown; the
    nearest latents of the others are named.
    """
    reader, latent = readers[step], int(row.name)
    sae, x = reader.sae, reader.lms.x(*reader.site)
    acts = torch.relu(sae.centred(x) @ sae.W_enc[:, latent] + sae.b_enc[latent])
    top = float(acts.max())
    near = []
    for other, theirs in readers.items():
        if other != step:
            cosines = theirs.sae.W_dec @ sae.W_dec[latent]
            best = int(cosines.argmax())
            near.append(Neighbour(f"step {other}", best, float(cosines[best])))
    return Latent(
        f"step {step}",
        latent,
        row.trend + (f" ({row.part})" if row.part and row.part != row.trend else ""),
        row.granularity,
        reader.lines(latent, n_texts),
        torch.histc(acts[acts > 0], 20, 0, top).long().tolist(),
        top,
        near,
    )
