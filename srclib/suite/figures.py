"""One look for every figure, and the few kinds of figure that studies share.

Figures are drawn for the page that shows them: about 7 inches wide, one message each. Colours
are colour-blind safe (Okabe-Ito); what is a control, a null or the truth is always grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from torch import Tensor

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
GREY = "#767676"


def use_style() -> None:
    """Set the suite's look for all figures of a notebook, sharp on dense screens."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
    sns.set_theme(context="notebook", style="ticks", palette=[BLUE, ORANGE, GREEN, RED, PURPLE])
    mpl.rcParams |= {
        "figure.figsize": (7.0, 3.4),
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "font.size": 10,
    }


def curve(
    ax: Axes, table: Mapping[float, Sequence[float]], label: str, color: str, marker: str = "o"
) -> None:
    """Median over seeds against a setting, with the range over seeds as a band.

    table: {setting: one value per seed}.
    """
    x = sorted(table)
    values = np.array([np.asarray(table[k], dtype=float) for k in x])  # [settings, seeds]
    ax.fill_between(x, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, lw=0)
    ax.plot(x, np.median(values, axis=1), marker, ls="-", ms=4, color=color, label=label)


def log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis that names the settings which were run, and no others."""
    ax.set_xscale("log")
    ax.set_xticks(list(values), [f"{value:g}" for value in values])
    ax.minorticks_off()


def true_l0_line(ax: Axes, true_l0: float) -> None:
    """The dashed line that every sweep over k shows."""
    ax.axvline(true_l0, color=GREY, ls="--", lw=1, zorder=0)
    top = ax.get_xaxis_transform()
    ax.text(true_l0, 1.0, " true L0", color=GREY, size=8, va="top", transform=top)


def cosine_heat_maps(
    matrices: Mapping[str, Tensor], *, labels: tuple[str, str] = ("true feature", "latent")
) -> Any:
    """A row of square heat maps of signed cosines on one colour scale; returns the figure."""
    width = min(2.5 * len(matrices) + 0.8, 9.0)
    fig, axes = plt.subplots(1, len(matrices), figsize=(width, 2.75), squeeze=False)
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        image = ax.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(title, size=9)
        ax.set_xlabel(labels[0], size=9)
        ax.tick_params(labelsize=7)
    axes[0][0].set_ylabel(labels[1])
    fig.colorbar(image, ax=axes[0], shrink=0.75, label="cosine")
    return fig
