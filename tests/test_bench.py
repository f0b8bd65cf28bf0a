"""The record of the benchmarks and its page: ratios, merging, the seal, what is missing."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from srclib.errors import DataError
from srclib.store import files
from srclib.suite import front, speed, trust

sys.path.append(str(ROOT / "bench"))
import measure
import record

_SPEC = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
assert _SPEC and _SPEC.loader
runner = importlib.util.module_from_spec(_SPEC)  # by its path: other folders have a run.py too
_SPEC.loader.exec_module(runner)

LOSSES = [3.0, 2.0, 1.0]


def contenders(**times: list[float]) -> list[measure.Contender]:
    return [
        measure.Contender(
            name, lambda: None, None, ms, LOSSES if name != "limit" else [float("nan")]
        )
        for name, ms in times.items()
    ]


def measured(workload: str, monkeypatch: pytest.MonkeyPatch, path: Path, **times: Any) -> Any:
    """The row that a workload with these times of each round hands over."""
    monkeypatch.setenv("SRCLIB_BENCH_ROWS", str(path))
    measure.table(contenders(**times), next(iter(times)), "limit", "mse", tail=2)
    measure.keep(workload, "2026-01-02; a processor, one thread")
    return runner.lines(path)[-1]


def test_a_profile_says_where_the_time_goes() -> None:
    a, b = torch.ones(400, 400), torch.ones(8)
    mostly = measure.Contender("srclib", lambda: (a @ a, b + b), milliseconds=[1.0])
    found = measure.profile(mostly)
    assert next(iter(found)) == "mm" and found["mm"] > 0.5
    assert sum(found.values()) == pytest.approx(1.0, abs=0.2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record of this test stands; bench/targets.toml beside it."""
    (tmp_path / "bench").mkdir()
    shutil.copy(ROOT / "bench" / "targets.toml", tmp_path / "bench")
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    return tmp_path / "data" / "trust" / "bench.json"


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """TopK in three rounds: 2, 3 and 4 times as fast as the best peer, whose last one is slow."""
    times = {
        "srclib": [10.0, 10.0, 30.0],
        "sparsify": [20.0, 30.0, 120.0],
        "dictionary_learning": [90.0, 60.0, 60.0],
        "limit": [5.0, 5.0, 3.0],
    }
    return dict(measured("topk", monkeypatch, tmp_path / "rows.jsonl", **times))


def test_ratios_are_taken_inside_a_round(row: dict[str, Any]) -> None:
    found = record.entry(row)
    assert found["best_peer"] == "sparsify", "by its median, not by its worst round"
    (goal,) = found["goals"]
    assert (goal["ratio"], goal["low"], goal["high"]) == (3.0, 2.0, 4.0)
    assert (goal["against"], goal["must"], goal["aim"]) == ("sparsify", 1.6, 2.0)
    own, _, slow, limit = found["contenders"]
    assert (own["cpu_ms"], own["low"], own["high"]) == (10.0, 10.0, 30.0)
    assert own["of_limit"] == 0.5 and slow["to_best"] == 0.5
    assert (own["first"], own["last"]) == (3.0, 1.5)
    assert limit["first"] is None and limit["of_limit"] == 1.0
    assert found["provenance"]["date"] == "2026-01-02"
    assert found["provenance"]["machine"] == "a processor, one thread"


def test_a_goal_may_name_another_peer_than_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {"srclib, one list": [1.0], "SAELens": [7.0], "SAELens, shared batch": [4.0]}
    found = measured("w1b", monkeypatch, tmp_path / "rows", **times, limit=[0.5])
    (goal,) = record.entry(found)["goals"]
    assert (goal["against"], goal["ratio"], goal["to_best"]) == ("SAELens", 7.0, 4.0)


def test_a_workload_takes_the_place_of_its_old_entry(place: Path, row: dict[str, Any]) -> None:
    other = row | {"workload": "topk-large"}
    record.merge([other, row])
    assert list(trust.load("bench"))[:2] == ["topk", "topk-large"], "in the order of the table"
    before = trust.load("bench")["topk-large"]
    anew = json.loads(json.dumps(row))
    anew["contenders"]["srclib"]["cpu_ms"] = [1.0, 1.0, 1.0]
    record.merge([anew])
    after = trust.load("bench")
    assert after["topk-large"] == before
    assert after["topk"]["goals"][0]["ratio"] == 30.0


def test_an_edited_record_is_refused_and_stays(place: Path, row: dict[str, Any]) -> None:
    record.merge([row])
    edited = place.read_text("utf-8").replace('"ratio": 3.0', '"ratio": 9.0')
    assert edited.count("9.0") > place.read_text("utf-8").count("9.0")
    place.write_text(edited, "utf-8")
    for use in (speed.page, lambda: record.merge([row])):
        with pytest.raises(DataError, match=r"data/trust/bench\.json: was edited by hand"):
            use()
    assert place.read_text("utf-8") == edited


