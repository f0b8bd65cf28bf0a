"""What the parameters of a run name on this machine, by contents: models, corpora, SAEs.

A run is up to date only while its model is the same one, not while its folder has the same name.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..store import files
from . import params

FIELD = re.compile(r"\{step[^}]*\}")  # of a series of checkpoints
LARGE = 2**31  # bytes: of a larger file size and date are taken, not all that it holds


def contents(study: str, values: Mapping[str, Any]) -> dict[str, str]:
    """{parameter: hash of what it names}, of texts and lists of texts that name something here.

    A file, a folder with everything below it, all folders that a template with `{step}` fits, or
    a model of the hub's local cache: then the commits of its branches and tags.
    """
    fields, found = params.load_spec(study).fields, {}
    for name, value in values.items():
        if name not in fields or fields[name].choices or name in params.COMMON:
            continue
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        hashes = [_hash(text) if isinstance(text, str) and text else "" for text in texts]
        if any(hashes):
            found[name] = files.digest(hashes)
    return found


def _hash(text: str) -> str:
    """Empty for what names nothing."""
    digest, places = hashlib.sha256(), list(_places(text))
    for path in places:
        for file in [path] if path.is_file() else sorted(filter(Path.is_file, files.below(path))):
            found = file.stat()
            content = _content(file, found.st_size, found.st_mtime_ns, found.st_ino)
            told = [file.relative_to(path).as_posix(), found.st_size, content]
            digest.update(files.canonical(told).encode())
    return digest.hexdigest() if places else ""


@functools.cache
def _content(file: Path, size: int, date: int, inode: int) -> str:
    """Read once in a process: a run asks several times before it begins."""
    return str(date) if size > LARGE else files.file_sha256(file)


def _places(text: str) -> Iterator[Path]:
    place = files.root() / text  # where the kernel of a run stands
    try:
        found = [place] if place.exists() else []
        if not found and FIELD.search(text):
            found = [Path(each) for each in glob.glob(FIELD.sub("*", glob.escape(str(place))))]
    except (OSError, ValueError):  # no name of a file: too long, or with a zero byte
        return
    yield from sorted(found)
    from huggingface_hub.constants import HF_HUB_CACHE  # read late: what starts a run stays quick

    name = FIELD.sub("", text).partition("@")[0]
    refs = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs"
    if refs.is_dir():
        yield refs
