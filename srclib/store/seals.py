"""Nothing is trusted because it exists: JSON read strictly, folders with the hash of each file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import files

NAME = "sealed.json"
LARGEST = 200_000_000  # bytes of a JSON file; ours have a few megabytes at the most


def read_json(path: Path, fix: str) -> Any:
    """The content of a JSON file. Raises DataError, one line that names the file, for another one.

    Also for what Python would read: NaN, a key that stands twice (one reader takes the first,
    another the last), a pipe that never ends, nesting that is too deep.
    """
    where = files.short(path)
    try:
        if not path.is_file():
            raise ValueError("it is no file" if path.exists() else "it is not there")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, allowed are {LARGEST:,}")
        text = path.read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_finite)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as JSON ({error}). {fix}") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _finite(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def close(folder: Path) -> None:
    """Write the hashes of the files of a folder, subfolders aside, beside them."""
    hashes = {
        path.name: files.file_sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != NAME
    }
    content = {"files": hashes, "place": _place(folder), "sha256": ""}
    text = files.pretty(files.seal(content, "sha256"))
    (folder / NAME).write_text(text, encoding="utf-8")


def check(folder: Path) -> None:
    """Raise DataError, naming the file, unless the sealed files of a folder are as they were.

    A folder of the store must be sealed; one that somebody brings need not be.
    """
    seal = folder / NAME
    if not seal.is_file():
        if folder.absolute().is_relative_to(files.build()):
            raise DataError(f"{files.short(seal)}: missing. {_FIX}")
        return
    known = read_json(seal, _FIX)
    try:
        sound = files.seal(known, "sha256") == known
        hashes = dict(known["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{files.short(seal)}: cannot be read ({error}). {_FIX}") from None
    if not sound:
        raise DataError(f"{files.short(seal)}: altered since it was written. {_FIX}")
    if (place := _place(folder)) and known.get("place") != place:
        raise DataError(f"{files.short(folder)}: holds what was stored elsewhere. {_FIX}")
    for name, wanted in hashes.items():
        path = folder / name
        if not path.is_file() or files.file_sha256(path) != wanted:
            what = "altered since it was written" if path.is_file() else "missing"
            raise DataError(f"{files.short(path)}: {what}. {_FIX}")


def _place(folder: Path) -> str:
    """The key that a folder of the store is kept under, and where below it; else nothing.

    So that a whole folder with a good seal is not read in another's place.
    """
    inside = folder.absolute().is_relative_to(files.build())
    parts = folder.absolute().relative_to(files.build()).parts if inside else ()
    parts = tuple(files.BESIDE.sub(r"\1", part) for part in parts)  # until whole
    for i, part in enumerate(parts):
        if key := re.search("[0-9a-f]{64}", part):
            return "/".join([key[0], *parts[i + 1 :]])
    return ""


_FIX = "Allowed is what was saved: delete its folder, and run again, which makes it anew."
