"""Language models that were trained, kept by content."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from .. import files


def kept(key: str, train: Callable[[Path], None]) -> Path:
    """The folder that `train` filled once, on one thread, for the content `key`."""
    place = files.build() / "cache" / key[:2] / key
    _forget_once(place)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # waits: a study beside this one may be training it
        if not place.is_dir():
            with files.folder_atomic(place) as folder, _one_thread():
                train(folder)
    return place


@functools.cache
def _forget_once(place: Path) -> None:
    """`run --force` trusts nothing stored; what this process makes after that, it may reuse."""
    if os.environ.get("SRCLIB_RECOMPUTE"):
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The same bits whatever the caller's thread count, and no collapse beside other work.

    Two threads gain a third on an idle one; beside another process they lose a factor of ten.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