def test_the_table_knows_every_workload_that_can_be_run() -> None:
    assert set(record.TARGETS) == set(runner.SCRIPTS)
    with pytest.raises(SystemExit, match="allowed are w1-gen"):
        record.entry({"workload": "none"})
    for name in runner.SCRIPTS.values():
        assert (ROOT / "bench" / name).is_file()


def test_only_the_contender_that_is_asked_for_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def make(name: str) -> measure.Contender:
        asked.append(name)
        return measure.Contender(name, lambda: None)

    makers = {name: lambda name=name: make(name) for name in ("a", "b")}
    assert [each.name for each in measure.made(makers)] == ["a", "b"]
    monkeypatch.setenv("SRCLIB_BENCH_ALONE", "b")
    monkeypatch.setenv("SRCLIB_BENCH_ROWS", str(tmp_path / "rows"))
    with pytest.raises(SystemExit):
        measure.made(makers)
    (found,) = runner.lines(tmp_path / "rows")
    assert asked == ["a", "b", "b"] and found["alone"] == "b" and found["peak_gib"] > 0.01


def test_the_page_without_a_record_says_how_to_get_one(place: Path) -> None:
    page = speed.page()
    assert "Nothing was measured yet" in page and "python3 -m nox -s bench" in page
    assert all(f"`{name}`" in page for name in record.TARGETS)
    assert "<table" not in page and "<svg" not in page


def test_the_page_tells_what_leads_what_is_missed_and_what_is_lacking(
    place: Path, row: dict[str, Any]
) -> None:
    slow = json.loads(json.dumps(row)) | {"workload": "topk-large"}
    slow["contenders"]["srclib"]["cpu_ms"] = [25.0, 25.0, 100.0]  # 0.8, 1.2, 1.2
    slow["contenders"]["srclib"]["profile"] = {"mm": 0.5, "rest": 0.25}
    record.merge([row, slow])
    page = speed.page()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "2 of 2 comparisons are faster" in text and "1 of 2 reach" in text
    (missed,) = re.findall(r"Not reached: (.*?it must be [\d.]*\d)", text)
    assert "18,432" in missed and "1.2 times as fast as sparsify" in missed and missed[-3:] == "1.6"
    assert "(rounds: 0.8 to 1.2)" in missed
    assert "Where its time goes: mm 50 %, the rest (smaller operations, numpy, Python) 25 %" in text
    assert page.count('class="speed-must"') == 2 and "nox -s bench -- topk" in page
    assert "`jumprelu`" in page and "`topk`" not in page, "what was not run, and nothing else"


def test_bars_stand_at_their_logarithms() -> None:
    goal = {"ratio": 10.0, "low": 1.0, "high": 100.0, "must": 10.0, "to_best": 10.0, "ours": "a"}
    known = {"x": {"title": "", "best_peer": "p", "goals": [goal], "contenders": []}}
    shown = speed.bars(known)
    (row,) = shown["rows"]
    assert row["ratio_at"] == row["must_at"] == pytest.approx(50.0)
    assert shown["one"] == row["low_at"] == pytest.approx(100 - row["high_at"])
    assert {"1", "10", "100"} < set(shown["ticks"]) and "200" not in shown["ticks"]


def test_curves_grow_as_their_times_do(place: Path) -> None:
    def point(at: int, ms: float) -> dict[str, float]:
        return {"at": at, "cpu_ms": ms, "low": ms, "high": ms, "last": 1.0}

    series = {"srclib": [point(1, 1.0), point(10, 10.0), point(100, 100.0)]}
    curve = {"over": "k", "fixed": "TopK", "series": series}
    shown = speed.growth(curve)
    assert [place[:2] for place in shown["lines"]["srclib"]] == [(0, 100), (50, 50), (100, 0)]
    assert shown["grown"] == {"srclib": 100.0}
    record.merge([{"workload": "scaling", "machine": "2026-01-02; a", "curves": [curve]}])
    page = speed.page()
    assert "How the time grows" in page and "multiplied by 100 (srclib)" in page
    assert "comparisons" not in page, "nothing was compared"


def test_the_committed_record_is_sound_and_its_page_can_be_made() -> None:
    page = speed.page() + front.fill((ROOT / "book" / "bench.md").read_text("utf-8"), {}, "bench")
    assert "{{" not in page
    if trust.path("bench").exists():
        assert set(trust.load("bench")) <= {*record.TARGETS, trust.SEAL}
