"""Where files are, and files that are whole or absent: atomic writes, hashes, seals.

A reader sees the old content or the new one, never half of either, also after SIGKILL.
Needs no torch, so `list`, `claims` and `verify` start quickly.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import io
import json
import operator
import os
import re
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, SuiteError, message
from . import disk

if TYPE_CHECKING:
    from torch import Tensor

A_DAY = 86_400  # seconds
BESIDE = re.compile(r"^\.(.+)\.srclib-[0-9a-f]{8}$")  # what becomes NAME when it is whole
MARK = ".srclib-store"  # stands in every store that we made; nothing without it is deleted


def root() -> Path:
    """The folder that holds the package `srclib`: a checkout, or site-packages."""
    return Path(__file__).resolve().parents[2]


def is_checkout() -> bool:
    """Whether `root()` also holds what a checkout has."""
    needed = ("notebooks", "data/profiles", "pyproject.toml")
    return all((root() / name).exists() for name in needed)


def checkout() -> Path:
    """`root()`, with the notebooks and the data. Raises SuiteError where they are missing."""
    if not is_checkout():
        raise SuiteError(
            "srclib is installed without its notebooks and data, and this needs a checkout of the "
            "suite. Get the repository, then `pip install -e .` in it, or use its Python."
        )
    return root()


def data_path(name: str) -> Path:
    """A committed file by its name under `data/`, such as "l0/published_saes.csv".

    For notebooks, whose working directory is anyone's. Raises DataError where it is missing.
    """
    path = checkout() / "data" / name
    if not path.is_file():
        raise DataError(message("name", name, "a file under data/", f"Look into {path.parent}."))
    return path


def build() -> Path:
    """The store of everything generated: `$SRCLIB_BUILD`, else `build/` of the checkout, else
    the user's cache folder. It is made by whoever writes first."""
    if named := os.environ.get("SRCLIB_BUILD"):
        return Path(named).expanduser().absolute()
    if is_checkout():
        return root() / "build"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "srclib"


def place(key: str) -> Path:
    """Where the store keeps what has this content key.

    `$SRCLIB_BEHIND`: a store that is looked into as well, and not written to.
    """
    own, within = build() / "cache" / key[:2] / key, f"cache/{key[:2]}/{key}"
    behind = os.environ.get("SRCLIB_BEHIND")
    there = Path(behind) / within if behind and not own.exists() else own
    return there if there.exists() else own


def short(path: Path) -> str:
    """A path as messages show it: relative to the checkout where it lies inside."""
    return (path.relative_to(root()) if path.is_relative_to(root()) else path).as_posix()


def make(folder: Path) -> Path:
    """Make a folder with its parents; the store that it belongs to is marked as ours.

    The mark names what of others was there before, as in a `build/` that packaging tools use.
    Raises SuiteError for a store that somebody else's files are in.
    """
    store = build()
    if folder.is_relative_to(store) and not (store / MARK).exists():
        others = store.is_dir() and bool(_names(store))
        others = others and not (store / MARK).exists()  # marked by another process meanwhile
        if others and store != root() / "build":
            allowed = f"a new or empty folder, or one that holds {MARK}"
            fix = "Name a folder of its own."
            raise SuiteError(message("SRCLIB_BUILD", str(store), allowed, fix))
        store.mkdir(parents=True, exist_ok=True)
        _mark(store)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mark(store: Path) -> None:
    """Mark a store whole or not at all: half a list of what is others' would delete the rest."""
    there = _names(store)  # of others: never deleted
    whole = store / f"{MARK}.{secrets.token_hex(4)}"
    try:
        with open(whole, "xb") as file:
            file.write(json.dumps(there).encode())  # in ASCII, names that are no UTF-8 as well
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(whole, store / MARK)
        except FileExistsError:
            pass  # another process marked it
        except OSError:  # a file system without links
            os.replace(whole, store / MARK)
    finally:
        whole.unlink(missing_ok=True)


def _names(store: Path) -> list[str]:
    """What stands in a store that is not its mark, or a mark that a kill left half written."""
    names = (path.name for path in store.iterdir())
    return sorted(name for name in names if not name.startswith(MARK))


