"""Several studies at once: one worker process each, none of which outlives the driver."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

Main = Callable[[list[str]], int]


def run_parallel(main: Main, commands: Sequence[list[str]], jobs: int) -> list[int]:
    """Call `main` on each command line, at most `jobs` at a time; returns the exit codes.

    The codes are in the order in which the commands ended. When this process is
    interrupted or terminated, so are the workers; when it is killed, they end within a second.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy open kernels and locks
    waiting = list(commands)
    running: list[SpawnProcess] = []
    codes: list[int] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(context.Process(target=_work, args=(main, waiting.pop(0))))
                running[-1].start()
            wait([worker.sentinel for worker in running])
            for worker in [each for each in running if not each.is_alive()]:
                running.remove(worker)
                codes.append(1 if worker.exitcode is None else worker.exitcode)
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.join()
    return codes


def _work(main: Main, arguments: list[str]) -> None:
    threading.Thread(target=_end_with_driver, daemon=True).start()
    sys.exit(main(arguments))


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)  # at once: nobody waits for the result, and locks are released by the kernel
