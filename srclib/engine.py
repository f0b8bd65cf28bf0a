"""Work spread over processes of one thread each, which end with the process that started them."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import torch

from .errors import SuiteError


def in_processes(
    workers: int, function: Callable[..., Any], *arguments: Iterable[Any]
) -> Iterator[Any]:
    """`map(function, *arguments)` over processes of one thread each; results in order.

    For functions that store what they finish. Raises what they raise, and SuiteError when a
    process dies.
    """
    try:
        yield from _pool(workers).map(function, *arguments)
    except BrokenProcessPool:
        _pool.cache_clear()
        raise SuiteError(
            "a training process died (killed, or out of memory). What was finished is stored: "
            "run the same again, with workers=1 where memory is short."
        ) from None


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """Spawned, not forked: a notebook kernel has threads. Kept for the life of the process."""
    context = get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(os.getpid(),))


def _start_worker(parent: int) -> None:
    """One thread each, and no life after the parent's, not even when that is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, without our tracebacks

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
