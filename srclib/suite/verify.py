"""Which published results no longer belong to the code, and why.

Two questions are asked of every file: is it exactly as the run left it, and would a run
today have the same key? Verdicts are judged anew from the stored measurements.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .. import files, fingerprint
from ..errors import SuiteError
from ..files import short
from . import judging, params, records
from .verdicts import Record

EXECUTED = Path("book") / "_executed"
STAMP = "suite"  # the metadata of an executed notebook that the driver writes


class Finding(NamedTuple):
    """One thing to know about one file; `failed` findings make `verify` exit with 1."""

    where: str
    what: str
    failed: bool
    changed: bool = True  # since it was computed


def published() -> list[Path]:
    """What `verify` is about: published records, then the executed notebooks of the book."""
    found = sorted((files.root() / "data" / "results").glob("*.json"))
    return found + sorted((files.root() / EXECUTED).glob("*.ipynb"))


def verify(strict: bool = False) -> list[Finding]:
    """Look at everything published.

    A laptop result with another key is stale and failed. A result of another profile keeps its
    commit: it is failed only with `strict`. What was edited by hand is failed whatever its
    profile; a file that cannot be judged at all is a finding, not the end of the command.
    """
    found: list[Finding] = []
    for path in published():
        look = _published if path.suffix == ".json" else _executed
        try:
            found += look(path, strict)
        except SuiteError as error:
            found.append(Finding(short(path), str(error), True))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"is damaged ({type(error).__name__}: {error}); run the study again"
            found.append(Finding(short(path), what, True))
    return found


def seal_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of an executed notebook whose stamp holds the hash of everything else in it."""
    return dict(files.seal(notebook, "metadata", STAMP, "sha256"))


def _published(path: Path, strict: bool) -> Iterator[Finding]:
    record = records.load(path)
    study, profile, source = record["study"], record["profile"], record["provenance"]
    if path != records.published_path(study, profile) or profile == "smoke":
        yield Finding(short(path), f"may not hold a {profile} record of {study}; remove it", True)
    if not records.is_sealed(record):
        what = "was edited by hand; restore it, or run the study again with --publish"
        yield Finding(short(path), what, True)
        return
    for difference in judging.rejudge(record):
        what = f"{difference}; run the study again with --publish"
        yield Finding(short(path), what, True)
    yield from _age(path, study, profile, source, strict)


def _executed(path: Path, strict: bool) -> Iterator[Finding]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    stamp = notebook["metadata"].get(STAMP)
    if stamp is None:
        what = f"was not made by `python -m srclib run {path.stem}`; run that"
        yield Finding(short(path), what, True)
    elif notebook != seal_notebook(notebook):
        what = f"was changed after it passed the gate; run `python -m srclib run {path.stem}`"
        yield Finding(short(path), what, True)
    else:
        yield from _age(path, stamp["study"], stamp["profile"], stamp, strict)


def _age(path: Path, study: str, profile: str, source: Record, strict: bool) -> Iterator[Finding]:
    """source: what holds the `inputs` and the `commit` of the run."""
    inputs, commit = source["inputs"], source["commit"] or "no commit"
    values = params.load_spec(study).resolve({"profile": profile}).values
    notebook = files.root() / "notebooks" / f"{study}.ipynb"
    why = "; ".join(changes(inputs, fingerprint.inputs(notebook, inputs["modules"], study, values)))
    if profile not in ("smoke", "laptop"):
        since = f"; since then: {why}" if why else ""
        yield Finding(short(path), f"computed at {commit}{since}", strict and bool(why), bool(why))
    elif why:
        again = f"run `python -m srclib run {study} --profile {profile}`"
        yield Finding(short(path), f"is stale: {why}; {again}", True)


def changes(old: Record, new: Record) -> Iterator[str]:
    """In words, how the inputs of a run differ from the inputs now."""
    for part, what in (("notebook", "the notebook's code"), ("data", "the study's data files")):
        if old[part] != new[part]:
            yield f"{what} changed"
    differing = {
        part: [n for n in sorted({*old[part], *new[part]}) if old[part].get(n) != new[part].get(n)]
        for part in ("modules", "params", "versions")
    }
    modules = list(filter(fingerprint.counts, differing["modules"]))
    if modules:
        more = f" and {len(modules) - 5} other modules" if len(modules) > 5 else ""
        yield f"{', '.join(modules[:5])}{more} changed"
    for part, what in (("params", "parameter"), ("versions", "version of")):
        for name in differing[part]:
            if name not in new[part] or name not in old[part]:
                yield f"{what} {name} {'is new' if name in new[part] else 'is gone'}"
            else:
                yield f"{what} {name} changed from {old[part][name]} to {new[part][name]}"
