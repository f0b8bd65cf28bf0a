"""The store of training runs: what counts for a key, and that it never changes a number."""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from srclib.activations import BatchTopK, JumpReLU, ReLU, TopK
from srclib.engines import engine
from srclib.errors import CheckpointError, ParameterError, SuiteError
from srclib.methods.auto_l0 import AutoL0
from srclib.objectives import L1, SquaredError
from srclib.runs import keys, memo
from srclib.runs.keys import key_of
from srclib.runs.memo import train_all
from srclib.runs.run import Run
from srclib.sae import SAE
from srclib.sources.rows import Rows, Scaled
from srclib.sources.toy import ToyFeatures
from srclib.store import checkpoint, files, fingerprint, locks
from srclib.training.control import KSchedule, Trace
from srclib.training.trainer import TrainConfig, train, training

TOY = ToyFeatures(6, 8, 0.3)
CFG = TrainConfig(n_steps=12, n_batch=16, lr=1e-2, log_every=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    monkeypatch.setattr(files, "build", lambda: tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which SAEs were really trained, by activation."""
    seen: list[str] = []

    def counting(saes: list[SAE], *arguments: Any, **keywords: Any) -> Any:
        seen.extend(repr(sae.activation) for sae in saes)
        return training(saes, *arguments, **keywords)

    monkeypatch.setattr(memo, "training", counting)
    return seen


def runs(*ks: float, **changes: Any) -> list[Run]:
    return [Run(SAE(8, 6, BatchTopK(k)), TOY, replace(CFG, **changes)) for k in ks]


def saes(runs: list[Run]) -> list[SAE]:
    return [run.sae for run in runs]


def done(*ks: float, **changes: Any) -> list[Run]:
    """Trained in this process, or loaded."""
    made = runs(*ks, **changes)
    train_all(made, workers=1)
    return made


def same(a: SAE, b: SAE) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return a.activation == b.activation and all(torch.equal(x, y) for x, y in pairs)


def moved(sae: SAE) -> SAE:
    """Another starting weight, in the last bit of one number."""
    with torch.no_grad():
        sae.W_dec[0, 0] = torch.nextafter(sae.W_dec[0, 0], torch.tensor(9.0))
    return sae


def held() -> SAE:
    sae = SAE(8, 6, BatchTopK(2))
    sae.W_dec.requires_grad_(False)
    return sae


def start(**keywords: Any) -> SAE:
    return SAE(8, 6, keywords.pop("activation", BatchTopK(2)), **keywords)


class Shifted(SAE):
    """The weights of an SAE, and another encoder."""

    def centred(self, x: Tensor) -> Tensor:
        return super().centred(x) + 1


OTHER: dict[str, Callable[[], Run]] = {
    "a weight": lambda: Run(moved(start()), TOY, CFG),
    "what is trained": lambda: Run(held(), TOY, CFG),
    "the start": lambda: Run(start(seed=1), TOY, CFG),
    "k": lambda: Run(start(activation=BatchTopK(2.5)), TOY, CFG),
    "the activation": lambda: Run(start(activation=TopK(2)), TOY, CFG),
    "the selection": lambda: Run(start(select_by="raw"), TOY, CFG),
    "the centring": lambda: Run(start(subtract_b_dec=False), TOY, CFG),
    "the source": lambda: Run(start(), ToyFeatures(6, 8, 0.4), CFG),
    "the source's seed": lambda: Run(start(), ToyFeatures(6, 8, 0.3, seed=1), CFG),
    "the scale": lambda: Run(start(), Scaled(TOY, 2.0), CFG),
    "the objective": lambda: Run(start(), TOY, CFG, SquaredError()),
    "a coefficient": lambda: Run(start(), TOY, CFG, SquaredError() + L1(0.1)),
    "the control": lambda: Run(start(), TOY, CFG, None, KSchedule(((0, 2.0),))),
    "a trace": lambda: Run(start(), TOY, CFG, None, Trace(4)),
    "a trace of features": lambda: Run(start(), TOY, CFG, None, Trace(4, features=torch.eye(8))),
    "of others": lambda: Run(start(), TOY, CFG, None, Trace(4, features=2 * torch.eye(8))),
    "another class": lambda: Run(Shifted(8, 6, BatchTopK(2)), TOY, CFG),
    **{
        f"{name}={value}": lambda name=name, value=value: Run(  # type: ignore[misc]
            start(), TOY, replace(CFG, **{name: value})
        )
        for name, value in {
            "n_steps": 13,
            "n_batch": 17,
            "lr": 2e-2,
            "seed": 1,
            "betas": (0.8, 0.999),
            "clip": 2.0,
            "lr_warmup": 1,
            "lr_decay": 1,
            "unit_decoder": True,
            "dead_window": 9,
            "log_every": 5,  # the history is part of what is stored
            "eval_every": 5,
            "eval_batches": 5,
        }.items()
    },
}


def test_whatever_moves_a_result_moves_its_key() -> None:
    found = {name: key_of(make()) for name, make in OTHER.items()}
    found["nothing"] = key_of(Run(start(), TOY, CFG))
    assert len(set(found.values())) == len(found)


def test_nothing_else_moves_a_key(tmp_path: Path) -> None:
    expected = key_of(Run(start(), TOY, CFG))
    torch.manual_seed(99)
    assert key_of(Run(start().eval(), ToyFeatures(6, 8, 0.3), replace(CFG))) == expected
    elsewhere = replace(CFG, checkpoint_every=5, checkpoint_dir=tmp_path)
    assert key_of(Run(start(), TOY, elsewhere)) == expected


def test_code_moves_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules that compute count, those of a source inside another and of controls too."""
    steered = Run(start(), Scaled(TOY, 2.0), CFG, control=KSchedule(((0, 2.0),)))
    before, seen = key_of(steered), list[str]()

    def other_code(names: Any) -> str:
        seen.extend(names)
        return "other"

    keys._code.cache_clear()
    monkeypatch.setattr(fingerprint, "modules_hash", other_code)
    after = key_of(steered)
    keys._code.cache_clear()
    assert after != before
    expected = {"sae", "activations", "objectives", "compute.fast", "sources.rows", "sources.toy"}
    expected |= {f"steps.{name}" for name in ("auxk", "gradients", "pairs", "sparse")}
    expected |= {f"training.{name}" for name in ("backward", "control", "state", "step", "trainer")}
    expected.add("metrics")
    assert {f"srclib.{name}" for name in expected} <= set(seen)
    assert not {"srclib.suite.figures", "srclib.suite.ledger", "srclib.suite.cli"} & set(seen)


TERM = """
class Mine:
    name = "mine"

    def __call__(self, sae, x, out, context):
        return out.acts.{how}()

    def __repr__(self):
        return "Mine()"
"""


def test_the_code_of_a_term_of_ones_own_moves_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files with a class of one name and one repr; comments do not count."""
    found = []
    for name, text in {
        "one": TERM.format(how="sum"),
        "two": TERM.format(how="mean"),
        "three": TERM.format(how="sum") + "    # a comment\n",
    }.items():
        (tmp_path / f"{name}_term.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        mine = importlib.import_module(f"{name}_term").Mine()
        found.append(key_of(Run(start(), TOY, CFG, SquaredError() + mine)))
    assert found[0] != found[1] and found[0] == found[2]


HELPED = """
from srclib.training.control import KSchedule

K = {k}


class Mine(KSchedule):
    def k(self, step):
        return helper()


def helper():
    return float(K)
"""


def test_a_whole_foreign_module_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constants and helpers decide as much as the class itself."""
    found = []
    for name, k in (("first", 1), ("second", 2)):
        (tmp_path / f"{name}_steered.py").write_text(HELPED.format(k=k), encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        mine = importlib.import_module(f"{name}_steered").Mine(((0, 1.0),))
        found.append(key_of(Run(start(), TOY, CFG, control=mine)))
    assert found[0] != found[1]


def test_library_versions_move_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(*runs(2))
    monkeypatch.setattr(fingerprint, "versions", lambda *_: {"torch": "99.0"})
    assert key_of(*runs(2)) != before


def test_stored_is_fresh_bit_for_bit(trained: list[str]) -> None:
    """Also what controls ended with, and the history."""

    def make() -> list[Run]:
        own = [start(), start(activation=JumpReLU()), start(activation=ReLU())]
        traces = [Trace(3, (2,), AutoL0(n=2, every=4, window=2)), Trace(5), Trace(12)]
        return [Run(sae, TOY, CFG, control=t) for sae, t in zip(own, traces, strict=True)]

    plain = make()
    expected = train(saes(plain), TOY, CFG, control=[run.control for run in plain])
    for _ in (1, 2):
        new = make()
        train_all(new, workers=1)
        assert len(trained) == 3  # the second time nothing is trained
        for index, (run, other) in enumerate(zip(plain, new, strict=True)):
            assert same(run.sae, other.sae)
            history = [{**row, "sae": index} for row in other.history]
            assert history == [row for row in expected.history if row["sae"] == index]
            assert run.control.state() == other.control.state()  # type: ignore[union-attr]


def test_one_more_run_trains_only_that_one(trained: list[str]) -> None:
    first, second = done(1, 2), done(1, 3, 2)
    assert trained == [f"BatchTopK(k={k})" for k in (1, 2, 3)]
    assert same(first[0].sae, second[0].sae) and same(first[1].sae, second[2].sae)


def test_equal_runs_in_one_call_are_trained_once(trained: list[str]) -> None:
    twins = done(2, 2, 2)
    assert trained == ["BatchTopK(k=2)"]
    assert same(twins[0].sae, twins[1].sae) and not same(twins[2].sae, start())


def test_a_run_is_trained_once_in_whichever_sweep(trained: list[str]) -> None:
    made = done(2)
    train_all([*made, *runs(3)], workers=1)
    assert trained == ["BatchTopK(k=2)", "BatchTopK(k=3)"]


def test_runs_share_batches_where_source_and_configuration_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what a source is, not by which object; another seed or length reads for itself."""
    read: list[tuple[int, int]] = []
    batch = ToyFeatures.batch

    def reading(self: ToyFeatures, step: int, n_batch: int) -> Tensor:
        read.append((step, n_batch))
        return batch(self, step, n_batch)

    monkeypatch.setattr(ToyFeatures, "batch", reading)
    twin = Run(start(activation=BatchTopK(3)), ToyFeatures(6, 8, 0.3), CFG)
    train_all([*runs(1, 2), twin, *runs(2, n_steps=5)], workers=1)
    assert len(read) == 12 + 5


def test_a_run_without_clipping_is_stored(trained: list[str]) -> None:
    """Infinity is no JSON."""
    for _ in range(2):
        done(2, clip=math.inf)
    assert len(trained) == 1


def test_saes_come_back_in_training_mode_as_from_train() -> None:
    for _ in range(2):  # trained, then loaded
        (run,) = runs(2)
        run.sae.eval()
        train_all([run], workers=1)
        assert run.sae.training


def test_how_the_work_is_cut_changes_nothing(cache: Path) -> None:
    """Chunks of another size, as for another number of cores, in this process."""
    found = []
    for workers in (1, 2, 3):
        shutil.rmtree(cache, ignore_errors=True)
        found.append(runs(1, 1.5, 2, 2.5, 3, 4))
        train_all(found[-1], workers=workers)  # too little work for a process of its own
    for other in found[1:]:
        assert all(same(a, b) for a, b in zip(saes(found[0]), saes(other), strict=True))


def test_errors_are_those_of_train_and_store_nothing(cache: Path) -> None:
    with pytest.raises(SuiteError, match="192 inputs are asked for, Rows has 20"):
        train_all([Run(start(), Rows(torch.randn(20, 8), repeat=False), CFG)], workers=1)
    assert not list(cache.rglob("sae.json"))


class Killed(ToyFeatures):
    """Ends the run when the batch of one step is read."""

    def batch(self, step: int, n_batch: int) -> Tensor:
        if step == 1005:
            raise KeyboardInterrupt
        return super().batch(step, n_batch)


def test_a_killed_run_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """1,010 steps, a checkpoint every 1,000: killed when step 1,005 starts, resumed at 1,000."""
    long = {"n_steps": 1010, "n_batch": 4, "log_every": 400}
    expected = train(start(), TOY, replace(CFG, **long))  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(TOY, "__class__", Killed)
        patch.setattr(Killed, "__module__", ToyFeatures.__module__)
        with pytest.raises(KeyboardInterrupt):
            done(2, **long)
    assert [p.name for p in cache.rglob("step-*")] == ["step-000001000"]
    steps = []

    def reading(self: ToyFeatures, step: int, n_batch: int) -> Tensor:
        steps.append(step)
        return self.codes(step, n_batch) @ self.features

    with monkeypatch.context() as patch:
        patch.setattr(ToyFeatures, "batch", reading)
        (result,) = done(2, **long)
    assert steps == list(range(1000, 1010))
    assert same(expected.sae, result.sae)  # type: ignore[arg-type]
    assert [{**row, "sae": 0} for row in result.history] == expected.history
    assert not list(cache.rglob("*.partial")) and not list(cache.rglob("*.lock"))


def test_one_run_is_not_trained_twice_at_a_time(cache: Path) -> None:
    new = runs(2)
    name = files.sha256(key_of(*new))
    with (
        locks.lock(cache / name[:2] / f"{name}.lock", "it"),
        pytest.raises(SuiteError, match="this training run is in use by another process"),
    ):
        train_all(new, workers=1)


def test_an_altered_store_is_never_believed(cache: Path) -> None:
    done(2)
    (file,) = cache.rglob("sae.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="altered since it was written"):
        done(2)


def test_a_forced_run_trusts_nothing_stored(
    monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    done(2)
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    done(2)
    assert len(trained) == 2


def test_a_forced_run_trusts_no_checkpoint(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    new, steps = runs(2, n_steps=1010), list[int]()
    name = files.sha256(key_of(*new))
    left = cache / name[:2] / f"{name}.partial"
    cfg = replace(new[0].config, checkpoint_every=1000, checkpoint_dir=left)
    train(start(), TOY, cfg)
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    read = ToyFeatures.batch

    def reading(self: ToyFeatures, step: int, n_batch: int) -> Tensor:
        steps.append(step)
        return read(self, step, n_batch)

    monkeypatch.setattr(ToyFeatures, "batch", reading)
    train_all(new, workers=1)
    assert steps == list(range(1010))


class Broken:
    """A pool whose worker was killed."""

    def map(self, *arguments: Any) -> Iterator[None]:
        raise BrokenProcessPool
        yield


def test_a_killed_worker_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next call starts a pool of its own."""
    started: list[Broken] = []

    def start_pool(workers: int) -> Broken:
        started.append(Broken())
        return started[-1]

    monkeypatch.setattr(memo, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(engine, "_pool", functools.cache(start_pool))
    for n in (1, 2):
        with pytest.raises(SuiteError, match=r"a training process died.*workers=1 where memory"):
            train_all(runs(1, 2, 3, 4), workers=2)
        assert len(started) == n


POOL = """
import sys
from pathlib import Path
from srclib.store import checkpoint, files, fingerprint
from srclib.engines import engine
from srclib.runs import keys, memo
from srclib.activations import BatchTopK
from srclib.sae import SAE
from srclib.sources.toy import ToyFeatures
from srclib.runs.run import Run
from srclib.training.trainer import TrainConfig

if __name__ == "__main__":
    assert files.root() == Path(sys.argv[1]), "the copy is used, not the checkout"
    memo.WORTH_A_PROCESS = 0
    cfg = TrainConfig(n_steps=12, n_batch=16, lr=1e-2, log_every=4)
    toy = ToyFeatures(6, 8, 0.3)
    memo.train_all([Run(SAE(8, 6, BatchTopK(k)), toy, cfg) for k in (1, 1.5, 2, 3)], workers=2)
    assert engine._pool.cache_info().currsize == 1, "processes were used"
"""


def test_two_workers_give_the_bytes_of_one(tmp_path: Path) -> None:
    """In a copy of srclib, whose store is another: workers find theirs by the place of the code."""
    checkout = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(files.root() / "srclib", checkout / "srclib", ignore=ignored)
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    subprocess.run(
        [sys.executable, str(tmp_path / "pool.py"), str(checkout)],
        env={**os.environ, "PYTHONPATH": str(checkout), "SRCLIB_BUILD": str(checkout / "build")},
        check=True,
        timeout=300,
    )
    expected = saes(runs(1, 1.5, 2, 3))
    train(expected, TOY, CFG)
    names = map(key_of, runs(1, 1.5, 2, 3))
    for name, sae in zip(names, expected, strict=True):
        folder = checkout / "build" / "cache" / name[:2] / name
        tensors, _ = checkpoint.read_tensors(folder, "sae")
        assert all(torch.equal(tensors[key], value) for key, value in sae.state_dict().items())
        history = json.loads((folder / "sae.json").read_text(encoding="utf-8"))["history"]
        assert [record["step"] for record in history] == [4, 8, 12]


def test_a_pool_that_broke_while_it_was_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then `map` itself raises; the pool must not stay cached."""

    class Broken:
        def map(self, *_: Any) -> None:
            raise BrokenProcessPool

    made: list[int] = []

    def pool(workers: int) -> Broken:
        made.append(workers)
        return Broken()

    monkeypatch.setattr(memo, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(engine, "_pool", functools.cache(pool))
    for attempt in (1, 2):
        with pytest.raises(SuiteError, match="a training process died"):
            train_all(runs(1, 2, 3, 4), workers=2)
        assert len(made) == attempt


def test_one_control_for_several_runs_is_refused_whatever_is_stored(cache: Path) -> None:
    def make(*ks: int) -> list[Run]:
        control = AutoL0(n=2, every=4, window=2)
        return [Run(SAE(8, 6, BatchTopK(k)), TOY, CFG, control=control) for k in ks]

    train_all(make(3), workers=1)
    with pytest.raises(ParameterError, match="Make one control per SAE"):
        train_all(make(3, 4), workers=1)


def test_a_term_without_a_source_file_has_no_key() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("class Mine(tuple):\n    name = 'mine'\n    def __call__(self, *_): pass", names)
    objective = SquaredError() + names["Mine"]()
    with pytest.raises(SuiteError, match="Mine has no source file"):
        key_of(Run(SAE(8, 6, TopK(2)), TOY, CFG, objective))
