"""Files that are whole or absent: atomic writes, content hashes, locks.

Everything the suite writes goes through `write_atomic` or `folder_atomic`: a reader
sees the old content or the new one, never half of either, also after SIGKILL.
Needs no torch, so `list`, `claims` and `verify` start quickly.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SuiteError

if TYPE_CHECKING:
    from torch import Tensor


def root() -> Path:
    """The checkout: the folder that holds `srclib/`, `notebooks/` and `data/`."""
    return Path(__file__).resolve().parent.parent


def build() -> Path:
    """Everything generated (git-ignored)."""
    return root() / "build"


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and without NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def pretty(value: Any) -> str:
    """JSON for people: indented, one trailing newline, no NaN."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_atomic(path: Path, data: bytes | str) -> Path:
    """Write a file so that a crash leaves the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Fill a temporary folder; it takes the place of `path` only when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        temporary.chmod(0o777 & ~_umask())
        if path.exists():  # two renames: one complete folder exists on disk, for a moment hidden
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock; it is released by the kernel even after SIGKILL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SuiteError(
                f"{what} is in use by another process (lock {path.name}). "
                "Wait for it to end, or stop it, and run the command again."
            ) from None
        yield


def tensors_sha256(tensors: Iterable[Tensor]) -> str:
    """Hash of the bytes of tensors of any dtype, one after the other, without a joined copy."""
    import torch  # here alone: this module is on the way of commands that need no torch

    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
