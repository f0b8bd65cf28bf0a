"""SIGKILL at any moment: what was finished stays, what goes on ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from srclib import checkpoint, runs
from srclib.activations import BatchTopK, TopK
from srclib.control import AutoL0
from srclib.sae import SAE
from srclib.sources.toy import ToyFeatures
from srclib.train import TrainConfig, TrainResult, train

pytestmark = pytest.mark.faults
ROUNDS = int(os.environ.get("SUITE_FAULT_ROUNDS", "10"))


def run(folder: Path, resume: bool) -> TrainResult:
    """A run that mostly writes checkpoints: 60 steps, one every second step."""
    saes = [SAE(8, 6, BatchTopK(3)), SAE(8, 6, TopK(2))]
    cfg = TrainConfig(
        n_steps=60,
        n_batch=16,
        lr=1e-2,
        log_every=5,
        checkpoint_every=2,
        checkpoint_dir=folder,
    )
    control = [AutoL0(n=3, every=7, window=3), AutoL0(n=2, every=9, window=2)]
    control[1].before_step = lambda step, sae, x: None  # type: ignore[method-assign]  # TopK's k stays
    resume_from = folder if resume else None
    return train(saes, ToyFeatures(6, 8, 0.3), cfg, control=control, resume_from=resume_from)


def child(folder: Path, resume: bool, die_at: int | None) -> None:
    """`run` with one thread; SIGKILL itself just before its `die_at`-th change of the disk."""
    torch.set_num_threads(1)
    if die_at is not None:
        changes = 0

        def before(function: Any) -> Any:
            def counting(*arguments: Any, **keywords: Any) -> Any:
                nonlocal changes
                changes += 1
                if changes == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **keywords)

            return counting

        for name in ("replace", "fsync", "unlink", "rmdir", "chmod"):
            setattr(os, name, before(getattr(os, name)))
    run(folder, resume)


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """A server that has torch loaded and forks a child in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["srclib.train", "srclib.control", "srclib.sources.toy"])
    return context


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(tmp_path_factory.mktemp("undisturbed"), resume=False)
    finally:
        torch.set_num_threads(threads)


def has_checkpoint(folder: Path) -> bool:
    """Whether one is complete; then the newest must also load."""
    if not any(folder.glob("step-*/state.json")):
        return False
    checkpoint.read_tensors(checkpoint.latest(folder), "state")
    return True


def assert_same_end(folder: Path, expected: TrainResult) -> None:
    """The last checkpoint holds the bytes and the history of the undisturbed run."""
    tensors, meta = checkpoint.read_tensors(checkpoint.latest(folder), "state")
    assert meta["step"] == 60 and meta["history"] == expected.history
    assert isinstance(expected.sae, list)
    for index, sae in enumerate(expected.sae):
        assert meta["members"][index]["sae"] == checkpoint.describe(sae)
        for name, tensor in sae.state_dict().items():
            assert torch.equal(tensors[f"{index}.{name}"], tensor), (index, name)


def begin(
    processes: ForkServerContext, folder: Path, die_at: int | None = None
) -> ForkServerProcess:
    process = processes.Process(target=child, args=(folder, has_checkpoint(folder), die_at))
    process.start()
    return process


def finish(processes: ForkServerContext, folder: Path, expected: TrainResult) -> None:
    process = begin(processes, folder)
    process.join(120)
    assert process.exitcode == 0
    assert_same_end(folder, expected)


def test_killed_at_random_moments_and_resumed(
    processes: ForkServerContext, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """Each round kills one run again and again, until it gets through."""
    kills = 0
    for round_ in range(ROUNDS):
        delay, folder = random.Random(round_), tmp_path / str(round_)
        for _ in range(4):
            process = begin(processes, folder)
            process.join(delay.uniform(0.0, 0.4))
            process.kill()
            process.join(60)
            kills += process.exitcode == -signal.SIGKILL
        finish(processes, folder, undisturbed)
    assert kills > ROUNDS  # the test has teeth: most rounds were killed more than once


def test_killed_before_any_change_of_the_disk(
    processes: ForkServerContext, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """No luck needed: die before the n-th rename, sync or removal, for every n of three writes."""
    for n in range(1, min(10 + ROUNDS, 60)):
        folder = tmp_path / str(n)
        process = begin(processes, folder, die_at=n)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        has_checkpoint(folder)
        if n % 5 == 0 or ROUNDS > 10:
            finish(processes, folder, undisturbed)


def test_a_resumed_run_is_killed_before_any_change_of_the_disk(
    processes: ForkServerContext, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """The same in one folder: every resumption dies a little later than the one before."""
    for n in range(1, 8 + ROUNDS):
        before = checkpoint.latest(tmp_path).name if has_checkpoint(tmp_path) else ""
        process = begin(processes, tmp_path, die_at=n)
        process.join(60)
        assert process.exitcode in (-signal.SIGKILL, 0)
        if before:  # nothing finished is lost
            assert checkpoint.latest(tmp_path).name >= before
    finish(processes, tmp_path, undisturbed)


POOL = """
from srclib import runs
from srclib.activations import BatchTopK
from srclib.sae import SAE
from srclib.sources.toy import ToyFeatures
from srclib.train import TrainConfig

if __name__ == "__main__":
    runs.WORTH_A_PROCESS = 0
    saes = [SAE(8, 6, BatchTopK(k)) for k in (1, 1.5, 2, 3)]
    cfg = TrainConfig(n_steps=10**8, n_batch=16, lr=1e-2)
    runs.train_all([runs.Job(saes, ToyFeatures(6, 8, 0.3), cfg)], workers=2)
"""


def alive(pids: list[int]) -> list[int]:
    """Those that run; a zombie that nobody has waited for does not."""
    found = []
    for pid in pids:
        done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
        if done.stdout.strip() and not done.stdout.strip().startswith("Z"):
            found.append(pid)
    return found


def children(pid: int) -> list[int]:
    """Process ids below `pid`, however deep."""
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    parent = {int(a): int(b) for a, b in (line.split() for line in done.stdout.splitlines())}
    found, waiting = [], [pid]
    while waiting:
        waiting = [child for child, above in parent.items() if above in waiting]
        found += waiting
    return found


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """A copy of srclib, so that the store is the copy's: two workers train for ever."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(runs.__file__).parent, tmp_path / "srclib", ignore=ignored)
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "pool.py")], env=environment)
    try:
        deadline = time.monotonic() + 240  # two workers hold the locks of their runs: they train
        while len(list(tmp_path.rglob("*.lock"))) < 2:
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        below = children(parent.pid)
        assert len(below) >= 2
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while alive(below) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(below)
