"""From tables to labels: names, pairing by index, intervals that fit, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from srclib import metrics
from srclib.errors import ClaimError
from srclib.suite.labels import labelled

INDEX = pd.MultiIndex.from_product([(0, 1, 2), (5, 11)], names=["seed", "k"])
TABLE = pd.DataFrame({"mcc": [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], "l0": np.arange(6.0)}, index=INDEX)
PEOPLE = pd.MultiIndex.from_tuples(
    [(lm, person, i) for lm in (0, 1) for person in "abc" for i in (0, 1)],
    names=["lm", "person", "swap"],
)
HITS = pd.Series([True, False, True, True, False, False] * 2, PEOPLE).droplevel("swap")


def test_levels_become_labels() -> None:
    found = labelled("x", TABLE.mcc, by="k")
    assert found.values == {"k=5": [0.1, 0.2, 0.3], "k=11": [0.9, 0.8, 0.7]}
    assert found.n_units == 3 and not found.kinds and not found.given


def test_columns_mappings_and_templates() -> None:
    assert set(labelled("x", TABLE, by="k").values) == {
        "mcc k=5",
        "mcc k=11",
        "l0 k=5",
        "l0 k=11",
    }
    both = {"mse": TABLE.mcc, "chance": 0.5}
    assert set(labelled("x", both, by="k").values) == {"mse k=5", "mse k=11", "chance"}
    assert set(labelled("x", TABLE.mcc, by="F1@1 k={k}").values) == {"F1@1 k=5", "F1@1 k=11"}
    assert set(labelled("x", TABLE, by="{label}@{k:.1f}").values) == {
        "mcc@5.0", "mcc@11.0", "l0@5.0", "l0@11.0",
    }  # fmt: skip
    long = pd.Series(
        1.0, pd.MultiIndex.from_product([(0, 1), (-0.4, 0.4), (1.8,)], names=["seed", "rho", "k"])
    )
    assert set(labelled("x", long, by=("rho", "k")).values) == {"rho=-0.4 k=1.8", "rho=0.4 k=1.8"}


def test_a_level_with_one_value_is_a_selection() -> None:
    found = labelled("x", TABLE.query("k == 5")[["mcc", "l0"]])
    assert found.values == {"mcc": [0.1, 0.2, 0.3], "l0": [0.0, 2.0, 4.0]} and found.n_units == 3
    alone = labelled("x", TABLE.query("k == 5").mcc)
    assert alone.values == {"value": [0.1, 0.2, 0.3]}


def test_what_was_not_run_has_no_label() -> None:
    empty = TABLE.query("k == 7")
    assert labelled("x", empty.mcc, by="k").values == {}
    assert labelled("x", empty).values == {} == labelled("x", empty.mcc).values
    assert set(labelled("x", {"a": empty.mcc, "b": TABLE.query("k == 5").mcc}).values) == {"b"}
    assert labelled("x", {}).values == {} == labelled("x", {"a": []}).values


def test_row_order_never_decides_who_is_compared_with_whom() -> None:
    five = TABLE.query("k == 5").mcc
    found = labelled("x", {"a": five, "b": five[::-1] + 1})
    assert np.subtract(found.values["b"], found.values["a"]) == pytest.approx([1, 1, 1])


def test_plain_numbers_and_lists() -> None:
    assert labelled("x", 3).values == {"value": [3.0]} and labelled("x", 3).n_units == 1
    found = labelled("x", [1.0, 2.0, 4.0])
    assert found.values == {"value": [1.0, 2.0, 4.0]} and found.n_units == 3
    assert labelled("x", {"a": np.array([1.0, 3.0]), "b": 1}).n_units == 2


def test_a_series_of_bools_is_a_share_of_units_with_wilsons_interval() -> None:
    whole = TABLE.query("k == 5").mcc > 0.15
    found = labelled("x", {"share": whole})
    assert found.values == {"share": [0.0, 1.0, 1.0]}
    assert found.given == {"share": (2 / 3, *metrics.wilson(2, 3))}
    assert "Wilson" in found.kinds["share"]


def test_people_inside_one_model_and_models() -> None:
    one = labelled("x", {"hit": HITS.loc[[0]]}, unit="lm", cluster="person")
    low, high = metrics.clustered_t(HITS.loc[0].to_numpy(), list("aabbcc"))
    assert one.values == {"hit": [0.5]} and one.given == {"hit": (0.5, low, high)}
    assert one.n_units == 1
    two = labelled("x", {"hit": HITS}, unit="lm", cluster="person")
    assert two.values == {"hit": [0.5, 0.5]} and two.n_units == 2 and not two.kinds


def test_inner_units_are_shown_where_there_is_one_outer() -> None:
    index = pd.MultiIndex.from_product([(0,), (1, 2, 3)], names=["lm", "seed"])
    series = pd.Series([1.0, 5.0, 3.0], index)
    one = labelled("x", {"a": series}, unit="lm", within="seed")
    assert one.values == {"a": [1.0, 5.0, 3.0]} and one.n_units == 1
    more = pd.concat([series, pd.concat({1: series.loc[0] + 1}, names=["lm"])])
    two = labelled("x", {"a": more}, unit="lm", within="seed")
    assert two.values["a"] == [3.0, 4.0] and two.n_units == 2


def test_a_missing_draw_is_not_averaged_away() -> None:
    index = pd.MultiIndex.from_product([(0, 1, 2), (0, 1)], names=["seed", "draw"])
    series = pd.Series([1.0, np.nan, 1.0, 1.0, 1.0, 1.0], index)
    found = labelled("x", {"a": series}, within="draw").values["a"]
    assert np.isnan(found[0]) and found[1:] == [1.0, 1.0]


NAMELESS = pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([(0, 5), (0, 11)], names=["seed", None]))
HOLES = pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([(0, 5), (1, None)], names=["seed", "k"]))
FIVE = TABLE.query("k == 5").mcc
REFUSED: dict[str, tuple[Any, str]] = {
    "a level that is neither by nor unit": (
        lambda: labelled("c.x", TABLE.mcc),
        r"c\.x, 'value': index level 'k' has several values and is neither `by` nor the unit",
    ),
    "by is not there": (
        lambda: labelled("c.x", TABLE.mcc, by="kk"),
        r"by names the level 'kk': allowed is k, seed. The nearest valid name is 'k'",
    ),
    "a template's level is not there": (
        lambda: labelled("c.x", TABLE.mcc, by="k={q}"),
        "by names the level 'q'",
    ),
    "the unit is not the outermost": (
        lambda: labelled("c.x", HITS.groupby(["lm", "person"]).mean(), unit="person"),
        "index level 'lm' has several values",
    ),
    "no unit": (
        lambda: labelled("c.x", FIVE, unit="draw"),
        "index level 'seed' has several values",
    ),
    "a unit missing": (
        lambda: labelled("c.x", {"a": FIVE, "b": FIVE[1:]}),
        r"c\.x, 'b': seed 0 is missing; other labels have it",
    ),
    "lists of other lengths": (
        lambda: labelled("c.x", {"a": [1, 2], "b": [1, 2, 3]}),
        "the same number of seeds for every label",
    ),
    "several values for one unit": (
        lambda: labelled("c.x", pd.concat([FIVE, FIVE])),
        "several values for one seed",
    ),
    "a label twice": (lambda: labelled("c.x", {"mcc": 1}, TABLE.query("k == 5")), "occurs twice"),
    "one label for two": (
        lambda: labelled("c.x", TABLE.mcc, by="k {k:.3}".replace("{k:.3}", "{label}")),
        "index level 'k' has several values",
    ),
    "text": (lambda: labelled("c.x", {"a": "high"}), "label 'a'='high': allowed is a number"),
    "a level without a name": (lambda: labelled("c.x", NAMELESS), "lacks a name or a value"),
    "a level without a value": (lambda: labelled("c.x", HOLES), "lacks a name or a value"),
    "nothing": (lambda: labelled("c.x"), "nothing was recorded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    act, match = REFUSED[case]
    with pytest.raises(ClaimError, match=match):
        act()


def test_shares_of_other_samples_have_intervals_of_their_own() -> None:
    """Two checkpoints have other latents; one that lacks a latent of the other is a gap."""
    a, b = (
        pd.Series([True, False, True], pd.Index([f"{at} {i}" for i in range(3)], name="latent"))
        for at in "ab"
    )
    found = labelled("x", {"a": a, "b": b[:2]}, unit="latent")
    assert found.given["a"][0] == 2 / 3 and found.given["b"][0] == 1 / 2
    assert found.given["b"][1:] == pytest.approx(metrics.intervals.wilson(1, 2))
    with pytest.raises(ClaimError, match=r"'b': latent a 2 is missing"):
        labelled("x", {"a": a, "b": a[:2]}, unit="latent")
    with pytest.raises(ClaimError, match="missing"):  # numbers of other units cannot be compared
        labelled("x", {"a": a.astype(float), "b": b.astype(float)}, unit="latent")