def _others(store: Path) -> list[str]:
    """What stood in a store before it was ours. Raises SuiteError for a mark that is damaged."""
    text = (store / MARK).read_text(encoding="utf-8", errors="replace")
    try:  # older marks have a name in each line, or nothing
        found = json.loads(text) if text.startswith("[") else text.splitlines()
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return found
    allowed = "the list of what was there before"
    fix = "Delete by hand what nobody needs."
    raise SuiteError(message(short(store / MARK), text[:40], allowed, fix))


def empty(folder: Path) -> float:
    """Delete the store, or a folder inside it; returns its MB. Raises SuiteError for any other."""
    store = build()
    if not folder.exists():
        return 0.0
    fix = "Delete it by hand if nobody needs it."
    if folder.is_symlink():  # what it points to may be anyone's
        raise SuiteError(message("folder", str(folder), "a folder, no link to one", fix))
    if not (folder.is_relative_to(store) and (store / MARK).is_file()):
        raise SuiteError(message("folder", str(folder), f"a store with {MARK}", fix))
    others = _others(store)
    if folder.relative_to(store).parts[:1] in [(name,) for name in others]:
        allowed = "one that was not there before the store"
        raise SuiteError(message("folder", str(folder), allowed, fix))
    size = sum(_sizes(folder))
    kept = [MARK, *others] if folder == store else []
    for child in [path for path in folder.iterdir() if path.name not in kept]:
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
    if not any(path.name != MARK for path in folder.iterdir()):
        (folder / MARK).unlink(missing_ok=True)  # last: what an interruption leaves is still ours
        folder.rmdir()
    return (size - sum(_sizes(folder))) / 1e6


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of every file below a folder; none where it is gone."""
    return (path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def below(folder: Path) -> Iterator[Path]:
    """Every file of a folder, behind links to folders too; once where links lead in circles."""
    seen = set()
    for place, names, found in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in found)


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and without NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """Hash of JSON data: equal values give equal hashes."""
    return sha256(canonical(value))


def pretty(value: Any) -> str:
    """JSON for people: indented, one trailing newline, no NaN."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def seal(document: Any, *place: str) -> Any:
    """A copy of a JSON document whose field at `place` is the hash of everything else in it."""
    *outer, name = place
    copy = json.loads(json.dumps(document))
    inner = functools.reduce(operator.getitem, outer, copy)
    inner.pop(name, None)
    inner[name] = digest(copy)
    return copy


def write_atomic(path: Path, data: bytes | str | Iterable[bytes]) -> Path:
    """Write a file, at once or in pieces, so that a crash leaves the old content or the new one."""
    temporary = _beside(path)
    data = data.encode() if isinstance(data, str) else data
    try:
        with open(temporary, "xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Fill a temporary folder; it takes the place of `path` only when the block succeeds."""
    temporary, old = _beside(path), _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if not (path.exists() and disk.exchange(temporary, path)):
            if path.exists():  # two renames: a complete folder exists, for a moment hidden
                os.replace(path, old)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def pack(folder: Path) -> bytes:
    """A folder of plain files as bytes, for `unpack`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return buffer.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Put what `pack` took into place, whole or not at all. Raises DataError for other names."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive, folder_atomic(folder) as new:
        for name in archive.namelist():
            if name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"{name!r}: a worker sent a file outside its folder. Check it.")
        archive.extractall(new)


@functools.cache
def forget_once(path: Path) -> None:
    """`run --force` trusts nothing stored; what this process makes after that, it may reuse."""
    if os.environ.get("SRCLIB_RECOMPUTE") and path.is_relative_to(build()):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A new hidden name in the same folder, which is made; what a kill left a day ago goes.

    Raises SuiteError where the name is that of a device or a pipe, which a file may not replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        fix = "Name another."
        raise SuiteError(message("path", str(path), "a file, a folder or nothing yet", fix))
    for left in make(path.parent).glob(f".{glob.escape(path.name)}.srclib-????????"):
        with contextlib.suppress(OSError):  # somebody else may be sweeping
            if BESIDE.match(left.name) and time.time() - left.lstat().st_mtime > A_DAY:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return path.parent / f".{path.name}.srclib-{secrets.token_hex(4)}"


def tensors_sha256(tensors: Iterable[Tensor]) -> str:
    """Hash of the bytes of tensors of any dtype, one after the other, without a joined copy."""
    import torch  # here alone: this module is on the way of commands that need no torch

    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
