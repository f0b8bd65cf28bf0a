"""Which published results no longer belong to the code, and why.

Two questions are asked of every file: is it exactly as the run left it, and would a run
today have the same key? Verdicts are judged anew from the stored measurements.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .. import files, fingerprint
from ..errors import SuiteError
from . import judging, params, records
from .records import Record

EXECUTED = Path("book") / "_executed"
STAMP = "suite"  # the metadata of an executed notebook that the driver writes


class Finding(NamedTuple):
    """One thing to know about one file; `failed` findings make `verify` exit with 1."""

    where: str
    what: str
    failed: bool


def verify(strict: bool = False) -> list[Finding]:
    """Look at all published records, executed notebooks and build folders.

    A laptop (or smoke) result with another key is stale and failed. A result of another
    profile keeps its commit: it is failed only with `strict`. Anything edited by hand is
    failed whatever its profile. Published first, then notebooks, then build folders.
    """
    root = files.root()
    found: list[Finding] = []
    for path in sorted((root / "data" / "results").glob("*.json")):
        found += _guarded(path, lambda path: _published(path, strict))
    for path in sorted((root / EXECUTED).glob("*.ipynb")):
        found += _guarded(path, lambda path: _executed(path, strict))
    for study in params.studies():
        for path in sorted((files.build() / study).glob("*/manifest.json")):
            found += _guarded(path, _folder)
    return found


def current_inputs(study: str, profile: str, modules: Iterable[str]) -> dict[str, Any]:
    """What a run of the study at the profile's own values depends on now."""
    values = params.load_spec(study).resolve({"profile": profile}).values
    notebook = files.root() / "notebooks" / f"{study}.ipynb"
    return fingerprint.inputs(notebook, modules, study, values)


def altered(folder: Path) -> Iterator[str]:
    """How a folder of `build/` differs from its manifest, one sentence per file."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            yield f"{name} is missing; run the study again"
        elif files.file_sha256(folder / name) != digest:
            yield f"{name} was changed after it passed the gate; run the study again"


def stamp_digest(notebook: Mapping[str, Any]) -> str:
    """The hash of an executed notebook without the hash that its stamp holds."""
    metadata = dict(notebook["metadata"])
    metadata[STAMP] = {k: v for k, v in metadata.get(STAMP, {}).items() if k != "sha256"}
    return files.sha256(files.canonical({**notebook, "metadata": metadata}))


def _published(path: Path, strict: bool) -> Iterator[Finding]:
    record = records.load(path)
    study, profile, source = record["study"], record["profile"], record["provenance"]
    if path != records.published_path(study, profile) or profile == "smoke":
        yield Finding(_name(path), f"may not hold a {profile} record of {study}; remove it", True)
    if not records.is_sealed(record):
        what = "was edited by hand; restore it, or run the study again with --publish"
        yield Finding(_name(path), what, True)
        return
    for difference in judging.rejudge(record):
        what = f"{difference}; run the study again with --publish"
        yield Finding(_name(path), what, True)
    yield from _age(_name(path), study, profile, source["inputs"], source["commit"], strict)


def _executed(path: Path, strict: bool) -> Iterator[Finding]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    stamp = notebook["metadata"].get(STAMP)
    if stamp is None:
        what = f"was not made by `python -m srclib run {path.stem}`; run that"
        yield Finding(_name(path), what, True)
    elif stamp["sha256"] != stamp_digest(notebook):
        what = f"was changed after it passed the gate; run `python -m srclib run {path.stem}`"
        yield Finding(_name(path), what, True)
    else:
        study, profile, inputs = stamp["study"], stamp["profile"], stamp["inputs"]
        yield from _age(_name(path), study, profile, inputs, stamp["commit"], strict)


def _folder(manifest: Path) -> Iterator[Finding]:
    for what in altered(manifest.parent):
        yield Finding(_name(manifest.parent), what, True)


def _age(
    where: str, study: str, profile: str, inputs: Record, commit: str | None, strict: bool
) -> Iterator[Finding]:
    now = current_inputs(study, profile, inputs["modules"])
    stale = fingerprint.key_of(now) != fingerprint.key_of(inputs)
    why = "; ".join(changes(inputs, now))
    if profile in ("smoke", "laptop"):
        if stale:
            again = f"run `python -m srclib run {study} --profile {profile}`"
            yield Finding(where, f"is stale: {why}; {again}", True)
    else:
        suffix = f"; since then: {why}" if stale else ""
        yield Finding(where, f"computed at {commit or 'no commit'}{suffix}", stale and strict)


def changes(old: Record, new: Record) -> Iterator[str]:
    """In words, how the inputs of a run differ from the inputs now."""
    for part, what in (("notebook", "the notebook's code"), ("data", "the study's data files")):
        if old[part] != new[part]:
            yield f"{what} changed"
    for part, what in (("modules", ""), ("params", "parameter "), ("versions", "version of ")):
        for name in sorted({*old[part], *new[part]}):
            before, after = old[part].get(name), new[part].get(name)
            if before != after:
                detail = "" if part == "modules" else f" from {before} to {after}"
                yield f"{what}{name} changed{detail}"


def _guarded(path: Path, look: Callable[[Path], Iterator[Finding]]) -> Iterator[Finding]:
    """A file that cannot be judged at all is a finding, not the end of the command."""
    try:
        yield from look(path)
    except SuiteError as error:
        yield Finding(_name(path), str(error), True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is damaged ({type(error).__name__}: {error}); run the study again"
        yield Finding(_name(path), what, True)


def _name(path: Path) -> str:
    return path.relative_to(files.root()).as_posix()
