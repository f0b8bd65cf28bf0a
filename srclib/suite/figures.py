"""The few kinds of figure that studies share, all drawn from tidy tables.

    figures.curves(table.mcc, "k", truth=true_l0, null={"random dictionary": chance})
    figures.bars(table.shared, "arm", ylim=(0, 1.03))

A tidy table is a pandas Series or DataFrame with a named index such as (seed, k). Where units
(seeds, draws) share a point, their median is drawn. An empty table draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .look import (
    BLUE,
    GREEN,
    GREY,
    METHODS,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Arm,
    Labels,
    Unit,
    arms,
    log_ticks,
    name_ticks,
    panels,
    shade,
    shades,
    true_l0_line,
    use_style,
)

__all__ = [
    "BLUE", "GREEN", "GREY", "METHODS", "ORANGE", "PURPLE", "RED", "SKY", "bars", "curves", "heat",
    "log_ticks", "panels", "shade", "true_l0_line", "use_style",
]  # fmt: skip


def curves(
    data: Any,
    x: str,
    *,
    by: str | None = None,
    unit: Unit = "seed",
    ax: Axes | None = None,
    colors: Any = None,
    labels: Labels = None,
    truth: Any = None,
    null: Any = None,
    interval: Any = "range",
    each: bool = False,
    log: bool = False,
    even: bool = False,
    line: str = "o-",
    legend: str | None = "best",
    **look: Any,
) -> Axes:
    """Median over units against the index level `x`, with the range over units as a band.

    data: a Series (one curve, or one per value of the level `by`) or a DataFrame (one curve per
    column). unit: the level(s) whose values repeat a point. colors: a colour, several, the name
    of a palette, or {curve: colour}. labels: {curve: text}, or a text in which {} or {:.1f}
    stands for the curve. truth: the true L0 or {text: place}, dashed. null: a number, several of
    which the median counts, or {label: number(s)}, dotted. interval: None for no band, or (low,
    high): tables like `data` with one row per point. each: a thin line per unit in place of
    median and band. log: a logarithmic axis that names the settings. even: settings at equal
    distances, as words always are. line: as matplotlib writes it. look: for `Axes.set`.

    Raises ParameterError for a level that the index lacks, and for one that is neither `x` nor
    `by` nor a unit: a mean inside a unit is for the caller to take.
    """
    ax = plt.subplots()[1] if ax is None else ax
    found = arms(data, x, by, unit, labels, interval)
    color, settings = shades(colors, [arm.key for arm in found]), _settings(found)
    even = even or any(isinstance(s, str) for s in settings)
    settings = sorted(settings) if all(isinstance(s, Real) for s in settings) else settings
    place = {s: i if even else s for i, s in enumerate(settings)}
    for arm in found:
        if each:
            for n, own in enumerate(arm.units):
                style = {"color": color[arm.key], "lw": 1.2, "alpha": 0.8}
                ax.plot(own.index.map(place), own, label="" if n else arm.label, **style)
            continue
        here = [s for s in settings if s in arm.values]
        at, values = [place[s] for s in here], [arm.values[s] for s in here]
        if interval is not None:
            ends = [arm.ends.get(s, (v.min(), v.max())) for s, v in zip(here, values, strict=True)]
            low, high = zip(*ends, strict=True)
            ax.fill_between(at, low, high, color=color[arm.key], alpha=0.2, lw=0)
        middle = list(map(np.median, values))
        ax.plot(at, middle, line, ms=4, color=color[arm.key], label=arm.label)
    for name, where in _named(truth, "true L0", found).items():
        true_l0_line(ax, where, name)
    if log and found:
        log_ticks(ax, settings)
    elif even:
        name_ticks(ax.xaxis, settings)
    return _finish(ax, ax.axhline, null, found, legend, {"xlabel": x, "ylabel": _name(data)} | look)


def bars(
    data: Any,
    x: str,
    *,
    by: str | None = None,
    unit: Unit = "seed",
    ax: Axes | None = None,
    colors: Any = None,
    labels: Labels = None,
    null: Any = None,
    interval: Any = None,
    filled: bool = True,
    horizontal: bool = False,
    legend: str | None = "best",
    **look: Any,
) -> Axes:
    """A bar per value of the index level `x`: the median over units, which are dots on it.

    The columns of a DataFrame, or the values of the level `by`, stand side by side; colors and
    labels are theirs. Of a Series without `by`, colors are those of the bars. interval: (low,
    high), tables like `data` with one row per bar: whiskers in place of the dots. filled=False:
    dots without bars. horizontal: one bar below the other. The rest is as in `curves`.
    """
    ax = plt.subplots()[1] if ax is None else ax
    single = by is None and data.ndim == 1
    found = arms(data, x, by, unit, labels, interval)
    names, width = _settings(found), 0.8 / max(len(found), 1)
    keys = names if single else [arm.key for arm in found]
    color = shades(BLUE if single and colors is None else colors, keys)
    upright: tuple[Any, ...] = (ax.bar, ax.vlines, ax.axhline, 1)
    lying = (ax.barh, ax.hlines, ax.axvline, -1)
    draw, lines, null_line, flip = lying if horizontal else upright
    for i, arm in enumerate(found):
        at = np.array([names.index(name) for name in arm.values]) + (i + 0.5) * width - 0.4
        own = [color[name if single else arm.key] for name in arm.values]
        label, values = "" if single else arm.label, list(arm.values.values())
        if filled:
            draw(at, list(map(np.median, values)), 0.92 * width, color=own, alpha=0.6, label=label)
        if arm.ends:
            lines(at, *zip(*arm.ends.values(), strict=True), color="black", lw=1)
        else:
            n = [len(v) for v in values]
            across, along = (np.repeat(at, n), np.concatenate(values))[::flip]
            shade = {"c": "black"} if filled else {"c": np.repeat(own, n), "label": label}
            ax.scatter(across, along, s=14, lw=0, zorder=3, **shade)
    name_ticks(ax.yaxis if horizontal else ax.xaxis, names)
    if horizontal and not ax.yaxis_inverted():
        ax.invert_yaxis()
    look = {"xlabel" if horizontal else "ylabel": _name(data)} | look
    return _finish(ax, null_line, null, found, legend, look)


def heat(
    matrices: Any,
    *,
    labels: tuple[str, str] = ("true feature", "latent"),
    axes: Sequence[Axes] | None = None,
    limits: tuple[float, float] = (-1, 1),
    numbers: str = "",
    aspect: Any = "equal",
) -> list[Axes]:
    """A row of heat maps on one colour scale, by default of signed cosines.

    matrices: {title: matrix}, or one; a DataFrame names its rows and columns. labels: of x and y.
    limits: from below 0 the colours diverge. numbers: a format such as ".2f", which writes the
    values into the cells and leaves out the colour bar.
    """
    matrices = matrices if isinstance(matrices, Mapping) else {"": matrices}
    if axes is None:
        axes = panels(len(matrices), figsize=(min(2.5 * len(matrices) + 0.8, 9.0), 2.75))
    signed = limits[0] < 0
    look: dict[str, Any] = {"aspect": aspect, "cmap": "RdBu_r" if signed else "Blues"}
    look |= {"vmin": limits[0], "vmax": limits[1], "interpolation": "none"}
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        values = np.asarray(matrix, dtype=float)
        image = ax.imshow(values, **look)
        ax.set_title(title, size=9)
        ax.set_xlabel(labels[0], size=9)
        ax.tick_params(labelsize=7)
        if hasattr(matrix, "columns"):
            name_ticks(ax.xaxis, list(matrix.columns))
            name_ticks(ax.yaxis, list(matrix.index))
        for (row, column), value in np.ndenumerate(values) if numbers else ():
            shade = "white" if abs(value) > 0.6 * limits[1] else "black"
            word = ax.text(column, row, format(value, numbers), size=7, color=shade)
            word.set(ha="center", va="center")
    axes[0].set_ylabel(labels[1])
    if not numbers:
        plt.colorbar(image, ax=axes, shrink=0.75, label="cosine" if signed else "")
    return list(axes)


def _settings(found: Sequence[Arm]) -> list[Any]:
    """All values of x, in the order of the table."""
    return list(dict.fromkeys(setting for arm in found for setting in arm.values))


def _named(given: Any, usual: str, found: Sequence[Arm]) -> Mapping[str, Any]:
    """{label: what} as given or with the usual label; nothing beside an empty table."""
    if given is None or not found:
        return {}
    return given if isinstance(given, Mapping) else {usual: given}


def _name(data: Any) -> str:
    return data.name or "" if data.ndim == 1 else ""


def _finish(
    ax: Axes, draw: Any, null: Any, found: Sequence[Arm], legend: Any, look: dict[str, Any]
) -> Axes:
    for label, values in _named(null, "chance", found).items():
        draw(np.median(values), color=GREY, ls=":", lw=1.2, label=label)
    ax.set(**look)
    if legend and len(ax.get_legend_handles_labels()[1]) > 1:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
        ax.legend(**above if legend == "above" else {"loc": legend})
    return ax
