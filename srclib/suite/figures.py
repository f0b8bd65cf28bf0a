"""The few kinds of figure that studies share, all drawn from tidy tables.

    figures.curves(table.mcc, "k", truth=true_l0, null={"random dictionary": chance})
    figures.bars(table.shared, "arm", ylim=(0, 1.03))
    figures.heat({"k = 5": cosines})

A tidy table is a pandas Series or DataFrame with a named index such as (seed, k) and one number
per row. Where several units (seeds, draws) share a point, their median is drawn and how far they
lie apart. An empty table draws nothing: what was not run is absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from numbers import Real
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from .arms import Arm, arms
from .look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Labels,
    log_ticks,
    name_ticks,
    panels,
    shades,
    true_l0_line,
    use_style,
)

__all__ = [
    "BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED", "SKY", "bars", "curve", "curves", "heat",
    "log_ticks", "panels", "true_l0_line", "use_style",
]  # fmt: skip


def curves(
    data: Any,
    x: str,
    *,
    by: str | None = None,
    unit: str | Sequence[str] = "seed",
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

    data: a Series (one curve, or one per value of the index level `by`) or a DataFrame (one
    curve per column). unit: the level whose values repeat a point; several are named together.
    colors: a colour, several, the name of a palette, or {curve: colour}. labels: {curve: text},
    or a text in which {} or {:.1f} stands for the curve.

    truth: the true L0 or {text: place}, dashed. null: one number, several of which the median
    counts, or {label: number(s)}, dotted. interval: None for no band, or (low, high): tables like
    `data` with one row per point. each: a thin line per unit in place of median and band. log: a
    logarithmic axis that names the settings which were run. even: settings at equal distances, as
    words always are. line: marker and line as matplotlib writes them. look: for `Axes.set`.

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
            for own, label in zip(arm.units, chain([arm.label], repeat("")), strict=False):
                style = {"color": color[arm.key], "lw": 1.2, "alpha": 0.8, "label": label}
                ax.plot(own.index.map(place), own, **style)
        else:
            table = {place[s]: values for s, values in arm.values.items()}
            given = {place[s]: pair for s, pair in arm.ends.items()}
            ends = None if isinstance(interval, str) else given
            curve(ax, table, arm.label, color[arm.key], line, ends)
    for name, at in _named(truth, "true L0", found).items():
        true_l0_line(ax, at, name)
    if log and found:
        log_ticks(ax, settings)
    elif even:
        name_ticks(ax.xaxis, settings)
    _nulls(ax.axhline, null, found)
    return _finish(ax, legend, {"xlabel": x, "ylabel": _name(data)} | look)


def curve(
    ax: Axes,
    table: Mapping[Any, Any],
    label: str,
    color: Any,
    line: str = "o-",
    ends: Mapping[Any, Any] | None = None,
) -> None:
    """One curve of `curves`. table: {setting: one value per unit}.

    ends: {setting: (low, high)} in place of the range over units; empty for no band.
    """
    x = sorted(table)
    values = [np.asarray(table[k], dtype=float) for k in x]
    band = [(v.min(), v.max()) for v in values] if ends is None else [ends[k] for k in x if ends]
    if band:
        low, high = zip(*band, strict=True)
        ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    ax.plot(x, [np.median(v) for v in values], line, ms=4, color=color, label=label)


def bars(
    data: Any,
    x: str,
    *,
    by: str | None = None,
    unit: str | Sequence[str] = "seed",
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
    _nulls(null_line, null, found)
    return _finish(ax, legend, {"xlabel" if horizontal else "ylabel": _name(data)} | look)


def heat(
    matrices: Any,
    *,
    labels: tuple[str, str] = ("true feature", "latent"),
    axes: Sequence[Axes] | None = None,
    limits: tuple[float, float | None] = (-1, 1),
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
    look |= {"vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
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
            shade = "white" if abs(value) > 0.6 * image.get_clim()[1] else "black"
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


def _nulls(draw: Any, null: Any, found: Sequence[Arm]) -> None:
    for label, values in _named(null, "chance", found).items():
        draw(np.median(values), color=GREY, ls=":", lw=1.2, label=label)


def _name(data: Any) -> str:
    return data.name or "" if data.ndim == 1 else ""


def _finish(ax: Axes, legend: Any, look: dict[str, Any]) -> Axes:
    ax.set(**look)
    if legend and len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend(loc=legend)
    return ax
