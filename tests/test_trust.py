"""What `sabotage`, `faults` and `seeds` count, and the page that quotes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import branches
import mutants
import planted
import pytest
import sabotage
import seeds
import turned
from conftest import ROOT

from srclib.errors import ClaimError
from srclib.suite import front, params, records, trust, verdicts

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


def test_mutants_are_drawn_from_a_seed_and_a_longer_run_takes_up_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("srclib/x.py", "a = 1 + 2 * 3 - 4\n"), ("tests/test_x.py", "assert a\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pyproject.toml").touch()
    tried: list[str] = []

    def result(file: Path, text: str, tests: list[str]) -> str:
        tried.append(text)
        sound = text == file.read_text("utf-8")
        return "survived" if sound or "- 4" in text else "caught"

    def ran(n: int, seed: int = 0) -> dict[str, Any]:
        tried.clear()
        sabotage.logged.cache_clear(), sabotage.code.cache_clear()
        return sabotage.at_random(tmp_path, n, seed, lambda: True)

    monkeypatch.setattr(sabotage, "MODULES", {"x.py": "test_x.py"})
    monkeypatch.setattr(sabotage, "LOG", tmp_path / "build" / "sabotage.jsonl")
    monkeypatch.setattr(sabotage, "_result", result)
    two = ran(2)
    assert len(tried) == 3, "once without a fault"
    with open(sabotage.LOG, "a") as log:
        log.write('\n{"key": "half')  # of a run that was killed
    five = ran(5)
    assert len(tried) == 3 and five["rows"][:2] == two["rows"]
    assert ran(5) == five and tried == []
    assert ran(5, seed=1)["rows"] != five["rows"]
    assert {row["result"] for row in five["rows"]} == {"caught", "survived"}
    (tmp_path / "tests" / "test_x.py").write_text("assert a == 3\n")
    assert ran(2) == two and len(tried) == 3, "other tests may notice"
    (tmp_path / "srclib" / "y.py").write_text("b = 1\n")
    assert ran(2) == two and len(tried) == 3, "other code may as well"


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


def test_flips_are_counted_by_claim_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "alone", lambda study, id, rows: "1 of 2")
    rows = [row("a", "replicated", 1), row("b", "partly", 1), row("c", "partly", 1)]
    base = {"study": "l0", "claims": [*rows, row("d", "replicated", 1, "by construction")]}
    one = {"claims": [row("a", "not replicated", 2), row("b", "replicated", 1),
                      row("c", "partly", 1), row("d", "partly", 2)]}  # fmt: skip
    two = {"claims": [row("a", "replicated", 3), row("b", "not assessed", 2),
                      row("c", "partly", 1), row("d", "partly", 2)]}  # fmt: skip
    found = seeds.told(seeds.compared(base, [one, two]), 2, "laptop")
    assert (found["claims"], found["n"], found["flips"], found["half"]) == (2, 4, 1, 1)
    assert found["unassessed"] == 1 and found["share"] == 0.5
    assert (found["whole"], found["claims_changed"]) == (2, 2), "from partly no whole flip leads"
    assert found["unmoved"] == ["c"] and [each["claim"] for each in found["changed"]] == [
        "a",
        "b",
    ]


def test_units_are_counted_that_meet_the_whole_rule_alone() -> None:
    rows = {row["id"]: row for row in records.find("l0", "laptop")["claims"]}
    own, label = rows["l0.toy.mix_vs_l0"], "rho=-0.4 k=1.7"
    assert seeds.alone("l0", own["id"], [own, own]) == "10 of 10"
    values = {**own["values"], label: [0.01, *own["values"][label][1:]]}  # one SAE collapses
    collapsed = {**own, "values": values, "verdict": "partly"}
    assert seeds.alone("l0", own["id"], [own, collapsed]) == "9 of 10"
    assert seeds.alone("l0", own["id"], [{**own, "verdict": "not assessed"}]) == ""
    nan = {**own, "values": {**own["values"], label: [None] * 5}}
    assert seeds.alone("l0", own["id"], [nan]) == "0 of 5"
    share = rows["l0.toy.true_l0_recovers"]
    assert "interval_kinds" in share and seeds.alone("l0", share["id"], [share]) == ""


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


@pytest.fixture
def nothing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what was measured, without anything in it."""
    monkeypatch.setattr(trust, "path", lambda name: tmp_path / f"{name}.json")
    return tmp_path


def test_parts_that_were_not_run_are_named_once(nothing_run: Path) -> None:
    page = front.fill(PAGE, {}, "book/trust.md")
    assert "{{" not in page and "<!-- " not in page
    for name in ("sabotage", "faults", "seeds", "coverage"):
        assert page.count(f": `python3 -m nox -s {name}`\n") == 1
    listed = page.partition("## What was not run")[2].partition("\n## ")[0]
    assert "- Named faults, Random faults, Verdicts: `python3 -m nox -s sabotage`" in listed
    for heading in re.split(r"^## .*\n", page, flags=re.MULTILINE)[1:]:
        assert heading.strip(), "a heading above nothing"


