"""What `sabotage`, `faults` and `seeds` count, and the page that quotes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import mutants
import planted
import pytest
import seeds
import turned
from conftest import ROOT

from srclib.suite import front, params, trust

PAGE = (ROOT / "book" / "trust.md").read_text("utf-8")


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.name)
def test_a_named_fault_can_be_planted(fault: planted.Fault) -> None:
    text = (ROOT / "srclib" / fault.file).read_text("utf-8")
    assert text.count(fault.old) == 1
    compile(text.replace(fault.old, fault.new), fault.file, "exec")
    assert all((ROOT / "tests" / name).is_file() for name in fault.tests.split())


def test_the_tables_name_what_exists() -> None:
    names = {fault.name for fault in planted.FAULTS}
    assert len(names) == len(planted.FAULTS)
    assert all(set(own) <= names for own in planted.TURNS.values())
    for module, tests in planted.MODULES.items():
        assert (ROOT / "srclib" / module).is_file()
        assert all((ROOT / "tests" / name).is_file() for name in tests.split())


def test_a_mutant_changes_one_thing_and_never_a_text() -> None:
    source = '''
def f(x: int = 3) -> int:
    """One, 2."""
    if x > 1 and x != 5:
        raise ValueError(f"{x + 1}")
    return x * 2 + 0.5
'''
    found = list(mutants.mutants(source))
    assert {each.line for each in found} == {2, 4, 6}
    assert len({each.text for each in found}) == len(found)
    for each in found:
        assert "One, 2." in each.text and "{x + 1}" in each.text
        compile(each.text, "mutant", "exec")
    changes = {(each.old.splitlines()[0], each.new.splitlines()[0]) for each in found}
    assert {("x > 1", "x >= 1"), ("x != 5", "x == 5"), ("x * 2", "x / 2")} <= changes


def test_distortions_do_what_they_say() -> None:
    values: turned.Values = {"a": [1.0, 2.0], "b": [3.0, None]}
    made = {name: distort(values) for name, distort in turned.DISTORTIONS.items()}
    assert made["labels stand in reverse"] == {"a": [3.0, None], "b": [1.0, 2.0]}
    assert made["what is varied has no effect"] == {"a": [2.0, 2.0], "b": [2.0, 2.0]}
    assert made["the largest stands everywhere"] == {"a": [3.0, 2.0], "b": [3.0, 2.0]}
    assert made["the sign is lost"] == {"a": [-1.0, -2.0], "b": [-3.0, None]}
    assert values == {"a": [1.0, 2.0], "b": [3.0, None]}


def test_every_replicated_claim_depends_on_what_was_measured() -> None:
    """Of recorded values: each is turned by one distortion at least."""
    found = turned.recorded()
    assert found["n"] > 20 and found["steady"] == []


def row(id: str, verdict: str, value: float, basis: str = "measured") -> dict[str, Any]:
    return {"id": id, "verdict": verdict, "values": {"value": [value]}, "basis": basis}


def test_flips_are_counted_by_claim_and_kind() -> None:
    base = {"claims": [row("a", "replicated", 1), row("b", "partly", 1), row("c", "partly", 1),
                       row("d", "replicated", 1, "by construction")]}  # fmt: skip
    one = {"claims": [row("a", "not replicated", 2), row("b", "replicated", 1),
                      row("c", "partly", 1), row("d", "partly", 2)]}  # fmt: skip
    two = {"claims": [row("a", "replicated", 3), row("b", "not assessed", 1),
                      row("c", "partly", 1), row("d", "partly", 2)]}  # fmt: skip
    found = seeds.told(seeds.compared(base, [one, two]), 2, "laptop")
    assert (found["claims"], found["n"], found["flips"], found["half"]) == (3, 6, 1, 1)
    assert found["unassessed"] == 1 and found["share"] == 0.1667
    assert found["unmoved"] == ["b", "c"] and [each["claim"] for each in found["changed"]] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("study", params.studies())
def test_a_fresh_set_shares_no_seed_with_the_profile(study: str) -> None:
    spec = params.load_spec(study)
    known = spec.resolve({"profile": "laptop"}).values
    moved = seeds.fresh(study, "laptop", 1)
    assert spec.resolve({"profile": "laptop", **moved}).values["seed"] == 1000
    for name, values in moved.items():
        old = known[name] if isinstance(known[name], list) else [known[name]]
        assert not {*old} & {*(values if isinstance(values, list) else [values])}


def test_no_figure_of_the_page_is_typed_in() -> None:
    prose = re.sub(r"```.*?```|`[^`]*`|\{\{.*?\}\}|\]\(.*?\)", "", PAGE, flags=re.DOTALL)
    assert not re.findall(r"(?<![\w-])\d[\d.,]*", prose)
    assert PAGE.count("{{trust.") > 20


def test_every_figure_of_the_page_was_measured() -> None:
    assert "{{" not in front.fill(PAGE, {}, "book/trust.md")
    for path in sorted((ROOT / "data" / "trust").glob("*.json")):
        for part, content in trust.load(path.stem).items():
            if isinstance(content, dict) and part != "all":
                assert content["provenance"]["command"].startswith(f"nox -s {path.stem}")


def test_the_files_name_no_place_of_a_machine() -> None:
    for path in Path(ROOT / "data" / "trust").glob("*.json"):
        assert not re.search(r"/(home|tmp|Users|root|work)/", json.dumps(trust.load(path.stem)))
