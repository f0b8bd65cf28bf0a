"""SIGKILL at any moment: what was finished stays, what goes on ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
import torch
from counting import tally
from small_run import N_STEPS, run, run_or_die

from srclib.store import checkpoint, files
from srclib.training import state
from srclib.training.trainer import TrainResult

pytestmark = pytest.mark.faults
ROUNDS = int(os.environ.get("SUITE_FAULT_ROUNDS", "10"))


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """A server that has torch loaded and warm, and forks a child in a fraction of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "warm_up"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        multiprocessing.forkserver.ensure_running()
    yield context
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


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
    checkpoint.read_tensors(state.latest(folder), "state")
    return True


def assert_same_end(folder: Path, expected: TrainResult) -> None:
    """The last checkpoint holds the bytes and the history of the undisturbed run."""
    tensors, meta = checkpoint.read_tensors(state.latest(folder), "state")
    assert meta["step"] == N_STEPS and meta["history"] == expected.history
    assert isinstance(expected.sae, list)
    for index, sae in enumerate(expected.sae):
        assert meta["members"][index]["sae"] == checkpoint.describe(sae)
        for name, tensor in sae.state_dict().items():
            assert torch.equal(tensors[f"{index}.{name}"], tensor), (index, name)


def begin(
    processes: ForkServerContext, folder: Path, die_at: int | None = None
) -> ForkServerProcess:
    process = processes.Process(target=run_or_die, args=(folder, has_checkpoint(folder), die_at))
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
    """Each round kills one run three times on its way to the end."""
    kills = 0
    for round_ in range(ROUNDS):
        moment, folder = random.Random(round_), tmp_path / str(round_)
        for _ in range(3):
            process = begin(processes, folder)
            process.join(moment.uniform(0.0, 0.3))
            process.kill()
            process.join(60)
            kills += process.exitcode == -signal.SIGKILL
        finish(processes, folder, undisturbed)
    tally("training kills", "at random moments", kills=kills)
    assert kills > ROUNDS / 2  # the test has teeth


def test_killed_before_any_change_of_the_disk(
    processes: ForkServerContext, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """No luck needed: die before the n-th rename, sync or removal, for every n in turn."""
    for n in range(1, 2 * ROUNDS + 2):
        folder = tmp_path / str(n)
        process = begin(processes, folder, die_at=n)
        process.join(60)
        if process.exitcode == 0:  # there are no n changes
            break
        assert process.exitcode == -signal.SIGKILL
        has_checkpoint(folder)
        if n % 4 == 0:
            finish(processes, folder, undisturbed)
    tally("training kills", "before a change of the disk", kills=n - 1)
    assert n > min(20, 2 * ROUNDS)  # ten rounds: several checkpoints, the removal of the first


def test_every_resumption_is_killed_too(
    processes: ForkServerContext, undisturbed: TrainResult, tmp_path: Path
) -> None:
    """In one folder, each a little later than the one before: nothing finished is ever lost."""
    newest, kills = "", 0
    for n in range(1, 2 * ROUNDS + 2):
        process = begin(processes, tmp_path, die_at=n)
        process.join(60)
        assert process.exitcode in (-signal.SIGKILL, 0)
        kills += process.exitcode != 0
        if newest:
            assert has_checkpoint(tmp_path)
            assert state.latest(tmp_path).name >= newest
        newest = state.latest(tmp_path).name if has_checkpoint(tmp_path) else ""
    assert newest
    tally("training kills", "in every resumption", kills=kills)
    finish(processes, tmp_path, undisturbed)


POOL = """
from srclib.runs import memo
from srclib.activations import BatchTopK
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.runs.run import Run
from srclib.runs.sweeps import sweep
from srclib.training.trainer import TrainConfig

if __name__ == "__main__":
    memo.WORTH_A_PROCESS = 0
    cfg = TrainConfig(n_steps=10**8, n_batch=16, lr=1e-2)
    toy = ToyFeatures(6, 8, 0.3)
    sweep({k: Run(SAE(8, 6, BatchTopK(k)), toy, cfg) for k in (1, 1.5, 2, 3)}, "k", workers=2)
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


@pytest.mark.long  # `--jobs` has the like of it in `tests`
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """A copy of srclib, so that the store is the copy's: two workers train for ever."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(files.root() / "srclib", tmp_path / "srclib", ignore=ignored)
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SRCLIB_BUILD": str(tmp_path / "b")}
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
