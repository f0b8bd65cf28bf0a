"""Results that stand in the store: found by name, put side by side, what they took and left."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError, ParameterError, SuiteError, message, nearest
from ..store import files
from . import params, records
from .plan import duration
from .verdicts import points, told

SAES = "saes.jsonl"  # in a run's folder: one line per SAE that the run trained or loaded
TIME = ".seconds"  # beside that folder: what a run took


def overview() -> Iterator[str]:
    """Every study: its profiles with the time that they took here, or else are expected to take,
    and the last result; then what else the store holds."""
    for study in params.studies():
        spec = params.load_spec(study)
        yield f"{study}  {spec.title} ({spec.paper})"
        known = named(study)
        for name, profile in spec.profiles.items():
            try:
                last = told(records.find(study, name)) if name in known else "never run"
            except SuiteError as error:  # a damaged record hides no other
                last = str(error)
            here = seconds(study, name)
            word, shown = ("about", profile.seconds) if here is None else ("took", here)
            yield f"    {name:7} {word:5} {duration(shown):7}  {last}"
        for line in lines(study):
            yield f"    {line}"


def keep_seconds(folder: Path, began: float) -> None:
    """Note what the run that ends now took, if it trained all of its SAEs itself.

    folder: of its results. began: as `time.time` has it. A language model that was stored before,
    perhaps by another study, is not told from one that the run trained.
    """
    path = folder / SAES
    rows = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    keys = [json.loads(row).get("key") for row in rows]  # none where a cell of one's own wrote it
    made = [files.place(key) / "sae.json" for key in keys if key]
    if made and len(made) == len(keys) and all(e.stat().st_mtime >= began for e in made):
        files.write_atomic(folder.with_suffix(TIME), f"{time.time() - began:.1f}\n")


def seconds(study: str, profile: str) -> float | None:
    """What the last such run took on this machine; None where there was none."""
    try:
        noted = records.local_path(study, profile).parent.with_suffix(TIME)
        return float(noted.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def named(study: str) -> dict[str, Path]:
    """Where each result of a study is: `laptop` (published, else local), `laptop-published`,
    `laptop-local`, and `custom-<key>` for runs with parameters of their own."""
    found: dict[str, Path] = {}
    for profile in params.load_spec(study).profiles:
        local, public = records.local_path(study, profile), records.published_path(study, profile)
        kinds = {f"{profile}-published": public, f"{profile}-local": local, profile: local}
        kinds |= {profile: public} if public.is_file() else {}
        found |= {name: path for name, path in kinds.items() if path.is_file()}
    custom = sorted((files.build() / study).glob("custom-*/result.json"))
    return found | {path.parent.name: path for path in custom}


def lines(study: str, profile: str | None = None) -> Iterator[str]:
    """What the store holds besides the last result of a profile: custom runs, and local runs
    whose numbers differ from the published ones. Name, profile, what was set, verdicts."""
    for name, path in named(study).items():
        custom = name.startswith("custom-")
        if not custom and not name.endswith("-local"):
            continue
        try:
            record = {**records.load(path), "published": False}
        except DataError as error:  # of an earlier version, perhaps: the others are still shown
            yield f"{name}  {error}"
            continue
        own, source = record["profile"], record["provenance"]
        same = not custom and record["claims"] == records.find(study, own)["claims"]
        if profile in (None, own) and not same:
            given = ", ".join(f"{key}={record['params'][key]}" for key in source.get("set", []))
            yield f"{name}  {own}{given and f' with {given}'}: {told(record)}"


def compare(study: str, profile: str, other: str) -> Iterator[str]:
    """Claim by claim, the result of a profile and another one, which is named as in `named`."""
    found = named(study)
    if other not in found:
        seen = message("--with", other, ", ".join(found) or "nothing yet", nearest(other, found))
        raise ParameterError(seen)
    pair = records.find(study, profile), records.load(found[other])
    yield f"{study}: {profile} | {other}"
    rows = [{row["id"]: row for row in record["claims"]} for record in pair]
    for id in rows[0] | rows[1]:
        verdicts = (each[id]["verdict"] if id in each else "no such claim" for each in rows)
        yield f"{id}: " + " | ".join(verdicts)
        tables = [points(each[id]) if id in each else {} for each in rows]
        for label in tables[0] | tables[1]:
            yield f"    {label}: " + " | ".join(table.get(label, "-") for table in tables)


def saes(study: str) -> dict[str, dict[str, Any]]:
    """By content key, the SAEs of a study's runs that the store still holds, with its `runs`."""
    params.load_spec(study)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((files.build() / study).glob(f"*/{SAES}")):
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            fix = "Run the study again."
            raise DataError(f"{files.short(path)}: cannot be read ({error}). {fix}") from None
        for row in rows:
            if (files.place(row["key"]) / "sae.json").is_file():
                found.setdefault(row["key"], {**row, "runs": {}})["runs"][path.parent.name] = 1
    return found


def sae_lines(study: str) -> Iterator[str]:
    """One line per SAE: name, size, place in its sweep, L0 when last logged, runs, folder."""
    for key, row in saes(study).items():
        parts = [key[:12], f"{row['d_in']} x {row['d_sae']}", row["activation"]]
        parts += [f"{name}={value}" for name, value in row["index"].items()]
        parts.append(f"L0 {'-' if row['l0'] is None else format(row['l0'], '.3g')}")
        yield "  ".join([*parts, ",".join(row["runs"]), files.short(files.place(key))])


def export(study: str, name: str, folder: str) -> Path:
    """Write one SAE as `load_sae` reads it; `name` is the beginning of its key."""
    from ..store.checkpoint import load_sae, save_sae

    known = saes(study)
    matching = [key for key in known if key.startswith(name)]
    if len(matching) != 1:
        shown = ", ".join(key[:12] for key in known) or f"none: run {study} first"
        fix = f"Take a name that `python -m srclib saes {study}` shows."
        raise ParameterError(message("--export", name, f"one of {shown}", fix))
    return save_sae(load_sae(files.place(matching[0])), folder)
