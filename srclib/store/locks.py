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


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock for the time of a block. Raises SuiteError that names who else holds it."""
    files.make(path.parent)
    with open(path, "a+", encoding="utf-8", errors="replace") as file:
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


def refuse_held(folder: Path) -> None:
    """Raises SuiteError where a lock below a folder is held: somebody computes there."""
    for path in sorted(folder.rglob("*.lock")):
        if path.is_symlink() or not path.is_file():
            continue
        with open(path, "rb") as file:
            if not _take(file.fileno()):
                raise SuiteError(
                    f"{path.name} is held ({_holder(path)}), and what it computes would be lost. "
                    "Wait for it to end, or stop it, and run the command again."
                )


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8", errors="replace")[:300].split()) or "unknown"
