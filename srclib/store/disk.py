"""Two names of the disk that change places at once."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's <fcntl.h>
_RENAME_SWAP = 2  # of <sys/stdio.h> on macOS


def exchange(a: Path, b: Path) -> bool:
    """What has the name `a` gets the name `b` and the reverse, with no moment in between.

    False where this system or file system cannot; then nothing has changed.
    """
    call = _call()
    return call is not None and call(os.fsencode(a), os.fsencode(b)) == 0


@functools.cache
def _call() -> Callable[[bytes, bytes], int] | None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return lambda a, b: library.renamex_np(a, b, _RENAME_SWAP)
        rename = library.renameat2
    except (OSError, AttributeError):
        return None
    return lambda a, b: rename(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE)
