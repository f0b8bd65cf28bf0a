"""Engines: the bytes of the local one wherever tasks run, and nothing finished is lost."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lm import ids, tiny_lm

from srclib import SAE, BatchTopK, Run, TrainConfig, sweep
from srclib.compute.place import place
from srclib.engines import engine
from srclib.errors import ParameterError, SuiteError
from srclib.lm.streamed import Blocks
from srclib.sources import ToyFeatures
from srclib.store import files
from srclib.training.control import KSchedule

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
TOY = ToyFeatures(12, 16, 0.2)
CFG = TrainConfig(n_steps=40, n_batch=32, lr=1e-3, log_every=20)


def runs() -> dict[int, Run]:
    return {s: Run(SAE(16, 12, BatchTopK(2), seed=s), TOY, CFG) for s in range(3)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two workers with a store of their own: no common disk."""
    apart = tmp_path_factory.mktemp("worker")
    before = os.environ.get("SRCLIB_BUILD")
    os.environ["SRCLIB_BUILD"] = str(apart)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, [files.root(), *os.sys.path]))  # type: ignore[attr-defined]
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(processes=True, **options) as made:
        if before is None:
            del os.environ["SRCLIB_BUILD"]
        else:
            os.environ["SRCLIB_BUILD"] = before
        yield made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    return tmp_path


def test_a_cluster_gives_the_bytes_of_this_machine(
    here: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = sweep(runs(), "seed", workers=1)
    monkeypatch.setenv("SRCLIB_BUILD", str(here / "other"))
    monkeypatch.setenv("SRCLIB_ENGINE", f"dask:{cluster.scheduler_address}")
    spread = sweep(runs(), "seed")
    for s, run in spread.items():
        assert torch.equal(run.sae.W_dec, alone[s].sae.W_dec)
        assert run.history == alone[s].history
        assert (files.place(run.key) / "sae.json").is_file()  # came back as bytes
    assert not list((here / "other").glob(".engine-*"))


def test_wrong_addresses_and_engines_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_ENGINE", "dask:tcp://127.0.0.1:9")
    with pytest.raises(SuiteError, match="no scheduler answers"):
        sweep(runs(), "seed")
    monkeypatch.setenv("SRCLIB_ENGINE", "ray")
    with pytest.raises(ParameterError, match="local:N or dask:ADDRESS"):
        list(engine.compute(print, [1], [[]], 2))


@pytest.mark.parametrize("number", ["²", "-1", "2.5", "0"])
def test_a_number_of_workers_is_a_number(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_ENGINE", f"local:{number}")
    with pytest.raises(ParameterError, match="engine"):
        engine.chosen()


def test_a_scheduler_without_workers_is_told_and_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did: list[Any] = []

    class Client:
        def scheduler_info(self, n_workers: int) -> dict[str, Any]:
            return {"workers": {}}

        def wait_for_workers(self, n: int) -> None:
            did.append(n)

        def close(self, timeout: int) -> None:
            did.append("closed")

    monkeypatch.setattr(engine, "_client", lambda address: Client())
    engine.ready(did.append)
    assert did == [], "the local engine has nobody to wait for"
    monkeypatch.setenv("SRCLIB_ENGINE", "dask:tcp://here:8786")
    engine.ready(did.append)
    assert did[0].endswith("`dask worker tcp://here:8786` starts one") and did[1:] == [1, "closed"]


def test_a_failure_of_a_task_or_of_the_disk_is_no_lost_cluster(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: Any) -> None:
        raise RuntimeError("can't allocate memory")

    there = place().identity
    with pytest.raises(SuiteError, match=r"a worker failed .can't allocate.*lower n_batch"):
        engine._remote(fails, "token", {}, engine._code(), there, None, [])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "unpack", full)
    with pytest.raises(SuiteError, match=f"{here}: No space left on device"):
        engine._keep(b"", "ab" * 32)


def test_workers_with_other_code_are_refused(
    here: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_code", lambda: "other")
    monkeypatch.setenv("SRCLIB_ENGINE", f"dask:{cluster.scheduler_address}")
    with pytest.raises(SuiteError, match="another version of srclib"):
        sweep(runs(), "seed")


def test_a_worker_in_another_place_is_refused(here: Path) -> None:
    there = {"device": "cuda", "dtype": "bfloat16", "matmul": "highest"}
    with pytest.raises(SuiteError, match=r"computes on \{'device': 'cpu'.*this process on"):
        engine._remote(print, "token", {}, engine._code(), there, 1, [])


def test_a_task_carries_a_reference_and_not_a_model(here: Path) -> None:
    blocks = Blocks(tiny_lm("gemma2"), ids(0, 12, 8), block_rows=4, held_out=3)
    source = blocks.at(0)
    sent = pickle.dumps(source)
    assert len(sent) < 20_000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        found = pickle.loads(sent)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert found.identity == source.identity
    assert torch.equal(found.batch(3, 16), source.batch(3, 16))


def test_a_worker_with_other_weights_is_refused(here: Path) -> None:
    model = tiny_lm("gemma2")
    sent = pickle.dumps(Blocks(model, ids(0, 12, 8), block_rows=4).at(0))
    for file in here.rglob("model.safetensors"):
        from safetensors.torch import load_file, save_file

        save_file({name: each + 1 for name, each in load_file(file).items()}, file,
                  metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(SuiteError, match=r"other weights|altered since it was written"):
        pickle.loads(sent)


@dataclass(frozen=True)
class Deadly(KSchedule):
    """Kills the process that trains, once."""

    mark: str = ""

    def before_step(self, step: int, sae: SAE, x: torch.Tensor) -> None:
        super().before_step(step, sae, x)
        if step == 20 and not Path(self.mark).exists():
            Path(self.mark).touch()
            os._exit(9)


@pytest.mark.long
def test_a_worker_killed_in_the_middle_is_replaced(
    here: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Deadly(((0, 2.0),), str(here / "killed"))
    monkeypatch.setenv("SRCLIB_ENGINE", f"dask:{cluster.scheduler_address}")
    run = Run(SAE(16, 12, BatchTopK(2)), TOY, CFG, control=control)
    sweep({0: run}, "seed")
    monkeypatch.delenv("SRCLIB_ENGINE")
    alone = Run(SAE(16, 12, BatchTopK(2)), TOY, CFG, control=KSchedule(((0, 2.0),)))
    sweep({0: alone}, "seed", workers=1)
    assert (here / "killed").exists()
    assert torch.equal(run.sae.W_dec, alone.sae.W_dec)
