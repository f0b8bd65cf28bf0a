"""Ranks of torchrun as the workers of one run: they share the tasks, and no disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torch import multiprocessing

from srclib.engines import engine
from srclib.errors import ParameterError, SuiteError
from srclib.store import files
from srclib.suite import ranks

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
KEYS = [f"{n:02x}" * 32 for n in range(6)]


def store_pid(key: str) -> None:
    with files.folder_atomic(files.place(key)) as folder:
        (folder / "pid").write_text(str(os.getpid()))


def rank_of(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["SRCLIB_BUILD"] = f"{folder}/{rank}"
    with ranks.joined(None) as leads:
        if leads:
            list(engine.compute(store_pid, KEYS, [[key] for key in KEYS], None))
        left = [name for name in os.environ if name.startswith(ranks.OURS)]
        told = {"leads": leads, "pid": os.getpid(), "left": left}
        told["accelerator"] = os.environ["SRCLIB_WORKER"]
        Path(folder, f"{rank}.json").write_text(json.dumps(told))


def test_ranks_share_the_tasks_of_the_one_that_leads(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(rank_of, (port, str(tmp_path)), nprocs=2)
    leader, other = (json.loads((tmp_path / f"{r}.json").read_text()) for r in range(2))
    assert (leader["leads"], other["leads"]) == (True, False)
    assert (leader["accelerator"], other["accelerator"]) == ("0", "1")
    assert leader["left"] == other["left"] == [], "a kernel that is started now is no rank"
    came = {(tmp_path / "0" / "cache" / key[:2] / key / "pid").read_text() for key in KEYS}
    assert len(came) == 2 and str(other["pid"]) in came, "one worker each"
    assert str(leader["pid"]) not in came, "its notebook must not wait for a task"


def test_an_engine_beside_ranks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "SRCLIB_ENGINE": "local"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match="engine='local': allowed is none beside the ranks"):
        ranks.joined(None).__enter__()


def test_a_rank_that_does_not_come_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "A_MINUTE", 0.1)
    options = {"n_workers": 1, "processes": False, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options) as cluster,
        pytest.raises(SuiteError, match=r"of 2 ranks 1 came within 0.1 s"),
    ):
        ranks._wait_for(cluster, 2)


SCRIPT = """
import signal
from srclib.engines import engine
from srclib.suite import cli, ranks
from test_ranks import KEYS, store_pid_or_die

if __name__ == "__main__":  # the leader's worker imports this file
    signal.signal(signal.SIGTERM, cli._leave)  # as the command line has it
    with ranks.joined(None) as leads:
        if leads:
            list(engine.compute(store_pid_or_die, KEYS, [[key] for key in KEYS], None))
            print("computed", flush=True)
"""


def store_pid_or_die(key: str) -> None:
    if os.environ["SRCLIB_WORKER"] == "1":
        os._exit(9)
    store_pid(key)


@pytest.mark.scale
def test_a_rank_that_dies_ends_the_job_and_fewer_go_on(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join(map(str, [files.root(), Path(__file__).parent]))
    environment = {**os.environ, "PYTHONPATH": path, "SRCLIB_BUILD": str(tmp_path / "store")}

    def torchrun(n: int) -> subprocess.CompletedProcess[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        launcher = [sys.executable, "-m", "torch.distributed.run", "--master-port", port]
        command = [*launcher, "--nproc-per-node", str(n), str(script)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    cut = torchrun(2)
    assert cut.returncode and "exitcode  : 9" in cut.stderr, cut.stderr[-2000:]
    assert not list((tmp_path / "store").glob(".engine-*")), "the leader has tidied up"
    assert "computed" in torchrun(1).stdout
    assert len(list((tmp_path / "store" / "cache").glob("*/*/pid"))) == len(KEYS)
