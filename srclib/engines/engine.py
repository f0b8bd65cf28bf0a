"""Where tasks are computed: in processes of this machine, or on a Dask cluster.

    SRCLIB_ENGINE=local        processes of one thread, one per core or accelerator (the default)
    SRCLIB_ENGINE=local:4      four of them
    SRCLIB_ENGINE=dask:tcp://10.0.0.1:8786    the workers of that scheduler

A task is independent of the others and stores what it finishes under keys that are known before.
Workers need no common disk: what a task has stored elsewhere comes back as bytes and is stored
here as soon as it is done, so that nothing finished is lost with a worker or a scheduler.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ..errors import ParameterError, SuiteError, message
from ..store import files, fingerprint
from . import estimate

Task = Callable[[Any], Any]
PLACE = ("SRCLIB_DEVICE", "SRCLIB_DTYPE", "SRCLIB_MATMUL", "SRCLIB_RECOMPUTE")


def compute(
    function: Task, tasks: Sequence[Any], keys: Sequence[Sequence[str]], workers: int | None
) -> Iterator[Any]:
    """`function(task)` for every task; each stores what it finishes under its `keys`.

    Yields once per finished task, in any order. workers: of the local engine, where SRCLIB_ENGINE
    names no number. Raises what the tasks raise; ParameterError for an engine of another form;
    SuiteError for workers that are gone, or that run other code than this process.
    """
    kind, where = chosen()
    if kind == "dask":
        yield from _on_dask(where, function, tasks, keys)
    else:
        yield from in_processes(int(where or workers or os.cpu_count() or 1), function, tasks)


def chosen() -> tuple[str, str]:
    """The engine of this process: "local" with a number or nothing, or "dask" with an address."""
    seen = os.environ.get("SRCLIB_ENGINE") or "local"
    kind, _, where = seen.partition(":")
    sound = where if kind == "dask" else kind == "local" and (not where or where.isdecimal())
    if not sound or (kind == "local" and where and not int(where)):
        allowed = "local, local:N or dask:ADDRESS"
        raise ParameterError(message("engine", seen, allowed, "Use local."))
    return kind, where


def is_local() -> bool:
    """Whether tasks run on this machine."""
    return chosen()[0] == "local"


def ready(say: Callable[[str], None]) -> None:
    """Before anything is computed: a scheduler answers, and a worker is there or is waited for.

    A queue may start it hours later, so there is no limit, but a word. Raises SuiteError.
    """
    kind, address = chosen()
    if kind != "dask":
        return
    client = _client(address)
    try:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            say(f"engine dask:{address}: waits for a worker; `dask worker {address}` starts one")
            client.wait_for_workers(1)
    finally:
        client.close(timeout=5)


def _client(address: str) -> Any:
    try:
        from distributed import Client  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        fix = "Install the extra: pip install 'sae-paper-suite[cluster]'."
        raise SuiteError(f"engine dask:{address}: distributed is not installed. {fix}") from None
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        fix = "Start `dask scheduler` and workers, or use --engine local."
        raise SuiteError(f"engine dask:{address}: no scheduler answers ({error}). {fix}") from None


def _on_dask(
    address: str, function: Task, tasks: Sequence[Any], keys: Sequence[Sequence[str]]
) -> Iterator[None]:
    from ..compute.place import place

    client = _client(address)
    from distributed import as_completed

    token = files.make(files.build()) / f".engine-{secrets.token_hex(8)}"
    token.touch()
    sent = {name: os.environ.get(name) for name in PLACE}
    remote = functools.partial(_remote, function, token.name, sent, _code(), place().identity)
    try:
        submitted = [
            client.submit(remote, task, own, pure=False, retries=2)
            for task, own in zip(tasks, keys, strict=True)
        ]
        for future in as_completed(submitted, loop=client.loop):
            for key, packed in future.result().items():  # stored at once: it is not lost again
                _keep(packed, key)
            yield None
    except (OSError, RuntimeError) as error:  # the scheduler, or every worker, is gone
        raise SuiteError(
            f"engine dask:{address}: the cluster is lost ({type(error).__name__}: {error}). What "
            "was finished is stored: start it again and run the same."
        ) from None
    finally:
        token.unlink(missing_ok=True)
        client.close(timeout=5)


def _keep(packed: bytes, key: str) -> None:
    try:
        files.unpack(packed, files.place(key))
    except OSError as error:  # the disk of this machine is no lost cluster
        fix = "Free some, and run the same again: what was finished before is stored."
        raise SuiteError(f"{files.build()}: {error.strerror}. {fix}") from None


def _remote(
    function: Task,
    token: str,
    sent: dict[str, str | None],
    code: str,
    there: dict[str, str],
    task: Any,
    keys: Sequence[str],
) -> dict[str, bytes]:
    """On a worker: what it stored, as bytes by key; nothing where the caller sees the same disk."""
    from ..compute.place import place

    if code != _code():
        raise SuiteError(
            "a worker of the cluster runs another version of srclib than this process. Allowed is "
            "the same code: update it there, and restart the workers."
        )
    for name, value in sent.items():  # also away with what an earlier caller has left
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    if (here := place().identity) != there:  # the caller stores it under keys of its own place
        raise SuiteError(
            f"a worker computes on {here}, and this process on {there}. Allowed is one kind of "
            "device and one dtype: run this where the workers are, or name a device that both have."
        )
    try:
        _call(function, task)
    except (OSError, RuntimeError) as error:  # a full disk or memory there is no lost cluster
        fix = "Mend that, or lower n_batch or d_sae where memory is short, and run the same again."
        raise SuiteError(f"a worker failed ({error}). What was finished is stored. {fix}") from None
    if (files.build() / token).exists():
        return {}
    return {key: files.pack(files.place(key)) for key in keys}


@functools.cache
def _code() -> str:
    """Of the srclib that this process has loaded."""
    return fingerprint.modules_hash(fingerprint.all_modules())


def in_processes(
    workers: int, function: Callable[..., Any], *arguments: Iterable[Any]
) -> Iterator[Any]:
    """`map(function, *arguments)` over processes of one thread each; results in order.

    For functions that store what they finish: an interruption stops them at once. Raises what
    they raise, and SuiteError when a process dies.
    """
    with estimate.shared(workers) as counted:
        if counted:
            yield from _one_after_another(function, *arguments)
            return
    try:
        yield from _pool(workers).map(functools.partial(_call, function), *arguments)
    except BrokenProcessPool:
        _pool.cache_clear()
        raise SuiteError(
            "a training process died (killed, or out of memory). What was finished is stored: "
            "run the same again, with workers=1 where memory is short. A script of your own calls "
            "this below `if __name__ == '__main__':`."
        ) from None
    except (KeyboardInterrupt, SystemExit):
        _pool.cache_clear()
        for child in multiprocessing.active_children():
            child.terminate()
        raise


def _one_after_another(function: Callable[..., Any], *arguments: Iterable[Any]) -> Iterator[Any]:
    """In this process, with one thread, as a worker would."""
    import torch

    threads = torch.get_num_threads()
    try:
        yield from map(functools.partial(_call, function), *arguments)
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """Spawned, not forked: a notebook kernel has threads. Kept for the life of the process."""
    context = multiprocessing.get_context("spawn")
    numbers = context.Value("i", 0)
    return ProcessPoolExecutor(workers, context, _start_worker, (numbers,))


def _start_worker(numbers: Any = None) -> None:
    """No life after the parent's, not even when that is killed; an accelerator of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, without our tracebacks
    if numbers is not None and os.environ.get("SRCLIB_DEVICE", "auto") in ("auto", "cuda"):
        with numbers.get_lock():
            mine, numbers.value = numbers.value, numbers.value + 1
        os.environ["SRCLIB_WORKER"] = str(mine)  # `place` deals the accelerators by it

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
