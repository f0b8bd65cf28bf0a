"""What figures show of a tidy table, and how it looks: colours, sizes, ticks, words.

Figures are drawn for the page that shows them: about 7 inches wide, one message each. Colours
are colour-blind safe (Okabe-Ito), each method has one on all pages (`shade`), and what is a
control, a null or the truth is always grey.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from numbers import Integral, Real
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like

from ..errors import ParameterError, message

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9",
)  # fmt: skip
GREY = "#767676"
METHODS = {  # those of one colour are never in one figure; variants are darker
    "BatchTopK": BLUE, "BatchTopK, scaled": "#00344F", "TopK": SKY, "JumpReLU": ORANGE, "L1": GREEN,
    "BA": RED, "GBA": PURPLE, "GBA ReLU": "#6E2F52", "GBA, half the range": "#6E2F52",
    "AlignSAE": BLUE, "means": ORANGE, "difference of means": ORANGE, "probe direction": PURPLE,
    "plain": GREEN, "std": ORANGE, "fix": GREEN, "md": BLUE, "oracle": "black",
}  # fmt: skip
SIZES = {1: (7.0, 3.4), 2: (9.0, 3.2)}  # inches of a row of so many panels; more: 10 x 3

Labels = Mapping[Any, str] | str | None
Unit = str | Sequence[str]


def use_style() -> None:
    """Set the suite's look for all figures of a notebook: SVG, the same bytes each time.

    Text is outlines, which need no font. What has thousands of marks is drawn `rasterized`.
    """
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", dpi=150, metadata={"Date": None})
    # A table without rows, such as the truth of a named model, draws nothing and needs no legend.
    warnings.filterwarnings("ignore", "No artists with labels found", UserWarning)
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
        "svg.hashsalt": "srclib",
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


def shade(name: str) -> str:
    """The colour of a method on every page, by how the name begins; grey for all else."""
    known = [each for each in METHODS if re.match(rf"{re.escape(each)}\b", name)]
    return METHODS[max(known, key=len)] if known else GREY


def shades(colors: Any, keys: Sequence[Any]) -> dict[Any, Any]:
    """{key: colour} from one, several, a palette's name, a mapping, or nothing: methods' own."""
    if colors is None and any(shade(str(key)) != GREY for key in keys):
        return {key: shade(str(key)) for key in keys}
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


class Arm(NamedTuple):
    """One curve of a figure, or its bars of one colour."""

    key: Any
    label: str
    values: dict[Any, np.ndarray]  # {setting: one number per unit}, in the order of the table
    units: list[Any]  # a Series per unit, indexed by the setting
    ends: dict[Any, tuple[float, float]]  # {setting: (low, high)}, where an interval was given


def arms(data: Any, x: str, by: str | None, unit: Unit, labels: Any, interval: Any) -> list[Arm]:
    """The columns of a table, or what its level `by` keeps apart, in the order of the table."""
    found = []
    ends_given = interval if isinstance(interval, tuple) else ()
    tables = [each if data.ndim > 1 else each.rename(data.name) for each in ends_given]
    low_high = [_parts(each, x, by, unit) for each in tables]
    for key, part in _parts(data, x, by, unit).items():
        rest = [level for level in part.index.names if level != x]
        units = [each.droplevel(rest) for _, each in part.groupby(level=rest)] if rest else [part]
        values = {s: group.to_numpy(float) for s, group in part.groupby(level=x, sort=False)}
        ends = {s: tuple(t[key].loc[s] for t in low_high) for s in values if low_high}
        found.append(Arm(key, text(key, labels, by), values, units, ends))
    return found


def _parts(data: Any, x: str, by: str | None, unit: Unit) -> dict[Any, Any]:
    """{arm: its Series}. Raises ParameterError for levels that are missing or unexplained."""
    if data.empty:
        return {}
    parts = {data.name or "": data} if data.ndim == 1 else dict(data.items())
    levels, units = list(data.index.names), [unit] if isinstance(unit, str) else list(unit)
    for name, level in {"x": x, "by": by or x}.items():
        if level not in levels:
            fix = "Name the index, or choose one of these."
            raise ParameterError(message(name, level, f"a level of the index, {levels}", fix))
    rest = [level for level in levels if level not in (x, by)]
    if len(rest) > 1 and (unknown := [level for level in rest if level not in units]):
        fix = f"Take the mean over {unknown} first, or name them as by or unit."
        raise ParameterError(message("index", levels, f"{[x, by]} and unit={units}", fix))
    if by is None:
        return parts
    if len(parts) > 1:
        raise ParameterError(message("by", by, "a level of one column", "Choose the column."))
    (series,) = parts.values()
    return {key: part.droplevel(by) for key, part in series.groupby(level=by, sort=False)}
