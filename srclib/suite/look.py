"""How figures look: colours, sizes, ticks, and the words beside what is drawn.

Figures are drawn for the page that shows them: about 7 inches wide, one message each. Colours
are colour-blind safe (Okabe-Ito); what is a control, a null or the truth is always grey.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from numbers import Integral, Real
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
GREY = "#767676"
SIZES = {1: (7.0, 3.4), 2: (9.0, 3.2)}  # inches of a row of so many panels; more: 10 x 3

Labels = Mapping[Any, str] | str | None


def use_style() -> None:
    """Set the suite's look for all figures of a notebook, sharp on dense screens."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
    sns.set_theme(context="notebook", style="ticks", palette=PALETTE[:5])
    mpl.rcParams |= {
        "figure.figsize": SIZES[1],
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "font.size": 10,
    }


def panels(titles: int | Sequence[str], **layout: Any) -> list[Axes]:
    """A row of axes, one per title or so many. layout: of `plt.subplots`, such as sharey=True."""
    names = [""] * titles if isinstance(titles, int) else list(titles)
    layout = {"figsize": SIZES.get(len(names), (10.0, 3.0))} | layout
    axes = list(plt.subplots(1, len(names), squeeze=False, **layout)[1][0])
    for ax, name in zip(axes, names, strict=True):
        ax.set_title(name)
    return axes


def log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis that names the settings which were run, and no others."""
    ax.set_xscale("log")
    ax.set_xticks(list(values), [f"{value:g}" for value in values])
    ax.minorticks_off()


def name_ticks(axis: Any, names: Sequence[Any]) -> None:
    """A tick at 0, 1, ... for each name, slanted where the x axis has no room for them."""
    words = [text(name) for name in names]
    figure = axis.axes.figure
    room = 9 * figure.get_figwidth() / len(figure.axes)  # characters in a panel
    crowded = axis.axis_name == "x" and sum(len(word) + 1 for word in words) > room
    axis.set_ticks(range(len(words)), words, **({"rotation": 30, "ha": "right"} if crowded else {}))


def true_l0_line(ax: Axes, at: float, name: str = "true L0") -> None:
    """The dashed line that every sweep over k shows."""
    ax.axvline(at, color=GREY, ls="--", lw=1, zorder=0)
    top = ax.get_xaxis_transform()
    ax.text(at, 1.0, f" {name}", color=GREY, size=8, va="top", transform=top)


def shades(colors: Any, keys: Sequence[Any]) -> dict[Any, Any]:
    """{key: colour} from one colour, several, the name of a palette, a mapping, or nothing."""
    if isinstance(colors, Mapping):
        return {key: colors.get(key, GREY) for key in keys}
    if isinstance(colors, str):
        colors = [colors] if is_color_like(colors) else sns.color_palette(colors, len(keys))
    return dict(zip(keys, cycle(PALETTE if colors is None else colors), strict=False))


def text(key: Any, labels: Labels = None, by: str | None = None) -> str:
    """How a figure names a value: as `labels` say, or `k = 5` for a number of the level k."""
    number = isinstance(key, Real)
    word = f"{key:,}" if isinstance(key, Integral) else f"{key:g}" if number else str(key)
    if isinstance(labels, str):  # {} or {:g}; the braces of formulas stay
        return re.sub(r"\{(:[^{}]*)?\}", lambda m: format(key, m[1][1:]) if m[1] else word, labels)
    default = f"{by} = {word}" if by and number else word
    return default if labels is None else labels.get(key, default)
