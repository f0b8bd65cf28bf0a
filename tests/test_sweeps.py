"""Runs under an index: one tidy table, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from srclib import metrics
from srclib.activations import BatchTopK
from srclib.errors import ParameterError, SuiteError
from srclib.methods.auto_l0 import AutoL0
from srclib.runs.run import Run, held_out
from srclib.runs.sweeps import Sweep, sweep
from srclib.runs.tables import tidy
from srclib.sae import SAE
from srclib.sources.rows import Rows
from srclib.sources.toy import ToyFeatures
from srclib.store import files
from srclib.training.config import TrainConfig
from srclib.training.control import KSchedule, Trace

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


def test_evaluation_rows_are_read_once_and_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    twin, read = ToyFeatures(6, 8, 0.3, seed=7), list[int]()
    batch = ToyFeatures.batch

    def reading(self: ToyFeatures, step: int, n_batch: int) -> torch.Tensor:
        read.append(step)
        return batch(self, step, n_batch)

    monkeypatch.setattr(ToyFeatures, "batch", reading)
    first = held_out(twin, 33)
    kept = first.clone()
    first.zero_()
    assert torch.equal(held_out(ToyFeatures(6, 8, 0.3, seed=7), 33), kept) and read == [-1]
    assert not torch.equal(held_out(TOYS[0], 33), kept)


def test_a_shape_is_part_of_what_rows_are() -> None:
    x = torch.arange(64.0)
    assert held_out(Rows(x.view(16, 4), held_out=4), 4).shape == (4, 4)
    assert held_out(Rows(x.view(8, 8), held_out=4), 4).shape == (4, 8)


def test_measures_do_not_reach_each_other(runs: Sweep) -> None:
    """A mode that one measure sets is not there for the next."""

    def l0(run: Run) -> float:
        return metrics.l0(run.sae.encode(run.held_out(64)))

    def at_inference(run: Run) -> float:
        return metrics.l0(run.sae.eval().encode(run.held_out(64)))

    alone = runs.table(l0).l0
    assert runs.table(at_inference, l0).l0.equals(alone) and runs[0, 1].sae.training


def test_a_new_run_made_of_a_finished_one_is_trained(runs: Sweep) -> None:
    again = replace(runs[0, 1], sae=SAE(8, 6, BatchTopK(1), seed=0), config=replace(CFG, lr=2e-2))
    assert not again.key and not again.history
    sweep({0: again}, "seed", workers=1)
    assert again.key and not torch.equal(again.sae.W_dec, runs[0, 1].sae.W_dec)


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


SAME = SAE(8, 6, BatchTopK(1))
AUTO = AutoL0(n=3, every=20, window=3)


class Mute(KSchedule):
    """A control whose repr is its address."""

    def __init__(self) -> None:
        pass

    __repr__ = object.__repr__


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
    "one SAE in two runs": (
        lambda runs: sweep(
            {lr: Run(SAME, TOYS[0], replace(CFG, lr=lr)) for lr in (1e-3, 1e-2)}, "lr"
        ),
        "sae='one object in two runs'",
    ),
    "the SAE of a finished run": (
        lambda runs: sweep({0: Run(runs[0, 1].sae, TOYS[0], CFG)}, "seed"),
        "copy.deepcopy of a trained one",
    ),
    "a control inside two others": (
        lambda runs: sweep({s: run(s, 1, control=Trace(2, (), AUTO)) for s in SEEDS}, "seed"),
        "control='one object twice'",
    ),
    "a control that says nothing of itself": (
        lambda runs: sweep({0: run(0, 1, control=Mute())}, "seed"),
        "a repr that says all of its settings",
    ),
    "two numbers of one name": (
        lambda runs: runs.table(lambda run: 1.0, lambda run: 2.0),
        r"columns=\['<lambda>'\]: allowed is each name once",
    ),
    "a level twice": (lambda runs: runs.long(lambda run: {1: 1.0}, "k"), "not there yet"),
    "a key without a value": (
        lambda runs: tidy({(0, None): 1.0, (1, 2): 1.0}, ("seed", "k")),
        "values that can be told apart",
    ),
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
    wide = {k: Run(SAE(d, 6, BatchTopK(1)), TOYS[0], CFG) for k, d in ((1, 8), (2, 9))}
    with pytest.raises(SuiteError, match=r"^run \(k=2\): ToyFeatures has d_in=8, SAE has d_in=9"):
        sweep(wide, "k", workers=1)
    few = Rows(torch.randn(20, 8), repeat=False)
    with pytest.raises(SuiteError, match=r"^run \(k=3\): .*64 inputs are asked for"):
        sweep({3: Run(SAE(8, 6, BatchTopK(1)), few, CFG)}, "k", workers=1)
