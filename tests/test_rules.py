"""Conditions are judged at three levels, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from srclib.errors import ClaimError
from srclib.metrics.intervals import wilson
from srclib.suite.points import Point, Unmeasured, Unrecorded, minus, number, of_median, over
from srclib.suite.rules import parse

ROWS = [
    {"op": ">", "left": "k=1", "right": "k=2", "margin": 0.5},
    {"op": "<", "left": "k=1", "right": 1.0},
    {"op": "equal", "left": "k=1", "right": "k=2", "within": 1},
    {"op": "between", "of": "k=1", "low": -1, "high": 1},
    {"op": "argmin", "of": "k=", "within": [2, 3]},
    {"op": "argmax", "of": "k=", "within": [1, 1]},
    {"op": "argmax", "of": "k=", "within": [2, 3], "tolerance": 0.5},
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
    wide = {label: Point(p.value, p.low - 1, p.high + 1) for label, p in table.items()}
    assert level(row, wide) in (level(row, table), "undecided")


many = st.lists(
    st.lists(st.integers(-4, 4), min_size=4, max_size=4), min_size=2, max_size=5
)  # values of four labels for every unit


def of_units(rows: list[list[int]]) -> dict[str, Point]:
    return {
        f"k={i}": over([float(v) for v in own]) for i, own in enumerate(zip(*rows, strict=True), 1)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["op"])
@quick
@given(rows=many, random=st.randoms(use_true_random=False))
def test_units_are_compared_with_themselves_in_whatever_order(row, rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert level(row, of_units(shuffled)) == level(row, of_units(rows))


@quick
@given(rows=many, shifts=st.lists(st.integers(-50, 50), min_size=5, max_size=5))
def test_what_all_labels_of_a_unit_share_does_not_count(rows, shifts):
    moved = [[v + shift for v in own] for own, shift in zip(rows, shifts, strict=False)]
    paired = [r for r in ROWS if isinstance(r.get("right"), str) and "factor" not in r]
    for row in [*paired, *(r for r in ROWS if r["op"] in ("argmin", "argmax", "increasing"))]:
        assert level(row, of_units(moved)) == level(row, of_units(rows))


@quick
@given(rows=many, margin=st.integers(0, 4))
def test_what_is_equal_is_not_different(rows, margin):
    """No table is both equal within a margin and different by more than it."""
    table, sides = of_units(rows), {"left": "k=1", "right": "k=2"}
    equal = level({"op": "equal", "within": margin, **sides}, table)
    beyond = [level({"op": op, "margin": margin, **sides}, table) for op in "<>"]
    assert equal != "holds" or "holds" not in beyond
    assert "holds" not in beyond or equal == "fails"


def test_paired_units_tell_what_their_ranges_cannot():
    table = {"k=1": over([1.0, 2.0, 3.0]), "k=2": over([0.9, 1.8, 2.9])}
    row = {"op": ">", "left": "k=1", "right": "k=2"}
    assert level(row, table) == "holds"
    assert level(row, {label: Point(*p[:3]) for label, p in table.items()}) == "undecided"
    assert "difference 0.1 [0.1, 0.2]" in parse(row, "here").judge(table).text


def test_two_shares_differ_as_newcombe_says():
    """56 of 70 against 48 of 80: [0.0524, 0.3339], Newcombe (1998), table II, method 10."""
    a, b = (Point(hits / n, *wilson(hits, n), confident=True) for hits, n in ((56, 70), (48, 80)))
    difference = minus(a, b)
    assert difference.value == pytest.approx(0.2)
    assert difference[1:3] == pytest.approx((0.0524, 0.3339), abs=5e-4)


def test_ranges_without_units_differ_by_all_that_they_may():
    """Else a record that keeps no units would be judged surer than one that does."""
    units = {"k=1": over([10.0, 11.0, 12.0]), "k=2": over([10.55, 9.55, 8.55])}
    row = {"op": ">", "left": "k=1", "right": "k=2"}
    assert level(row, units) == "undecided"
    assert level(row, {label: Point(*p[:3]) for label, p in units.items()}) == "undecided"


def test_a_number_that_is_only_reached_is_not_exceeded_and_rounding_decides_nothing():
    assert level({"op": "<", "left": "a", "right": 4}, exact(a=4)) == "fails"
    assert (
        level({"op": ">", "left": "a", "right": "b", "margin": 0.1}, exact(a=0.3, b=0.2)) != "fails"
    )
    assert level({"op": "equal", "left": "a", "right": 0.3, "within": 0.1}, exact(a=0.4)) == "holds"


@pytest.mark.parametrize("n", range(1, 40))
def test_the_interval_of_a_median_covers_it_and_no_narrower_one_does(n):
    low, high = of_median(list(range(n)))
    j = low + 1

    def covered(j):
        return 1 - 2 * stats.binom.cdf(j - 1, n, 0.5)

    assert high == n - 1 - low
    assert covered(j) >= 0.95 or j == 1
    assert covered(j + 1) < 0.95


def test_small_shares_are_compared_by_a_factor():
    row = {"op": ">", "left": "a", "right": "b", "factor": 2}
    assert level(row, exact(a=0.03, b=0.01)) == "holds"
    assert level(row, exact(a=0.03, b=0.02)) == "fails"
    with pytest.raises(Unmeasured, match="a factor compares shares"):
        level(row, exact(a=-0.015, b=-0.01))  # not twice as much
    assert "a = 0.03 > 2 times b = 0.01" in parse(row, "here").judge(exact(a=0.03, b=0.01)).text


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
    assert level(row, exact(a=1.4, b=1)) == "fails"
    assert level(row, {"a": Point(2, 1.2, 3), "b": Point(1, 1, 1)}) == "undecided"


def test_a_tie_is_no_refutation():
    for op in "<>":
        assert level({"op": op, "left": "a", "right": "b"}, exact(a=1, b=1)) == "undecided"
    assert (
        level({"op": "equal", "left": "a", "right": "b", "within": 0}, exact(a=1, b=1)) == "holds"
    )


def test_a_side_may_be_a_number():
    assert level({"op": ">", "left": "a", "right": 1}, exact(a=2)) == "holds"
    assert level({"op": "<", "left": 3, "right": "a"}, exact(a=2)) == "fails"


def test_between_includes_its_ends():
    row = {"op": "between", "of": "a", "low": 1, "high": 2}
    assert [level(row, exact(a=a)) for a in (1, 2, 2.01)] == ["holds", "holds", "fails"]
    assert level(row, {"a": Point(1.5, 0.9, 1.6)}) == "undecided"
    assert level(row, {"a": Point(2.1, 0.9, 2.2)}) == "undecided"


def test_an_extreme_is_looked_for_in_every_unit():
    row = {"op": "argmin", "of": "k=", "within": [2, 2]}
    assert level(row, of_units([[3, 1, 3, 3], [30, 10, 30, 30]])) == "holds"
    assert level(row, of_units([[3, 1, 3, 3], [3, 3, 1, 3]])) == "undecided"
    assert level(row, of_units([[1, 3, 3, 3], [3, 3, 1, 3]])) == "undecided"  # 1 and 3 span 2
    assert level(row, of_units([[3, 3, 1, 3], [3, 3, 3, 1]])) == "fails"
    for flat in ([[1, 1, 1, 1]], [[1, 1, 3, 3], [2, 2, 3, 3]]):  # ties reach both places
        assert level(row, of_units(flat)) == "undecided"
        assert level({**row, "within": [1, 1]}, of_units(flat)) == "undecided"


def test_an_extreme_with_a_tolerance_asks_how_much_better_it_is_elsewhere():
    row = {"op": "argmin", "of": "k=", "within": [2, 2], "tolerance": 0.5}
    assert level(row, of_units([[3, 1, 3, 3], [3, 1.5, 1, 3]])) == "holds"
    assert level(row, of_units([[3, 1, 3, 3], [3, 1.6, 1, 3]])) == "undecided"
    assert level(row, of_units([[3, 1.6, 1, 3], [1, 1.6, 3, 3]])) == "fails"
    assert level(row, of_units([[1, 1, 1, 1], [2, 2, 2, 2]])) == "holds"  # flat
    assert level(row, series(3, 1.4, 1, spread=0.0)) == "holds"
    assert level(row, series(3, 1.4, 1, spread=0.1)) == "undecided"
    exactly = {**row, "tolerance": 0.0}
    assert level(exactly, of_units([[3, 1, 3, 3], [3, 1.5, 1, 3]])) == "undecided"
    with pytest.raises(ClaimError, match="tolerance=-1: allowed is >= 0"):
        parse({**row, "tolerance": -1}, "here")
    told = "behind others by -1.25 [-2, -0.5], allowed 0.5"
    assert told in parse(row, "here").judge(of_units([[3, 1, 3, 3], [3, 1, 1.5, 3]])).text


def test_without_units_an_extreme_may_be_wherever_intervals_reach():
    row = {"op": "argmin", "of": "k=", "within": [2, 2]}
    assert level(row, series(3, 1, 3, spread=0.9)) == "holds"
    assert level(row, series(3, 1, 3, spread=1.0)) == "undecided"
    assert level(row, series(1, 3, 3)) == "fails"
    assert level(row, series(1, 1, 3)) == "undecided"  # a tie decides nothing


def test_numbers_in_labels_are_compared_as_numbers():
    table = exact(**{"k=9": 1.0, "k=10": 2.0, "k=1.8": 0.0, "k=x": 9.0, "other k=5": 9.0})
    row = {"op": "increasing", "of": "k="}
    assert level(row, table) == "holds"
    assert "from k=1.8 (0) to k=10 (2)" in parse(row, "here").judge(table).text


def test_monotone_allows_small_wrong_steps_and_none_that_are_sure():
    row = {"op": "increasing", "of": "k=", "tolerance": 0.5}
    assert level(row, series(1, 2, 1.8, 3)) == "holds"
    assert level(row, series(1, 2, 1.8, 3, spread=0.2)) == "undecided"  # 2 to 3 may fall by 0.6
    assert level(row, series(1, 2, 1, 3)) == "fails"
    assert level(row, series(2, 2, 2, 2)) == "undecided"  # it does not rise
    assert level(row, series(2, 1.8, 1.6, 1.4)) == "fails"  # small steps, all down
    assert level(row, series(3, 2.6, 2.2, 1.8, 4)) == "fails"  # small steps back add up
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
            with pytest.raises(Unmeasured, match="without a finite value"):
                level(row, table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "op='None': allowed is >, <"),
        ({"op": ">="}, "op='>='"),
        ({"op": ">", "left": "a", "rigth": "b"}, "unknown key 'rigth'.*'right'"),
        ({"op": ">", "left": "a"}, "right='': allowed is str"),
        ({"op": ">", "left": "a", "right": True}, "right=True"),
        ({"op": ">", "left": "a", "right": "b", "margin": "0.1"}, "margin='0.1'"),
        ({"op": "between", "of": "", "low": 0, "high": 1}, "of='': allowed is str"),
        ({"op": "argmin", "of": "k="}, "within='': allowed is"),
        ({"op": "argmin", "of": "k=", "within": [1]}, r"within=\[1\]: allowed is"),
        ({"op": ">", "left": "a", "right": "b", "factor": 0}, "factor=0.*> 0"),
        ({"op": "between", "of": "a", "low": 2, "high": 1}, "low=2: allowed is <= high=1"),
        ({"op": "equal", "left": "a", "right": "b", "within": -1}, "within=-1"),
        ({"op": "increasing", "of": "k=", "tolerance": -1}, "tolerance=-1"),
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
