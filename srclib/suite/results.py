"""Results that stand in the store: found by name, put side by side, and the SAEs they left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ParameterError, message
from . import params, records
from .claims import summary
from .params.fields import nearest
from .records import Record

SAES = "saes.jsonl"  # in a run's folder: one line per SAE that the run trained or loaded


def counts(record: Record) -> str:
    """`reduced: 20 replicated, 3 partly; paper: 4 not assessed`: scales are never added."""
    return "; ".join(
        f"{scale}: " + ", ".join(f"{count} {verdict}" for verdict, count in row.items() if count)
        for scale, row in summary([record]).items()
    )


def origin(record: Record) -> str:
    return "" if record.get("published", True) else " (not published)"


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
    """What stands in the store besides the results of the profiles as they are: name and verdicts.

    That is local runs of a published profile whose numbers differ, and custom runs.
    """
    found = named(study)
    for name, path in found.items():
        own = name.removesuffix("-local")
        if name.startswith("custom-"):
            record = records.load(path)
            changed = record["provenance"].get("overridden", [])
            given = ", ".join(f"{key}={record['params'][key]}" for key in changed)
            if profile in (None, record["profile"]):
                yield f"{name}  {record['profile']} with {given}: {counts(record)}"
        elif name != own and f"{own}-published" in found and profile in (None, own):
            record = records.load(path)
            if record["claims"] != records.find(study, own)["claims"]:
                yield f"{name}  {counts(record)} (not published)"


def compare(study: str, profile: str, other: str) -> Iterator[str]:
    """Claim by claim, the result of a profile and another one, which is named as in `lines`."""
    found = named(study)
    if other not in found:
        seen = message("--with", other, ", ".join(found) or "nothing yet", nearest(other, found))
        raise ParameterError(seen)
    left, right = records.find(study, profile), records.load(found[other])
    before, after = ({row["id"]: row for row in each["claims"]} for each in (left, right))
    yield f"{study}: {profile}{origin(left)} | {other}"
    for id in before | after:
        pair = before.get(id), after.get(id)
        yield f"{id}: " + " | ".join(row["verdict"] if row else "no such claim" for row in pair)
        tables = [_cells(row) if row else {} for row in pair]
        for label in tables[0] | tables[1]:
            yield f"    {label}: " + " | ".join(table.get(label, "-") for table in tables)


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """{label: "0.93 [0.9, 0.95]"} of a claim's measurement."""
    measured, interval = row["measured"], row["interval"]
    if measured is None:
        return {}
    if not isinstance(measured, dict):
        measured, interval = {"value": measured}, {"value": interval}
    spread = interval or {}
    return {
        label: f"{'-' if value is None else format(value, '.4g')}{_range(spread.get(label))}"
        for label, value in measured.items()
    }


def _range(interval: list[float] | None) -> str:
    return f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""


def saes(study: str) -> dict[str, dict[str, Any]]:
    """By content key, the SAEs of a study's runs that the store still holds, with its `runs`."""
    params.load_spec(study)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((files.build() / study).glob(f"*/{SAES}")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if (files.place(row["key"]) / "sae.json").is_file():
                found.setdefault(row["key"], {**row, "runs": {}})["runs"][path.parent.name] = None
    return found


def sae_lines(study: str) -> Iterator[str]:
    """One line per SAE: name, size, where it stands in its sweep, how good it is, its folder."""
    for key, row in saes(study).items():
        index = [f"{name}={value}" for name, value in row["index"].items()]
        index += [f"seed={row['seed']}"] if "seed" in row and "seed" not in row["index"] else []
        quality = [f"{name} {_number(row.get(name.lower()))}" for name in ("L0", "FVU")]
        size = f"{row['d_in']} x {row['d_sae']}  {row['activation']}"
        parts = [key[:12], size, " ".join(index), *quality, ",".join(row["runs"])]
        yield "  ".join([*filter(None, parts), files.short(files.place(key))])


def _number(value: float | None) -> str:
    return "-" if value is None else format(value, ".3g")


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
