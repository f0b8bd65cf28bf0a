"""Results that stand in the store: found by name, put side by side, and the SAEs they left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..errors import DataError, ParameterError, message, nearest
from . import params, records
from .records import Record
from .verdicts import summary

SAES = "saes.jsonl"  # in a run's folder: one line per SAE that the run trained or loaded


def told(record: Record) -> str:
    """`reduced: 20 replicated, 3 partly; paper: 4 not assessed`: scales are never added."""
    text = "; ".join(
        f"{scale}: " + ", ".join(f"{count} {verdict}" for verdict, count in row.items() if count)
        for scale, row in summary([record]).items()
    )
    return text + ("" if record.get("published", True) else " (not published)")


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
        tables = [_cells(each[id]) if id in each else {} for each in rows]
        for label in tables[0] | tables[1]:
            yield f"    {label}: " + " | ".join(table.get(label, "-") for table in tables)


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """{label: "0.93 [0.9, 0.95]"} of a claim's measurement."""
    measured, interval = row["measured"], row["interval"]
    if not isinstance(measured, dict):
        measured, interval = {"value": measured}, {"value": interval}
    shown = {label: "-" if value is None else f"{value:.4g}" for label, value in measured.items()}
    for label, (low, high) in ((k, v) for k, v in (interval or {}).items() if v):
        shown[label] += f" [{low:.4g}, {high:.4g}]"
    return shown if row["measured"] is not None else {}


def saes(study: str) -> dict[str, dict[str, Any]]:
    """By content key, the SAEs of a study's runs that the store still holds, with its `runs`."""
    params.load_spec(study)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((files.build() / study).glob(f"*/{SAES}")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if (files.place(row["key"]) / "sae.json").is_file():
                found.setdefault(row["key"], {**row, "runs": {}})["runs"][path.parent.name] = 1
    return found


def sae_lines(study: str) -> Iterator[str]:
    """One line per SAE: name, size, place in its sweep, how good it is, its runs, its folder."""
    for key, row in saes(study).items():
        index = {"seed": row["seed"]} if "seed" in row else {}
        parts = [key[:12], f"{row['d_in']} x {row['d_sae']}", row["activation"]]
        parts += [f"{name}={value}" for name, value in (index | row["index"]).items()]
        for name in ("L0", "FVU"):
            value = row.get(name.lower())
            parts.append(f"{name} {'-' if value is None else format(value, '.3g')}")
        yield "  ".join([*parts, ",".join(row["runs"]), files.short(files.place(key))])


def export(study: str, name: str, folder: str) -> Path:
    """Write one SAE as `load_sae` reads it; `name` is the beginning of its key."""
    from ..checkpoint import load_sae, save_sae

    known = saes(study)
    matching = [key for key in known if key.startswith(name)]
    if len(matching) != 1:
        shown = ", ".join(key[:12] for key in known) or f"none: run {study} first"
        fix = f"Take a name that `python -m srclib saes {study}` shows."
        raise ParameterError(message("--export", name, f"one of {shown}", fix))
    return save_sae(load_sae(files.place(matching[0])), folder)
