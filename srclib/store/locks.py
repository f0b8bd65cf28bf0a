"""Advisory locks on files: who holds one is told, and the kernel releases it, after SIGKILL too."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import SuiteError
from . import files

_SHARED, _ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for the time of a block, and with it the store that it lies in.

    Raises SuiteError that names who else holds it, or that the store is being deleted.
    """
    store = files.build()
    with contextlib.ExitStack() as held:
        if path.is_relative_to(store):
            files.make(store)
            if not held.enter_context(_marked(store, _SHARED)):
                told = f"{files.short(store)}/ is being deleted by another process"
                raise SuiteError(f"{told}. Wait for it to end, and run the command again.")
        files.make(path.parent)
        file = held.enter_context(open(path, "a+", encoding="utf-8", errors="replace"))
        if not _take(file.fileno()):
            raise SuiteError(
                f"{what} is in use by another process ({_holder(path)}; lock {path.name}). "
                "Wait for it to end, or stop it, and run the command again."
            )
        file.truncate(0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:3]])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"process {os.getpid()}, {command}, since {since}", file=file, flush=True)
        yield


@contextlib.contextmanager
def alone(store: Path) -> Iterator[None]:
    """Nobody holds a lock in the store, or takes one, for the time of a block that deletes there.

    Raises SuiteError that names who computes in it, and what would be lost.
    """
    with _marked(store, _ALONE) as got:
        _refuse_held(store)  # by name
        if not got and (store / files.MARK).exists():
            raise SuiteError(f"{files.short(store)}/ is in use. Run the command again.")
        yield


def _refuse_held(store: Path) -> None:
    for path in sorted(store.rglob("*.lock")):
        if path.is_symlink() or not path.is_file():
            continue
        with open(path, "rb") as file:
            if not _take(file.fileno()):
                raise SuiteError(
                    f"{path.name} is held ({_holder(path)}), and what it computes would be lost. "
                    "Wait for it to end, or stop it, and run the command again."
                )


@contextlib.contextmanager
def _marked(store: Path, kind: int) -> Iterator[bool]:
    """A lock on a store's mark, which many share or one has alone; whether it was got."""
    mark = store / files.MARK
    if not mark.is_file():
        yield False
        return
    with open(mark, "r+b") as file:
        got = _take(file.fileno(), kind)
        # a store that was deleted meanwhile is another one now, or none
        yield got and mark.is_file() and os.path.samestat(os.fstat(file.fileno()), os.stat(mark))


def _take(file: int, kind: int = _ALONE) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8", errors="replace")[:300].split()) or "unknown"
