"""Conditions are judged at three levels, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srclib.errors import ClaimError
from srclib.suite.rules import Point, Unmeasured, Unrecorded, number, parse

LEVELS = {"fails": 0, "centre": 1, "holds": 2}
ROWS = [
    {"op": ">", "left": "k=1", "right": "k=2", "margin": 0.5},
    {"op": "<", "left": "k=1", "right": 1.0},
    {"op": "between", "of": "k=1", "low": -1, "high": 1},
    {"op": "argmin", "of": "k=", "within": [2, 3]},
    {"op": "argmax", "of": "k=", "within": [1, 1]},
    {"op": "increasing", "of": "k=", "tolerance": 0.5},
    {"op": "decreasing", "of": "k=", "from": 2},
]
quick = settings(deadline=None, max_examples=60)


@st.composite
def points(draw) -> Point:
    low, value, high = sorted(draw(st.tuples(*[st.integers(-4, 4)] * 3)))
    return Point(float(value), float(low), float(high))


tables = st.lists(points(), min_size=4, max_size=4).map(
    lambda ps: {f"k={i}": p for i, p in enumerate(ps, 1)}
)


def exact(**values: float) -> dict[str, Point]:
    return {name: Point(value, value, value) for name, value in values.items()}


def series(*values: float, spread: float = 0.0) -> dict[str, Point]:
    return {f"k={i}": Point(v, v - spread, v + spread) for i, v in enumerate(values, 1)}


def level(row: dict[str, object], table: dict[str, Point | None]) -> str:
    return parse(row, "here").judge(table).level


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["op"])
@quick
@given(table=tables)
def test_a_wider_interval_never_strengthens_a_verdict(row, table):
    narrow = {label: Point(p.value, p.value, p.value) for label, p in table.items()}
    wide = {label: Point(p.value, p.low - 1, p.high + 1) for label, p in table.items()}
    assert level(row, narrow) in ("holds", "fails")
    assert (level(row, table) == "fails") == (level(row, narrow) == "fails")
    assert LEVELS[level(row, table)] <= LEVELS[level(row, narrow)]
    if row["op"] not in ("increasing", "decreasing"):  # overlap there cannot refute an order
        assert LEVELS[level(row, wide)] <= LEVELS[level(row, table)]


@quick
@given(tables)
def test_mirrored_operations_agree(table):
    mirrored = {label: Point(-p.value, -p.high, -p.low) for label, p in table.items()}
    greater = {"op": ">", "left": "k=1", "right": "k=2", "margin": 1}
    less = {"op": "<", "left": "k=2", "right": "k=1", "margin": 1}
    assert level(greater, table) == level(less, table)
    for one, other in (("argmin", "argmax"), ("increasing", "decreasing")):
        fields = {"of": "k=", **({"within": [2, 3]} if one == "argmin" else {"tolerance": 1})}
        assert level({"op": one, **fields}, table) == level({"op": other, **fields}, mirrored)


@quick
@given(tables, st.permutations([1, 2, 3, 4]))
def test_the_order_of_recording_does_not_matter(table, order):
    shuffled = {f"k={i}": table[f"k={i}"] for i in order}
    for row in ROWS:
        assert parse(row, "here").judge(table) == parse(row, "here").judge(shuffled)


def test_greater_needs_the_margin():
    row = {"op": ">", "left": "a", "right": "b", "margin": 0.5}
    assert level(row, exact(a=2, b=1)) == "holds"
    assert level(row, exact(a=1.5, b=1)) == "fails"
    assert level(row, {"a": Point(2, 1.2, 3), "b": Point(1, 1, 1)}) == "centre"


def test_a_side_may_be_a_number():
    assert level({"op": ">", "left": "a", "right": 1}, exact(a=2)) == "holds"
    assert level({"op": "<", "left": 3, "right": "a"}, exact(a=2)) == "fails"


def test_between_includes_its_ends():
    row = {"op": "between", "of": "a", "low": 1, "high": 2}
    assert [level(row, exact(a=a)) for a in (1, 2, 2.01)] == ["holds", "holds", "fails"]
    assert level(row, {"a": Point(1.5, 0.9, 1.6)}) == "centre"


def test_argmin_is_robust_only_when_no_other_label_can_be_lower():
    row = {"op": "argmin", "of": "k=", "within": [2, 2]}
    assert level(row, series(3, 1, 3, spread=0.9)) == "holds"
    assert level(row, series(3, 1, 3, spread=1.0)) == "centre"
    assert level(row, series(1, 3, 3)) == "fails"
    assert level(row, series(1, 1, 3)) == "fails"  # a tie decides nothing


def test_numbers_in_labels_are_compared_as_numbers():
    table = exact(**{"k=9": 1.0, "k=10": 2.0, "k=1.8": 0.0, "k=x": 9.0, "other k=5": 9.0})
    row = {"op": "increasing", "of": "k="}
    assert level(row, table) == "holds"
    assert "from k=1.8 (0) to k=10 (2)" in parse(row, "here").judge(table).text


def test_monotone_allows_small_wrong_steps_that_intervals_cannot_tell():
    row = {"op": "increasing", "of": "k=", "tolerance": 0.5}
    assert level(row, series(1, 2, 1.8, 3, spread=0.2)) == "holds"
    assert level(row, series(1, 2, 1.8, 3)) == "centre"  # disjoint, in the wrong order
    assert level(row, series(1, 2, 1, 3, spread=5)) == "fails"
    assert "2 to 3" in parse(row, "here").judge(series(1, 2, 1, 3)).text


def test_monotone_looks_at_its_range_only():
    table = series(5, 1, 2, 3, 0) | {"k=6": None}
    assert level({"op": "increasing", "of": "k=", "from": 2, "to": 4}, table) == "holds"


@pytest.mark.parametrize(
    ("row", "lack"),
    [
        ({"op": "<", "left": "a", "right": "c"}, "'c' was not recorded"),
        ({"op": "between", "of": "c", "low": 0, "high": 1}, "'c' was not recorded"),
        ({"op": "argmin", "of": "k=", "within": [1, 4]}, "inside and outside"),
        ({"op": "argmin", "of": "k=", "within": [8, 9]}, "inside and outside"),
        ({"op": "decreasing", "of": "k=", "from": 4}, "two labels"),
        ({"op": "decreasing", "of": "q="}, "two labels"),
    ],
)
def test_what_a_table_lacks_is_never_taken_as_true(row, lack):
    with pytest.raises(Unrecorded, match=lack):
        level(row, series(1, 2, 3, 4) | exact(a=1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["op"])
def test_a_number_that_is_not_finite_cannot_be_judged(row):
    for missing in ("k=1", "k=2"):
        table = {**series(1, 2, 3, 4), missing: None}
        reads = row["op"] not in ("<", "between", "decreasing") or (
            missing == ("k=2" if row["op"] == "decreasing" else "k=1")
        )
        if reads:
            with pytest.raises(Unmeasured, match="no finite value"):
                level(row, table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a > b", "allowed is a table"),
        ({}, "op='None': allowed is >, <"),
        ({"op": ">="}, "op='>='"),
        ({"op": ">", "left": "a", "rigth": "b"}, "unknown key 'rigth'.*'right'"),
        ({"op": ">", "left": "a"}, "right='': allowed is str"),
        ({"op": ">", "left": "a", "right": True}, "right=True"),
        ({"op": ">", "left": "a", "right": "b", "margin": "0.1"}, "margin='0.1'"),
        ({"op": "between", "of": "", "low": 0, "high": 1}, "of='': allowed is str"),
        ({"op": "between", "of": "a", "low": 2, "high": 1}, "low <= high"),
        ({"op": "argmin", "of": "k="}, "within='': allowed is"),
        ({"op": "argmin", "of": "k=", "within": [1]}, r"within=\[1\]: allowed is"),
        ({"op": "increasing", "of": "k=", "margin": 1}, "unknown key 'margin'"),
        ({"op": "increasing", "of": "k=", "from": float("nan")}, "from=nan"),
    ],
)
def test_a_fault_in_a_rule_names_the_place(row, message):
    with pytest.raises(ClaimError, match=f"^l0.x, file.*{message}"):
        parse(row, "l0.x, file")


def test_numbers_are_short():
    shown = [number(x) for x in (50.0, 10.9525, 0.00187654, -0.25, float("inf"), 1e12)]
    assert shown == ["50", "10.95", "0.001877", "-0.25", "inf", "1e+12"]
