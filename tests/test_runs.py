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

from srclib import engine, files, fingerprint, runs
from srclib.activations import BatchTopK, JumpReLU, ReLU, TopK
from srclib.control import AutoL0, KSchedule, Trace
from srclib.errors import CheckpointError, ParameterError, SuiteError
from srclib.objectives import L1, SquaredError
from srclib.runs import Job, keys, train_all
from srclib.sae import SAE
from srclib.sources.tensor import Rows, Scaled
from srclib.sources.toy import ToyFeatures
from srclib.trainer import TrainConfig, train

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
        return train(saes, *arguments, **keywords)

    monkeypatch.setattr(runs, "train", counting)
    return seen


def job(*ks: float, **changes: Any) -> Job:
    return Job([SAE(8, 6, BatchTopK(k)) for k in ks], TOY, replace(CFG, **changes))


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


OTHER: dict[str, Callable[[], Job]] = {
    "a weight": lambda: Job([moved(start())], TOY, CFG),
    "what is trained": lambda: Job([held()], TOY, CFG),
    "the start": lambda: Job([start(seed=1)], TOY, CFG),
    "k": lambda: Job([start(activation=BatchTopK(2.5))], TOY, CFG),
    "the activation": lambda: Job([start(activation=TopK(2))], TOY, CFG),
    "the selection": lambda: Job([start(select_by="raw")], TOY, CFG),
    "the centring": lambda: Job([start(subtract_b_dec=False)], TOY, CFG),
    "the source": lambda: Job([start()], ToyFeatures(6, 8, 0.4), CFG),
    "the source's seed": lambda: Job([start()], ToyFeatures(6, 8, 0.3, seed=1), CFG),
    "the scale": lambda: Job([start()], Scaled(TOY, 2.0), CFG),
    "the objective": lambda: Job([start()], TOY, CFG, SquaredError()),
    "a coefficient": lambda: Job([start()], TOY, CFG, SquaredError() + L1(0.1)),
    "the control": lambda: Job([start()], TOY, CFG, None, KSchedule(((0, 2.0),))),
    "a trace": lambda: Job([start()], TOY, CFG, None, Trace(4)),
    "a trace of features": lambda: Job([start()], TOY, CFG, None, Trace(4, features=torch.eye(8))),
    "of others": lambda: Job([start()], TOY, CFG, None, Trace(4, features=2 * torch.eye(8))),
    "another class": lambda: Job([Shifted(8, 6, BatchTopK(2))], TOY, CFG),
    **{
        f"{name}={value}": lambda name=name, value=value: Job(  # type: ignore[misc]
            [start()], TOY, replace(CFG, **{name: value})
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
    found = {name: keys(make())[0] for name, make in OTHER.items()}
    found["nothing"] = keys(Job([start()], TOY, CFG))[0]
    assert len(set(found.values())) == len(found)


def test_nothing_else_moves_a_key(tmp_path: Path) -> None:
    expected = keys(Job([start()], TOY, CFG))
    torch.manual_seed(99)
    assert keys(Job([start().eval()], ToyFeatures(6, 8, 0.3), replace(CFG))) == expected
    elsewhere = replace(CFG, checkpoint_every=5, checkpoint_dir=tmp_path)
    assert keys(Job([start()], TOY, elsewhere)) == expected
    assert keys(Job([start(seed=1), start()], TOY, CFG))[1:] == expected  # the company


def test_code_moves_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules that compute count, those of a source inside another and of controls too."""
    steered = Job([start()], Scaled(TOY, 2.0), CFG, control=KSchedule(((0, 2.0),)))
    before, seen = keys(steered), list[str]()

    def other_code(names: Any) -> str:
        seen.extend(names)
        return "other"

    runs._code.cache_clear()
    monkeypatch.setattr(fingerprint, "modules_hash", other_code)
    after = keys(steered)
    runs._code.cache_clear()
    assert after != before
    computing = ("sae", "activations", "kernels", "gradients", "objectives", "state", "trainer")
    expected = {*computing, "sources.tensor", "sources.toy", "control", "metrics"}
    assert {f"srclib.{name}" for name in expected} <= set(seen)
    assert not {"srclib.suite.figures", "srclib.suite.claims", "srclib.suite.cli"} & set(seen)


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
        found += keys(Job([start()], TOY, CFG, SquaredError() + mine))
    assert found[0] != found[1] and found[0] == found[2]


def test_library_versions_move_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(job(1, 2))
    monkeypatch.setattr(fingerprint, "versions", lambda *_: {"torch": "99.0"})
    assert not set(keys(job(1, 2))) & set(before)


def test_stored_is_fresh_bit_for_bit(trained: list[str]) -> None:
    """Also what controls ended with, and the history."""

    def make() -> Job:
        saes = [start(), start(activation=JumpReLU()), start(activation=ReLU())]
        traces = [Trace(3, (2,), AutoL0(n=2, every=4, window=2)), Trace(5), Trace(12)]
        return Job(saes, TOY, CFG, control=traces)

    plain = make()
    expected = train(plain.saes, TOY, CFG, control=plain.control)
    for times in (1, 2):
        new = make()
        (result,) = train_all([new], workers=1)
        assert len(trained) == 3  # the second time nothing is trained
        assert result.sae is new.saes, times
        assert all(same(a, b) for a, b in zip(plain.saes, new.saes, strict=True))
        assert result.history == expected.history
        assert [c.state() for c in new.control] == [c.state() for c in plain.control]  # type: ignore[union-attr]


def test_one_more_run_trains_only_that_one(trained: list[str]) -> None:
    first = train_all([job(1), job(2)], workers=1)
    second = train_all([job(1), job(3), job(2)], workers=1)
    assert trained == [f"BatchTopK(k={k})" for k in (1, 2, 3)]
    assert same(first[0].sae[0], second[0].sae[0])  # type: ignore[index]
    assert same(first[1].sae[0], second[2].sae[0])  # type: ignore[index]


def test_one_more_sae_in_a_list_trains_only_that_one(trained: list[str]) -> None:
    train_all([job(1, 2)], workers=1)
    train_all([job(1, 2, 3)], workers=1)
    assert trained == [f"BatchTopK(k={k})" for k in (1, 2, 3)]


def test_equal_runs_in_one_call_are_trained_once(trained: list[str]) -> None:
    """Twice in a list and once more in another job."""
    twins, third = train_all([job(2, 2), job(2)], workers=1)
    assert trained == ["BatchTopK(k=2)"]
    assert same(twins.sae[0], twins.sae[1]) and same(twins.sae[0], third.sae[0])  # type: ignore[index]
    assert not same(third.sae[0], start())  # type: ignore[index]


def test_a_run_without_clipping_is_stored(trained: list[str]) -> None:
    """Infinity is no JSON."""
    for _ in range(2):
        train_all([job(2, clip=math.inf)], workers=1)
    assert len(trained) == 1


def test_saes_come_back_in_training_mode_as_from_train() -> None:
    for _ in range(2):  # trained, then loaded
        new = job(2)
        new.saes[0].eval()
        train_all([new], workers=1)
        assert new.saes[0].training


def test_results_come_in_the_order_of_the_jobs() -> None:
    results = train_all([job(3, 1), job(2, n_steps=5)], workers=1)
    ks = [[sae.activation.k for sae in result.sae] for result in results]  # type: ignore[union-attr]
    assert ks == [[3, 1], [2]]
    assert [record["step"] for record in results[1].history] == [4, 5]
    assert {record["sae"] for record in results[0].history} == {0, 1}


def test_how_the_work_is_cut_changes_nothing(cache: Path) -> None:
    """Chunks of another size, as for another number of cores, in this process."""
    found = []
    for workers in (1, 2, 3):
        shutil.rmtree(cache, ignore_errors=True)
        found.append(job(1, 1.5, 2, 2.5, 3, 4))
        train_all([found[-1]], workers=workers)  # too little work for a process of its own
    for other in found[1:]:
        assert all(same(a, b) for a, b in zip(found[0].saes, other.saes, strict=True))


def test_errors_are_those_of_train_and_store_nothing(cache: Path) -> None:
    with pytest.raises(SuiteError, match="192 inputs are asked for, Rows has 20"):
        train_all([Job([start()], Rows(torch.randn(20, 8), repeat=False), CFG)], workers=1)
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
    expected = train(job(2).saes[0], TOY, replace(CFG, **long))  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(TOY, "__class__", Killed)
        patch.setattr(Killed, "__module__", ToyFeatures.__module__)
        with pytest.raises(KeyboardInterrupt):
            train_all([job(2, **long)], workers=1)
    assert [p.name for p in cache.rglob("step-*")] == ["step-000001000"]
    steps = []

    def reading(self: ToyFeatures, step: int, n_batch: int) -> Tensor:
        steps.append(step)
        return self.codes(step, n_batch) @ self.features

    with monkeypatch.context() as patch:
        patch.setattr(ToyFeatures, "batch", reading)
        (result,) = train_all([job(2, **long)], workers=1)
    assert steps == list(range(1000, 1010))
    assert same(expected.sae, result.sae[0])  # type: ignore[arg-type, index]
    assert result.history == expected.history
    assert not list(cache.rglob("*.partial")) and not list(cache.rglob("*.lock"))


def test_one_run_is_not_trained_twice_at_a_time(cache: Path) -> None:
    new = job(2)
    name = files.sha256("".join(keys(new)))
    with (
        files.lock(cache / name[:2] / f"{name}.lock", "it"),
        pytest.raises(SuiteError, match="this training run is in use by another process"),
    ):
        train_all([new], workers=1)


def test_an_altered_store_is_never_believed(cache: Path) -> None:
    train_all([job(2)], workers=1)
    (file,) = cache.rglob("sae.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="altered since it was written"):
        train_all([job(2)], workers=1)


def test_a_forced_run_trusts_nothing_stored(
    monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    train_all([job(2)], workers=1)
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    train_all([job(2)], workers=1)
    assert len(trained) == 2


def test_a_forced_run_trusts_no_checkpoint(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    new, steps = job(2, n_steps=1010), []
    name = files.sha256("".join(keys(new)))
    left = cache / name[:2] / f"{name}.partial"
    cfg = replace(new.cfg, checkpoint_every=1000, checkpoint_dir=left)
    train(job(2).saes, TOY, cfg)
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    read = ToyFeatures.batch

    def reading(self: ToyFeatures, step: int, n_batch: int) -> Tensor:
        steps.append(step)
        return read(self, step, n_batch)

    monkeypatch.setattr(ToyFeatures, "batch", reading)
    train_all([new], workers=1)
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

    monkeypatch.setattr(runs, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(engine, "_pool", functools.cache(start_pool))
    for n in (1, 2):
        with pytest.raises(SuiteError, match=r"a training process died.*workers=1 where memory"):
            train_all([job(1, 2, 3, 4)], workers=2)
        assert len(started) == n


POOL = """
import sys
from pathlib import Path
from srclib import engine, files, runs
from srclib.activations import BatchTopK
from srclib.sae import SAE
from srclib.sources.toy import ToyFeatures
from srclib.trainer import TrainConfig

if __name__ == "__main__":
    assert files.root() == Path(sys.argv[1]), "the copy is used, not the checkout"
    runs.WORTH_A_PROCESS = 0
    saes = [SAE(8, 6, BatchTopK(k)) for k in (1, 1.5, 2, 3)]
    cfg = TrainConfig(n_steps=12, n_batch=16, lr=1e-2, log_every=4)
    runs.train_all([runs.Job(saes, ToyFeatures(6, 8, 0.3), cfg)], workers=2)
    assert engine._pool.cache_info().currsize == 1, "processes were used"
"""


def test_two_workers_give_the_bytes_of_one(tmp_path: Path) -> None:
    """In a copy of srclib, whose store is another: workers find theirs by the place of the code."""
    checkout = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(runs.__file__).parent, checkout / "srclib", ignore=ignored)
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    subprocess.run(
        [sys.executable, str(tmp_path / "pool.py"), str(checkout)],
        env={**os.environ, "PYTHONPATH": str(checkout), "SRCLIB_BUILD": str(checkout / "build")},
        check=True,
        timeout=300,
    )
    expected = job(1, 1.5, 2, 3)
    train(expected.saes, TOY, CFG)
    names = keys(job(1, 1.5, 2, 3))
    for name, sae in zip(names, expected.saes, strict=True):
        folder = checkout / "build" / "cache" / name[:2] / name
        tensors, _ = runs.checkpoint.read_tensors(folder, "sae")
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

    monkeypatch.setattr(runs, "WORTH_A_PROCESS", 0)
    monkeypatch.setattr(engine, "_pool", functools.cache(pool))
    for attempt in (1, 2):
        with pytest.raises(SuiteError, match="a training process died"):
            train_all([Job([SAE(8, 6, BatchTopK(k)) for k in (1, 2, 3, 4)], TOY, CFG)], workers=2)
        assert len(made) == attempt


def test_one_control_for_several_saes_is_refused_whatever_is_stored(cache: Path) -> None:
    def job(*ks: int) -> Job:
        control = AutoL0(n=2, every=4, window=2)
        return Job([SAE(8, 6, BatchTopK(k)) for k in ks], TOY, CFG, control=control)

    train_all([job(3)], workers=1)
    with pytest.raises(ParameterError, match="one control per SAE"):
        train_all([job(3, 4)], workers=1)


def test_a_term_without_a_source_file_has_no_key() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("class Mine:\n    name = 'mine'\n    def __call__(self, *_): pass", names)
    objective = SquaredError() + names["Mine"]()
    with pytest.raises(SuiteError, match="Mine has no source file"):
        keys(Job([SAE(8, 6, TopK(2))], TOY, CFG, objective))
