"""Several ranks are one: data parallel to rounding, SAE parallel to the byte."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing import start_processes

from srclib import SAE, BatchTopK, JumpReLU, ReLU, Run, TopK, TrainConfig, sweep, train
from srclib.compute import parallel
from srclib.errors import ParameterError
from srclib.objectives import L1, L0Target, SquaredError
from srclib.sources import ToyFeatures

TOY = ToyFeatures(12, 16, 0.2)
ARMS: dict[str, tuple[Any, Any]] = {
    "ReLU": (ReLU(), SquaredError() + L1(0.05)),
    "TopK": (TopK(2), None),
    "BatchTopK": (BatchTopK(2), None),
    "JumpReLU": (JumpReLU(threshold=0.05, bandwidth=0.5), SquaredError() + L0Target(2.0)),
}


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Forks the ranks: it has imported this file, so that not each of them loads torch anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()
    yield
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def trained(n_steps: int) -> dict[str, torch.Tensor]:
    found = {}
    for name, (activation, objective) in ARMS.items():
        cfg = TrainConfig(n_steps, 48, 1e-3, dead_window=10, log_every=0)
        sae = SAE(16, 14, activation, seed=1)
        train(sae, TOY, cfg, objective=objective)
        found |= {f"{name}.{part}": each.detach() for part, each in sae.state_dict().items()}
    return found


def runs() -> dict[int, Run]:
    """Of unequal lengths, so that each is a task of its own."""
    cfgs = {s: TrainConfig(30 + s, 16, 1e-3) for s in range(5)}
    return {s: Run(SAE(16, 12, TopK(2), seed=s), TOY, cfg) for s, cfg in cfgs.items()}


def test_ranks_of_unequal_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "size", lambda: 3)
    with pytest.raises(ParameterError, match=r"n_batch=16: allowed is a multiple of 3 ranks"):
        train(SAE(16, 12, ReLU()), TOY, TrainConfig(2, 16, 1e-3))


def rank_of(rank: int, ranks: int, port: int, folder: str, job: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ["SRCLIB_BUILD"] = f"{folder}/store"
    torch.set_num_threads(1)
    if job in ("sweep", "late"):
        parallel.start()
        for _ in range(100 if job == "late" and rank else 0):  # until the other one is ahead
            if not any(Path(folder).glob("store/cache/*/*/sae.json")):
                time.sleep(0.1)
        made = sweep(runs(), "seed", workers=1)
        found = {str(s): run.sae.W_dec.detach() for s, run in made.items()}
    else:
        found = trained(int(job))
    torch.save(found, f"{folder}/{rank}.pt")


def spread(ranks: int, folder: Path, job: str) -> list[dict[str, torch.Tensor]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (ranks, port, str(folder), job)
    start_processes(rank_of, given, nprocs=ranks, start_method="forkserver")
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in range(ranks)]


@pytest.mark.parametrize(("ranks", "n_steps", "atol"), [(2, 1, 1e-6), (3, 40, 1e-4)])
def test_data_parallel_is_one_process_on_the_joined_batch(
    ranks: int, n_steps: int, atol: float, tmp_path: Path
) -> None:
    alone = trained(n_steps)
    for found in spread(ranks, tmp_path, str(n_steps)):
        for name, tensor in alone.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("job", ["sweep", "late"])
def test_sae_parallel_is_training_alone(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "alone"))
    alone = sweep(runs(), "seed", workers=1)
    for found in spread(2, tmp_path, job):
        assert all(torch.equal(found[str(s)], run.sae.W_dec) for s, run in alone.items())
