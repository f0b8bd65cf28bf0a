"""`torchrun --nproc-per-node 4 -m srclib run STUDY`: the ranks compute one study together.

Rank 0 runs the notebook and starts a scheduler; every rank, that one too, lends it a worker of one
thread, on an accelerator of its own. So a study gives the bytes that `--engine dask:ADDRESS` gives,
and needs no common disk. A rank that dies ends the job, as torchrun has it; what was finished is
stored, and the same command with any number of ranks goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from ..engines import engine
from ..errors import ParameterError, SuiteError, message

OURS = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
A_MINUTE = 60  # for all ranks to come


@contextlib.contextmanager
def joined(name: str | None) -> Iterator[bool]:
    """Inside, `name` is the engine, or the ranks of torchrun are; whether this process leads.

    A rank that does not lead works until the leader has left its block, then finds False. Raises
    ParameterError for an engine of another form, or one named beside ranks; SuiteError where a
    rank does not come, or without the extra `cluster`.
    """
    if name:
        os.environ["SRCLIB_ENGINE"] = name  # inherited by the kernel
    engine.chosen()  # refuses another form before anything starts
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        yield True
        return
    if seen := os.environ.get("SRCLIB_ENGINE"):
        fix = "Leave it out, or start without torchrun."
        raise ParameterError(message("engine", seen, "none beside the ranks of torchrun", fix))
    store, rank, ranks, host = *_met(), os.environ["MASTER_ADDR"]
    os.environ["SRCLIB_WORKER"] = os.environ.get("LOCAL_RANK", str(rank))
    for each in [each for each in os.environ if each.startswith(OURS)]:
        del os.environ[each]  # tasks are dealt out by the scheduler: no process of ours is a rank
    if rank:
        asyncio.run(_work(store.get("scheduler").decode()))
        yield False
        return
    with _cluster(host) as cluster:
        store.set("scheduler", cluster.scheduler_address)
        _wait_for(cluster, ranks)
        os.environ["SRCLIB_ENGINE"] = f"dask:{cluster.scheduler_address}"
        yield True


def _met() -> tuple[Any, int, int]:
    """The store that all ranks of torchrun read, the own rank, how many there are."""
    try:
        import distributed  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        fix = "Install the extra: pip install 'sae-paper-suite[cluster]'."
        raise SuiteError(f"studies under torchrun need distributed. {fix}") from None
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://"))


def _cluster(host: str) -> Any:
    """A scheduler that the other machines reach, with one worker."""
    from distributed import LocalCluster

    options = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "memory_limit": 0,
        "dashboard_address": ":0",
    }
    return LocalCluster(processes=True, host=host, **options)


def _wait_for(cluster: Any, ranks: int) -> None:
    try:
        cluster.wait_for_workers(ranks, timeout=A_MINUTE)
    except TimeoutError:
        came = len(cluster.scheduler_info["workers"])
        raise SuiteError(
            f"of {ranks} ranks {came} came within {A_MINUTE} s. Allowed is that all reach "
            f"{cluster.scheduler_address}: look at what the others say, and start again."
        ) from None


async def _work(address: str) -> None:
    """Compute what the leader's notebook asks for, until the leader is done."""
    from distributed import Worker

    logging.getLogger("distributed").setLevel(logging.WARNING)
    async with Worker(address, nthreads=1, memory_limit=0, dashboard=False) as worker:
        await worker.finished()
