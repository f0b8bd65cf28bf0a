"""Advisory locks on files: who holds one is told, and the kernel releases it, after SIGKILL too."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import SuiteError, message
from . import files

_SHARED, _ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX


@contextlib.contextmanager
def lock(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock for the time of a block, and with it the store that it lies in.

    wait: until another process has done the same, which then need not be done again. Raises
    SuiteError that names who else holds it, or that the store is being deleted.
    """
    store = files.build()
    with contextlib.ExitStack() as held:
        if path.is_relative_to(store):
            files.make(store)
            if not held.enter_context(_marked(store, _SHARED)):
                told = f"{files.short(store)}/ is being deleted by another process"
                raise SuiteError(f"{told}. Wait for it to end, and run the command again.")
        files.make(path.parent)
        # what a link points to may be anyone's
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        file = held.enter_context(open(number, "r+", encoding="utf-8", errors="replace"))
        if wait:
            fcntl.flock(number, _ALONE)
        elif not _take(number, _ALONE):
            raise SuiteError(
                f"{what} is in use by another process ({_holder(path)}; lock {path.name}). "
                "Wait for it to end, or stop it, and run the command again."
            )
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"process {os.getpid()}, {_command()}, since {since}", file=file, flush=True)
        yield


@contextlib.contextmanager
def alone(store: Path) -> Iterator[bool]:
    """Whether there is a store: nobody holds a lock in it, or takes one, for the time of a block.

    For what deletes there. Raises SuiteError that names who computes in it.
    """
    if not (store / files.MARK).exists():
        yield False
        return
    with _marked(store, _ALONE) as got:
        held = [path for path in sorted(store.rglob("*.lock")) if _is_held(path, got)]
        if held or not got:
            told = f"{held[0].name} is held ({_holder(held[0])})" if held else "somebody computes"
            raise SuiteError(
                f"{files.short(store)}/ is in use: {told}, and what it computes would be lost. "
                "Wait for it to end, or stop it, and run the command again."
            )
        yield True


@contextlib.contextmanager
def _marked(store: Path, kind: int) -> Iterator[bool]:
    """A lock on a store's mark, which many share or one has alone; whether it was got."""
    mark = store / files.MARK
    if mark.exists() and not mark.is_file():
        raise SuiteError(message(files.short(mark), "no file", "a file", "Remove it."))
    try:
        file = open(mark, "r+b")  # noqa: SIM115
    except FileNotFoundError:
        yield False
        return
    with file:
        got = _take(file.fileno(), kind)
        # a store that was deleted meanwhile is another one now, or none
        yield got and mark.is_file() and os.path.samestat(os.fstat(file.fileno()), os.stat(mark))


def _is_held(path: Path, alone: bool) -> bool:
    """Whether a process holds a lock. It is tried only where nobody else could be trying.

    Else the process that wrote its name into it must be alive: to try would refuse one that comes.
    """
    if path.is_symlink() or not path.is_file():
        return False
    if not alone:
        found = re.match(r"process (\d+),", _holder(path))
        try:
            os.kill(int(found[1]) if found else 1 << 30, 0)  # signal 0 only asks
            return True
        except OSError:
            return False
    with open(path, "rb") as file:
        return not _take(file.fileno(), _ALONE)


def _take(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _command() -> str:
    """The command and what it is about; no option or value, which may be a secret."""
    words = [word for word in sys.argv[1:3] if re.fullmatch(r"[a-z][a-z0-9_]{0,15}", word)]
    return " ".join([Path(sys.argv[0]).name, *words])


def _holder(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8", errors="replace")[:300].split()) or "unknown"
