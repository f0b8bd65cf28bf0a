"""Which results no longer belong to the code, and why.

`findings` is the one judge of a file that a run wrote: is it exactly as the run left it, do its
verdicts follow from the present ledger, would a run today have the same inputs? `run` takes up
stored results that it finds good, `verify` and `book` ask it about everything published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import SuiteError
from ..store import files, fingerprint
from ..store.files import short
from . import data_tables, judging, params, records, trust
from .named import contents
from .verdicts import Record

EXECUTED = Path("book") / "_executed"
STAMP = "suite"  # the metadata of an executed notebook that the driver writes

Values = Mapping[str, Any] | None
Told = Iterator[tuple[str, bool] | tuple[str, bool, bool]]  # what a Finding says after `where`


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


def may_publish(profile: str, custom: Sequence[str]) -> bool:
    """Published are profiles above smoke, as they are: none with parameters of the caller's."""
    return profile != "smoke" and not custom


def verify(strict: bool = False) -> list[Finding]:
    """Look at everything published, see `findings`, at what was measured about the suite itself,
    and at the tables that studies read."""
    found = [each for path in published() for each in findings(path, strict=strict)]
    try:
        data_tables.check()
    except SuiteError as error:
        found.append(Finding(f"data/{data_tables.SCHEMAS}", str(error), True))
    for path in sorted((files.root() / "data" / "trust").glob("*.json")):
        try:
            trust.load(path.stem)
        except SuiteError as error:
            found.append(Finding(short(path), str(error), True))
    return found


def findings(
    path: Path, values: Values = None, strict: bool = False, aged: bool = True
) -> list[Finding]:
    """What there is to know about a record or an executed notebook; nothing if it is up to date.

    values: the parameters that its run should have had; by default those of its profile. aged:
    ask too whether a run today would have the same inputs.
    A laptop result with other inputs is stale and failed. A result of a larger profile keeps its
    commit: it is failed only with `strict`. What was edited by hand is failed whatever its
    profile; a file that cannot be judged at all is a finding, not the end of the command.
    """
    try:
        look = _record if path.suffix == ".json" else _notebook
        return [Finding(short(path), *each) for each in look(path, values, strict, aged)]
    except SuiteError as error:
        return [Finding(short(path), str(error), True)]
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        what = f"is damaged ({type(error).__name__}: {error}); run the study again"
        return [Finding(short(path), what, True)]


def seal_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of an executed notebook whose stamp holds the hash of everything else in it."""
    return dict(files.seal(notebook, "metadata", STAMP, "sha256"))


def _record(path: Path, values: Values, strict: bool, aged: bool) -> Told:
    record = records.load(path, edited=True)
    study, profile, source = record["study"], record["profile"], record["provenance"]
    own = records.published_path(study, profile)
    allowed = path == own and may_publish(profile, source.get("set", ()))
    if path.parent == own.parent and not allowed:
        yield f"may not hold a {profile} record of {study}; remove it", True
    if not records.is_sealed(record):
        yield "was edited by hand; restore it, or run the study again with --publish", True
        return
    for difference in judging.rejudge(record):
        yield f"{difference}; run the study again with --publish", True
    if aged:
        yield from _age(study, profile, source, values, strict)


def _notebook(path: Path, values: Values, strict: bool, aged: bool) -> Told:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    stamp = notebook["metadata"].get(STAMP)
    if stamp is None:
        yield f"was not made by `python -m srclib run {path.stem}`; run that", True
    elif notebook != seal_notebook(notebook):
        yield f"was changed after it passed the gate; run `python -m srclib run {path.stem}`", True
    else:
        shown, run_it = records.shown(notebook["cells"]), f"run `python -m srclib run {path.stem}`"
        own = {(stamp["study"], stamp["profile"])} | {(r["study"], r["profile"]) for r in shown}
        if path.parent.name == Path(EXECUTED).name and path.stem != stamp["study"]:
            yield f"is the page of {stamp['study']}; {run_it}", True
        if len(own) > 1:
            yield f"holds records of {sorted(own)}, allowed is one; {run_it}", True
        for difference in (each for record in shown for each in judging.rejudge(record)):
            yield f"{difference}; {run_it}", True
        if aged:
            yield from _age(stamp["study"], stamp["profile"], stamp, values, strict)


def _age(study: str, profile: str, source: Record, values: Values, strict: bool) -> Told:
    """source: what holds the `inputs` and the `commit` of the run."""
    old, commit, own = source["inputs"], source["commit"] or "no commit", values is not None
    values = values or params.load_spec(study).resolve({"profile": profile}).values
    notebook = files.root() / "notebooks" / f"{study}.ipynb"
    place = old.get("place")
    named, before = contents(study, values), old.get("named", {})
    if not own:  # a published record, perhaps of another machine: compared is what is here as well
        named = {name: named.get(name, before[name]) for name in before}
    new = fingerprint.inputs(notebook, old["modules"], study, values, place, named)
    why = "; ".join(changes(old, new))
    if profile not in ("smoke", "laptop"):
        since = f"; since then: {why}" if why else ""
        yield f"computed at {commit}{since}", strict and bool(why), bool(why)
    elif why:
        yield f"is stale: {why}; run `python -m srclib run {study} --profile {profile}`", True


def changes(old: Record, new: Record) -> Iterator[str]:
    """In words, how the inputs of a run differ from the inputs now."""
    for part, what in (("notebook", "the notebook's code"), ("data", "the study's data files")):
        if old[part] != new[part]:
            yield f"{what} changed"
    differing = {
        part: [n for n in sorted({*old[part], *new[part]}) if old[part].get(n) != new[part].get(n)]
        for part in ("modules", "params", "versions")
    }
    there, here = old.get("named", {}), new["named"]
    for name in sorted(there.keys() | here):
        if there.get(name) != here.get(name):
            became = (
                "names another content than it did" if name in here else "names nothing any more"
            )
            yield f"parameter {name} {became}"
    modules = list(filter(fingerprint.counts, differing["modules"]))
    gone = [name for name in modules if fingerprint.module_path(name) is None]
    for found, what in ((sorted({*modules} - {*gone}), "changed"), (gone, "moved or gone")):
        if found:
            more = f" and {len(found) - 5} other modules" if len(found) > 5 else ""
            yield f"{', '.join(found[:5])}{more} {what}"
    for part, what in (("params", "parameter"), ("versions", "version of")):
        for name in differing[part]:
            if name not in new[part] or name not in old[part]:
                yield f"{what} {name} {'is new' if name in new[part] else 'is gone'}"
            else:
                yield f"{what} {name} changed from {old[part][name]} to {new[part][name]}"
