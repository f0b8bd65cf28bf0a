"""Runs under an index: one tidy table, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from srclib import files, metrics
from srclib.activations import BatchTopK
from srclib.config import TrainConfig
from srclib.control import KSchedule, Trace
from srclib.errors import ParameterError, SuiteError
from srclib.sae import SAE
from srclib.sources.rows import Rows
from srclib.sources.toy import ToyFeatures
from srclib.sweeps import Run, Sweep, held_out, sweep
from srclib.tables import tidy

TOYS = {s: ToyFeatures(6, 8, 0.3, seed=s) for s in (0, 1, 2)}
CFG = TrainConfig(n_steps=4, n_batch=16, lr=1e-2, log_every=2)
SEEDS, KS = (0, 1, 2), (1, 2)


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "build", lambda: tmp_path)


def run(s: int, k: float, **options: Any) -> Run:
    return Run(SAE(8, 6, BatchTopK(k), seed=s), TOYS[s], CFG, **options)


@pytest.fixture
def runs() -> Sweep:
    return sweep({(s, k): run(s, k) for s in SEEDS for k in KS}, ("seed", "k"), workers=1)


def norm(run: Run) -> float:
    return float(run.sae.W_dec.detach().norm())


def test_a_table_has_a_row_per_run_and_a_column_per_number(runs: Sweep) -> None:
    def both(run: Run) -> dict[str, Any]:
        x = run.held_out(32)
        return {"l0": metrics.l0(run.sae.encode(x)), "largest": x.max()}  # a tensor of one number

    table = runs.table(norm, both)
    assert list(table.columns) == ["norm", "l0", "largest"]
    assert table.index.names == ["seed", "k"] and list(table.index) == list(runs)
    for key, each in runs.items():
        assert table.norm[key] == norm(each)
    assert not torch.is_grad_enabled() or runs[0, 1].sae.W_dec.requires_grad


def test_selection(runs: Sweep) -> None:
    assert list(runs.select(k=2)) == [(0, 2), (1, 2), (2, 2)]
    assert list(runs.select(k=[1, 2], seed=1)) == [(1, 1), (1, 2)]
    assert runs.one(seed=1, k=2) is runs[1, 2]
    assert len(runs.select(k=9)) == 0 and runs.select(k=9).table(norm).empty
    assert runs.level("k") == [1, 2]
    again = runs.select(k=1) | runs.select(k=2)
    assert set(again) == set(runs)


def test_pairs_follow_the_ring(runs: Sweep) -> None:
    seen: list[tuple[Run, Run]] = []

    def pair(a: Run, b: Run) -> float:
        seen.append((a, b))
        return norm(a) - norm(b)

    table = runs.pairs("seed", pair)
    assert seen[0] == (runs[0, 1], runs[1, 1]) and seen[-1] == (runs[2, 2], runs[0, 2])
    assert table.groupby("k").pair.sum().abs().max() < 1e-5  # each run stands on both sides


def test_a_long_table_has_one_more_level(runs: Sweep) -> None:
    table = runs.long(lambda run: {n: {"norm": n * norm(run)} for n in (1, 2)}, "n")
    assert table.index.names == ["seed", "k", "n"]
    assert table.norm[0, 1, 2] == 2 * table.norm[0, 1, 1]


def test_histories_and_notes() -> None:
    traces = {s: Trace(2, inner=KSchedule(((0, 1.0), (3, 2.0)))) for s in SEEDS}
    runs = sweep({s: run(s, 1, control=traces[s]) for s in SEEDS}, "seed", workers=1)
    assert list(runs.history().loc[1].index) == [2, 4]
    notes = runs.notes()
    assert notes.index.names == ["seed", "step"] and list(notes.loc[2].index) == [0, 2]
    assert runs[1].control is traces[1]


def test_one_run_under_two_keys() -> None:
    same = run(0, 1)
    runs = sweep({"a": same, "b": same}, "arm", workers=1)
    assert runs["a"] is runs["b"] and same.key


def test_a_sweep_in_a_sweep_trains_nothing_again(runs: Sweep) -> None:
    before = runs[0, 1].sae.W_dec.clone()
    again = sweep(dict(runs), ("seed", "k"), workers=1)
    assert again[0, 1] is runs[0, 1] and torch.equal(before, runs[0, 1].sae.W_dec)


def test_evaluation_rows_are_read_once_per_source() -> None:
    twin = ToyFeatures(6, 8, 0.3, seed=1)
    assert held_out(TOYS[1], 32) is held_out(twin, 32)
    assert not torch.equal(held_out(TOYS[0], 32), held_out(twin, 32))


def test_the_driver_is_told_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_SAES", str(tmp_path / "saes.jsonl"))
    runs = sweep({(0, 2): run(0, 2)}, ("seed", "k"), workers=1)
    (line,) = (tmp_path / "saes.jsonl").read_text("utf-8").splitlines()
    told = json.loads(line)
    assert told["index"] == {"seed": 0, "k": 2} and told["key"] == runs[0, 2].key
    assert (tmp_path / "cache" / told["key"][:2] / told["key"] / "sae.json").is_file()


def text(run: Run) -> Any:
    return {"name": "word"}


def vector(run: Run) -> Any:
    return run.sae.b_enc


REFUSED = {
    "two equal keys": (
        lambda runs: sweep([((0,), run(0, 1)), ((0,), run(0, 2))], "seed"),
        r"key='\(seed=0\)': allowed is each key once",
    ),
    "a key of another length": (
        lambda runs: sweep({(0, 1, 2): run(0, 1)}, ("seed", "k")),
        r"key=\(0, 1, 2\): allowed is 2 values: seed, k",
    ),
    "a name twice": (lambda runs: sweep({}, ("k", "k")), "one name per index level"),
    "no run": (lambda runs: sweep({0: SAE(8, 6, BatchTopK(1))}, "seed"), "allowed is a Run"),
    "a level that is not there": (lambda runs: runs.select(kk=1), "nearest valid name is 'k'"),
    "several for one": (lambda runs: runs.one(k=1), "one run, not 3"),
    "none for one": (lambda runs: runs.one(k=7), "one run, not 0"),
    "a measure of text": (
        lambda runs: runs.table(text),
        r"text of \(seed=0, k=1\): name='str': allowed is a number",
    ),
    "a measure of a tensor": (
        lambda runs: runs.table(vector),
        r"vector of \(seed=0, k=1\).*use `map` for what is no number",
    ),
    "pairs of one": (lambda runs: runs.select(seed=0).pairs("seed", norm), "two values or more"),
    "a gap in the pairs": (
        lambda runs: Sweep({k: r for k, r in runs.items() if k != (1, 2)}, runs.names).pairs(
            "seed", lambda a, b: 1.0
        ),
        r"run \(seed=1, k=2\) is missing",
    ),
    "sweeps of other names": (lambda runs: runs | sweep({}, "seed"), "names=.*Rename one"),
    "a tidy row of text": (lambda runs: tidy({0: {"a": "b"}}, "seed"), "allowed is a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, runs: Sweep) -> None:
    act, match = REFUSED[case]
    with pytest.raises(ParameterError, match=match):
        act(runs)


def test_the_run_that_failed_is_named() -> None:
    """Also where others were trained beside it."""
    bad = TrainConfig(n_steps=30, n_batch=16, lr=1e30)
    runs = {k: Run(SAE(8, 6, BatchTopK(k)), TOYS[0], cfg) for k, cfg in ((1, CFG), (2, bad))}
    with pytest.raises(SuiteError, match=r"^run \(k=2\): the loss is not finite at step"):
        sweep(runs, "k", workers=1)
    few = Rows(torch.randn(20, 8), repeat=False)
    with pytest.raises(SuiteError, match=r"^run \(k=3\): .*64 inputs are asked for"):
        sweep({3: Run(SAE(8, 6, BatchTopK(1)), few, CFG)}, "k", workers=1)