def test_what_was_run_is_not_in_the_list(nothing_run: Path) -> None:
    text = "<!-- trust.seeds a -->**One.** {{trust.seeds a.n}}<!-- end -->\n<!-- trust.seeds b -->"
    text += f"two<!-- end -->\n{trust.NOT_RUN}"
    trust.write("seeds", {"a": {"n": 7}})
    assert front.fill(text, {}, "p") == "**One.** 7\n\n- b: `python3 -m nox -s seeds`"
    trust.write("seeds", {"a": {"n": 7}, "b": {}})
    assert front.fill(text, {}, "p") == "**One.** 7\ntwo\nNothing: every part was run."


def test_a_page_may_not_leave_out_a_part_without_a_word(nothing_run: Path) -> None:
    with pytest.raises(ClaimError, match=r"book/x\.md=.*for the list of seeds two"):
        front.fill("<!-- trust.seeds two -->2<!-- end -->", {}, "book/x.md")


def seeds_ran(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[tuple[str, str, int]]:
    """Run `seeds` with studies that answer at once; (study, profile, seed) of each run."""
    asked = []

    def run(study: str, profile: str, moved: dict[str, Any] | None = None) -> dict[str, Any]:
        asked.append((study, profile, (moved or {}).get("seed", 0)))
        if study == "gba":
            raise ClaimError("gba: on purpose")
        verdict = "partly" if moved else "replicated"
        made = {"study": study, "provenance": {"commit": "c0ffee"}}
        return {**made, "claims": [row(f"{study}.a", verdict, 2.0 if moved else 1.0)]}

    monkeypatch.setattr(seeds, "run", run)
    monkeypatch.setattr(seeds, "alone", lambda study, id, rows: f"{len(rows)} of 5")
    monkeypatch.setattr(seeds.sys, "argv", ["seeds", *words])
    assert seeds.main() == ("gba" in {study for study, _, _ in asked})
    return asked


def test_fresh_seeds_at_smoke_decide_nothing(
    nothing_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = seeds_ran(monkeypatch, "l0", "--sets", "1", "--profile", "smoke")
    assert asked == [("l0", "smoke", 0), ("l0", "smoke", 1000)]
    assert trust.load("seeds").keys() == {"l0", trust.SEAL}
    page = front.fill(PAGE, {}, "book/trust.md")
    assert "- Fresh seeds: `python3 -m nox -s seeds`" in page and "**Fresh seeds.**" not in page


def test_fresh_seeds_of_all_studies_are_summed_and_a_failure_is_told(
    nothing_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = seeds_ran(monkeypatch, "--sets", "2")
    assert {study for study, _, _ in asked} == set(params.studies())
    assert "gba: ClaimError: gba: on purpose" in capsys.readouterr().err
    found, n = trust.load("seeds"), len(params.studies()) - 1
    assert "gba" not in found and len(found["all"]["rows"]) == n
    assert (found["all"]["n"], found["all"]["half"], found["all"]["flips"]) == (2 * n, 2 * n, 0)
    page = front.fill(PAGE, {}, "book/trust.md")
    assert f"claims in {n} studies" in page and "Fresh seeds:" not in page


def test_the_claims_of_a_page_say_what_fresh_seeds_made_of_them(
    nothing_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trust.under_seeds("l0") == {}
    seeds_ran(monkeypatch, "l0", "--sets", "2")
    told = {"profile": "laptop", "told": "2 partly", "units": "2 of 5", "varies": True}
    record = records.find("l0", "laptop")
    now = {"claims": [{"id": "l0.a", "verdict": "replicated"}]}
    with monkeypatch.context() as own:
        own.setattr(records, "find", lambda study, profile: now)
        assert trust.under_seeds("l0") == {"l0.a": told} and trust.under_seeds("gba") == {}
        now["claims"][0]["verdict"] = "partly"
        assert trust.under_seeds("l0") == {}, "of another rule"
    id = record["claims"][-1]["id"]
    plain, marked = verdicts.claim_list(record), verdicts.claim_list(record, seeds={id: told})
    assert "Fresh seeds" not in plain and "varies with" not in plain
    assert "at laptop. 2 partly; 2 of 5 units meet the whole rule alone" in marked
    assert marked.count("Fresh seeds") == marked.count("varies with the seeds") == 1
    larger = verdicts.claim_list({**record, "profile": "full"}, seeds={id: told})
    assert "Fresh seeds" in larger and "varies with" not in larger, "its own verdict is another"


def test_branches_are_counted_by_module() -> None:
    def file(taken: int, every: int, left: list[list[int]]) -> dict[str, Any]:
        summary = {"covered_branches": taken, "num_branches": every}
        return {"summary": summary, "missing_branches": left}

    files = {"srclib/a.py": file(2, 5, [[9, 10], [4, -1], [9, 12]]), "srclib/b.py": file(3, 3, [])}
    found = branches.counted({"files": files}, {"a.py": "first", "b.py": "second"})
    assert found["total"] == {"branches": 8, "branches_taken": 5, "share": 0.625}
    assert [row["untaken at line"] for row in found["rows"]] == ["4, 9", "none"]
    with pytest.raises(KeyError, match=r"c\.py"):
        branches.counted({"files": files}, {"c.py": "not measured"})


def test_the_modules_and_tests_of_coverage_exist() -> None:
    assert all((ROOT / "srclib" / name).is_file() for name in branches.MODULES)
    assert all((ROOT / "tests" / name).is_file() for name in branches.TESTS)
