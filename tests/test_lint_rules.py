"""A lint of the ledgers: every condition can hold, can fail, and listens to what was measured."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import turned
from conftest import ROOT

from srclib.errors import ClaimError
from srclib.suite import claims, params, points, records, rules
from srclib.suite.points import Point

LEVELS = {"holds", "fails"}
SIZES = (0.0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0, 3.0, 30.0, 1000.0)


def labels(condition: Any) -> list[str]:
    """The labels of a table on which a condition can be judged."""
    if isinstance(condition, rules.OfSides):
        return [side for side in (condition.left, condition.right) if isinstance(side, str)]
    if isinstance(condition, rules.Between):
        return [condition.of]
    if isinstance(condition, rules.Extreme):
        low, high = condition.within
        return [f"{condition.of}{at}" for at in (low - 1, low, high, high + 1)]
    ends = [condition.from_, condition.to]
    at = [end for end in ends if math.isfinite(end)] or [1.0]
    steps = [at[0], at[-1]] if len(at) == 2 else [at[0], at[0] + 1 if ends[0] == at[0] else 0]
    return [f"{condition.of}{step}" for step in steps]


def reached(condition: Any, tries: int = 400) -> set[str]:
    """How a condition comes out on tables of plausible numbers, those that it names among them."""
    draw, own = (
        random.Random(0),
        [v for v in vars(condition).values() if isinstance(v, int | float)],
    )
    sizes = [*SIZES, *(abs(v) for v in own if math.isfinite(v) and abs(v) < 1e6)]
    found = set()
    for _ in range(tries):
        table = {}
        for label in dict.fromkeys(labels(condition)):
            value = draw.choice(sizes) * draw.choice((1, 1, 1.5, -1))
            table[label] = Point(value, value, value)
        try:
            found.add(condition.judge(table).level)
        except points.Unmeasured:
            continue
    return found


CONDITIONS = [
    (claim.id, condition)
    for study in params.studies()
    for claim in claims.load_claims(study)
    for condition in (*claim.rule, *claim.instrument, *claim.excluded_by)
]


def test_every_condition_of_the_ledgers_can_hold_and_can_fail() -> None:
    stuck = [
        f"{id}: {condition} only {sorted(found)}"
        for id, condition in CONDITIONS
        if not (found := reached(condition)) >= LEVELS
    ]
    assert len(CONDITIONS) > 100 and not stuck


@pytest.mark.parametrize(
    "row",
    [
        {"op": "equal", "left": "a", "right": "b", "within": 1e9},
        {"op": "between", "of": "a", "low": -1e12, "high": 1e12},
        {"op": ">", "left": "a", "right": "b", "margin": -1e9},
        {"op": "<", "left": "a", "right": 1e15},
        {"op": "equal", "left": "a", "right": "a", "within": 0.1},
        {"op": "between", "of": "a", "low": 1e12, "high": 1e12},
    ],
)
def test_the_lint_finds_what_no_number_can_fail_or_meet(row: dict[str, Any]) -> None:
    assert not reached(rules.parse(row, "test")) >= LEVELS


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("key", ["margin", "factor", "right"])
def test_bounds_that_are_no_numbers_are_refused(key: str, number: float) -> None:
    with pytest.raises(ClaimError, match=key):
        rules.parse({"op": ">", "left": "a", "right": 1.0, key: number}, "test")


# Conditions that no distortion of what was recorded fails, and which numbers would.
COULD_FAIL = {
    ("gba.llm.superior", "alive GBA"): "all neurons of both are alive; a dead tenth would",
    ("l0.toy.gt_init_no_help", "recovered"): "few of fifty features are recovered; half would",
}


def test_every_condition_listens_to_what_was_recorded() -> None:
    """A tolerance wider than anything that was measured holds whatever is measured."""
    deaf, n = set[tuple[str, str]](), 0
    for path in sorted((ROOT / "data" / "results").glob("*.laptop.json")):
        record = records.load(path)
        known = {claim.id: claim for claim in claims.load_claims(record["study"])}
        for row in (row for row in record["claims"] if row.get("values")):
            for condition, levels in turned.conditions(known[row["id"]], row):
                n += 1
                if levels == {"holds"}:
                    deaf.add((row["id"], str(getattr(condition, "left", condition))))
    assert n > 400 and deaf == COULD_FAIL.keys()


@pytest.mark.parametrize(
    "rule",
    [
        {"op": "equal", "left": "a", "right": "b", "within": 50},
        {"op": ">", "left": "a", "right": "b", "margin": -30},
        {"op": "between", "of": "a", "low": -1e12, "high": 1e12},
        {"op": "<", "left": "a", "right": 40.0},
    ],
)
def test_a_tolerance_that_nothing_recorded_can_fail_is_found(rule: dict[str, Any]) -> None:
    condition = rules.parse(rule, "test")
    row = {"values": {"a": [0.4, 0.5, 0.6], "b": [0.9, 0.8, 0.9]}, "n_seeds": 3}
    row |= {"measured": {"a": 0.5, "b": 0.9}, "interval": {"a": [0.4, 0.6], "b": [0.8, 0.9]}}
    (found,) = turned.conditions(SimpleNamespace(rule=(condition,)), row)
    assert found[1] == {"holds"}
