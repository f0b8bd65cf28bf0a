"""Figures from tidy tables: what is drawn, and what a table must say."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from srclib.errors import ParameterError
from srclib.metrics import wilson
from srclib.suite import figures, latent_views, look


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    with mpl.rc_context():
        yield
    plt.close("all")


def table(**levels: list[Any]) -> pd.DataFrame:
    """Two columns of numbers under a full index of the levels."""
    index = pd.MultiIndex.from_product(levels.values(), names=list(levels))
    a = np.random.default_rng(0).random(len(index))
    return pd.DataFrame({"mcc": a, "fvu": 1 - a**2}, index=index)


SEEDS = table(seed=[0, 1, 2], k=[20, 2, 5])


def lines(ax: Axes) -> list[tuple[str, list[float], list[float]]]:
    """Label, x and y of each line of an axis."""
    return [(i.get_label(), list(i.get_xdata()), list(i.get_ydata())) for i in ax.get_lines()]


def test_truth_null_and_settings_stand_on_the_axes() -> None:
    null = {"random": [0.4, 0.5, 0.9]}
    ax = figures.curves(SEEDS, "k", truth=11, null=null, log=True, ylabel="score", ylim=(0, 1))
    assert ax.get_legend_handles_labels()[1] == ["mcc", "fvu", "random"]
    assert lines(ax)[2][1] == [11, 11] and lines(ax)[3][2] == [0.5, 0.5]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "5", "20"]
    assert ax.get_ylabel() == "score" and ax.get_ylim() == (0, 1) and ax.get_xlabel() == "k"


def test_a_level_of_the_index_makes_curves_too() -> None:
    long = SEEDS.stack().rename_axis(["seed", "k", "what"])
    wide = figures.curves(SEEDS, "k", ylabel="")
    assert lines(figures.curves(long, "k", by="what")) == lines(wide)


def test_curves_show_median_and_range_of_what_is_there() -> None:
    ax = figures.curves(SEEDS.mcc.drop((1, 5)), "k")
    two = SEEDS.mcc.loc[[0, 2], 5, :]
    assert lines(ax)[0][1] == [2, 5, 20] and lines(ax)[0][2][1] == np.median(two)
    band = ax.collections[0].get_paths()[0].vertices
    assert set(band[band[:, 0] == 5, 1]) == {two.min(), two.max()}


def test_each_unit_has_its_line_and_one_label() -> None:
    ax = figures.curves(SEEDS.mcc, "k", each=True, labels="start {}")
    assert ax.get_legend_handles_labels()[1] == ["start mcc"]
    for seed, (_, x, y) in enumerate(lines(ax)):
        assert dict(zip(x, y, strict=True)) == SEEDS.mcc.loc[seed].to_dict()


def test_given_intervals_take_the_place_of_the_range() -> None:
    middle = table(arm=["a", "b"], k=[1, 2]).mcc
    ends = (middle - 0.1, middle + 0.2)
    ax = figures.curves(middle, "k", by="arm", interval=ends)
    for arm, band in zip("ab", ax.collections, strict=True):
        seen = set(band.get_paths()[0].vertices[:, 1].round(9))
        assert seen == {*(middle[arm] - 0.1).round(9), *(middle[arm] + 0.2).round(9)}
    assert not figures.curves(middle, "k", by="arm", interval=None).collections
    whiskers = figures.bars(middle, "k", by="arm", interval=ends).collections[0].get_segments()
    assert np.allclose([s[:, 1] for s in whiskers], np.transpose([e["a"] for e in ends]))


@pytest.mark.parametrize(
    ("settings", "options", "ticks"),
    [
        ([0, 1000, 10], {"even": True}, ["0", "10", "1,000"]),
        (["late", "early"], {}, ["late", "early"]),
    ],
)
def test_settings_at_equal_distances(
    settings: list[Any], options: dict[str, Any], ticks: list[str]
) -> None:
    ax = figures.curves(table(step=settings, seed=[0]).mcc, "step", **options)
    assert lines(ax)[0][1] == list(range(len(settings)))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ticks


def test_bars_are_medians_with_their_units() -> None:
    data = table(arm=["std", "md"], seed=[0, 1, 2]).mcc
    color = {"md": figures.RED}
    ax = figures.bars(data, "arm", colors=color, null={"": 0.5})
    assert [bar.get_height() for bar in ax.patches] == [np.median(data[a]) for a in ("std", "md")]
    assert ax.patches[1].get_facecolor()[:3] == mpl.colors.to_rgb(figures.RED)
    assert np.allclose(ax.collections[0].get_offsets(), np.c_[[0] * 3 + [1] * 3, data])
    lying = figures.bars(data, "arm", colors=color, horizontal=True)
    assert [b.get_width() for b in lying.patches] == [b.get_height() for b in ax.patches]
    assert lying.yaxis_inverted() and lying.get_xlabel() == ax.get_ylabel() == "mcc"
    dots = figures.bars(data, "arm", filled=False)
    assert not dots.patches and len(dots.collections[0].get_offsets()) == 6


def test_bars_of_several_columns_stand_side_by_side() -> None:
    ax = figures.bars(SEEDS, "k", labels={"fvu": "error"})
    places = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    assert np.allclose(places, [-0.2, 0.8, 1.8, 0.2, 1.2, 2.2])
    assert ax.get_legend_handles_labels()[1] == ["mcc", "error"]


def test_heat_maps_share_a_scale_and_name_their_cells() -> None:
    cosines = {"a": torch.eye(3), "b": -torch.ones(3, 3)}
    axes = figures.heat(cosines)
    assert [ax.get_title("left") or ax.get_title() for ax in axes] == ["a", "b"]
    assert {ax.images[0].get_clim() for ax in axes} == {(-1, 1)}
    frame = pd.DataFrame([[0.1, 0.9]], index=["asked"], columns=["x", "y"])
    (ax,) = figures.heat(frame, limits=(0, 1), numbers=".1f", axes=figures.panels(1))
    assert [t.get_text() for t in ax.texts] == ["0.1", "0.9"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("TopK 20", "TopK"),
        ("TopK SAE", "TopK"),
        ("BatchTopK, scaled", "BatchTopK, scaled"),
        ("AlignSAE, own strength", "AlignSAE"),
        ("md", "md"),
    ],
)
def test_a_method_has_its_colour_on_every_page(name: str, like: str) -> None:
    assert figures.shade(name) == figures.METHODS[like]
    by_method = table(method=[name, "random direction"], k=[1, 2]).mcc
    lines = figures.curves(by_method, "k", by="method").lines
    assert [line.get_color() for line in lines] == [figures.shade(name), figures.GREY]


def test_what_is_no_method_has_no_colour_of_one() -> None:
    assert {figures.shade(each) for each in ("md_encrand", "chance", "k = 5")} == {figures.GREY}
    assert set(figures.METHODS.values()) >= set(look.PALETTE)


def test_counted_shares_have_wilsons_interval() -> None:
    shares = pd.Series([0.25, 0.5], pd.Index([10, 20], name="step"))
    (ax,) = figures.panels(1)
    counts = pd.Series([8, 40], ["of other", "steps"])
    latent_views.counted_shares(ax, shares, counts, figures.GREY, "here")
    band = ax.collections[0].get_paths()[0].vertices
    for step, successes, n in ((10, 2, 8), (20, 20, 40)):
        assert set(band[band[:, 0] == step, 1]) == set(wilson(successes, n))


def test_a_figure_is_the_same_svg_each_time() -> None:
    figures.use_style()

    def drawn() -> str:
        figures.heat({"": np.eye(3)})
        file = io.BytesIO()
        plt.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue().decode()

    first = drawn()
    assert drawn() == first
    assert "<text" not in first, "text is outlines, which need no font"
    assert "image-rendering:pixelated" in first, "cells of a heat map stay sharp"


def test_panels_are_a_row_with_titles() -> None:
    left, right = figures.panels(["here", "there"], sharey=True)
    assert right.get_title() == "there" and left.get_shared_y_axes().joined(left, right)
    assert len(figures.panels(3)) == 3


@pytest.mark.parametrize("empty", [pd.DataFrame(), SEEDS.iloc[:0], SEEDS.mcc.iloc[:0]])
@pytest.mark.parametrize("draw", [figures.curves, figures.bars])
def test_an_empty_table_draws_nothing(draw: Any, empty: Any) -> None:
    ax = draw(empty, "k", null=0.5, ylim=(0, 1))
    assert not ax.lines and not ax.patches and not ax.collections
    assert ax.get_ylim() == (0, 1)
    assert not figures.curves(empty, "k", truth=3, log=True, even=True).lines


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (SEEDS.mcc, {"x": "K"}, r"x='K': allowed is a level of the index, \['seed', 'k'\]"),
        (SEEDS.mcc, {"by": "arm"}, "by='arm'"),
        (SEEDS, {"by": "seed"}, "by='seed': allowed is a level of one column"),
        (table(lm=[0, 1], seed=[0, 1], k=[1, 2]).mcc, {}, r"Take the mean over \['lm'\] first"),
    ],
)
def test_a_table_that_does_not_say_enough_is_refused(
    data: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words):
        figures.curves(data, **{"x": "k"} | options)


def test_several_units_are_named_together() -> None:
    data = table(lm=[0, 1], seed=[0, 1], k=[1, 2]).mcc
    ax = figures.curves(data, "k", unit=("lm", "seed"))
    assert lines(ax)[0][2] == [
        np.median(data[data.index.get_level_values("k") == k]) for k in (1, 2)
    ]
    assert len(figures.curves(data, "k", unit=("lm", "seed"), each=True).lines) == 4


@pytest.mark.parametrize(
    ("colors", "shown"),
    [
        (figures.RED, [figures.RED, figures.RED]),
        ([figures.RED, figures.SKY], [figures.RED, figures.SKY]),
        ({"fvu": figures.RED}, [figures.GREY, figures.RED]),
        (None, [figures.BLUE, figures.ORANGE]),
    ],
)
def test_colours_of_curves(colors: Any, shown: list[str]) -> None:
    assert [line.get_color() for line in figures.curves(SEEDS, "k", colors=colors).lines] == shown
    assert len({*map(str, figures.curves(SEEDS, "k", colors="crest").lines)}) == 2


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (None, ["arm = 0.4", "arm = -1"]),
        ("$\\rho_{x}$ = {:.2f}", ["$\\rho_{x}$ = 0.40", "$\\rho_{x}$ = -1.00"]),
        ("at {}", ["at 0.4", "at -1"]),
        ({0.4: "pos"}, ["pos", "arm = -1"]),
    ],
)
def test_labels_of_curves(labels: Any, shown: list[str]) -> None:
    ax = figures.curves(table(arm=[0.4, -1.0], k=[1, 2]).mcc, "k", by="arm", labels=labels)
    assert ax.get_legend_handles_labels()[1] == shown
