"""Work spread over processes, which end with the process that started them."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from .errors import SuiteError


def in_processes(
    workers: int, function: Callable[..., Any], *arguments: Iterable[Any]
) -> Iterator[Any]:
    """`map(function, *arguments)` over processes of one thread each; results in order.

    For functions that store what they finish. An interruption or termination of this process
    stops them at once. Raises what they raise, and SuiteError when a process dies.
    """
    try:
        yield from _pool(workers).map(functools.partial(_call, function), *arguments)
    except BrokenProcessPool:
        _pool.cache_clear()
        raise SuiteError(
            "a training process died (killed, or out of memory). What was finished is stored: "
            "run the same again, with workers=1 where memory is short."
        ) from None
    except (KeyboardInterrupt, SystemExit):
        _pool.cache_clear()
        for child in multiprocessing.active_children():
            child.terminate()
        raise


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """Spawned, not forked: a notebook kernel has threads. Kept for the life of the process."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker)


def _start_worker() -> None:
    """No life after the parent's, not even when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, without our tracebacks

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)  # at once: nobody waits for the result, and locks are released by the kernel

    threading.Thread(target=watch, daemon=True).start()


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """With one thread where `function` has loaded torch: the processes share the cores."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    try:
        return function(*arguments)
    except SystemExit:  # terminated, and tidied up: the pool would only hand out more work
        os._exit(1)
