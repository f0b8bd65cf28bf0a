"""Result records: find them, check their form, seal them against edits by hand.

A record is what one run of a study measured and how each claim was judged. Published
records stand in `data/results/<study>.<profile>.json` and are committed; those of local
runs stand in `build/<study>/<profile>/result.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from .. import files
from ..errors import DataError
from . import claims, params
from .claims import VERDICTS
from .params import SCALES

SEAL = "record_sha256"

Record = dict[str, Any]


def published_path(study: str, profile: str) -> Path:
    return files.root() / "data" / "results" / f"{study}.{profile}.json"


def local_path(study: str, profile: str) -> Path:
    return files.build() / study / profile / "result.json"


def find(study: str, profile: str) -> Record:
    """The published record; else the last local run; else every claim as never run.

    The latter two carry `"published": false`. Raises ParameterError for an unknown study,
    DataError for a file that is no record.
    """
    params.load_spec(study)
    if published_path(study, profile).exists():
        return load(published_path(study, profile))
    if local_path(study, profile).exists():
        return {**load(local_path(study, profile)), "published": False}
    return {**claims.never_run(study, profile), "published": False}


def load(path: Path) -> Record:
    """Read and check one record file. Raises DataError naming the file and the field."""
    where = files.short(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where}: cannot be read as JSON ({error}). Run the study again."
        ) from None
    check_record(record, where)
    return dict(record)


def rejudge_published() -> list[Path]:
    """Write into published records what the present ledger makes of their measurements.

    For records of long runs whose rule or wording has changed: measurements, commit and date stay,
    the provenance gains the day. Records that were edited by hand are left for `verify` to name.
    """
    changed = []
    for path in sorted((files.root() / "data" / "results").glob("*.json")):
        record = load(path)
        if is_sealed(record) and claims.rejudge(record):
            provenance = {**record["provenance"], "rejudged": date.today().isoformat()}
            fresh = seal({**claims.rederive(record), "provenance": provenance})
            files.write_atomic(path, files.pretty(fresh))
            changed.append(path)
    return changed


def seal(record: Record) -> Record:
    """A copy of the record whose provenance holds the hash of everything else in it."""
    sealed: Record = files.seal(record, "provenance", SEAL)
    return sealed


def is_sealed(record: Record) -> bool:
    """Whether the record is exactly as the run left it."""
    return bool(seal(record) == record)


def check_record(record: object, where: str) -> None:
    """Raise DataError, naming `where` and the field, unless `record` is well formed."""
    fields = {"study": str, "profile": str, "params": dict, "claims": list, "provenance": dict}
    record = _check_fields(record, fields, where, "record")
    for index, row in enumerate(record["claims"]):
        name = f"claims[{index}]"
        _check_fields(row, {"id": str, "says": str, "where": str, "verdict": str}, where, name)
        _check_row(row, where, f"claim {row['id']}")
    ids = [row["id"] for row in record["claims"]]
    if len(set(ids)) != len(ids):
        _refuse(where, "claims", ids, "each id once")


def _check_row(row: Mapping[str, Any], where: str, name: str) -> None:
    for field in ("paper_value", "measured", "interval", "n_seeds", "scale", "reason"):
        if field not in row:
            _refuse(where, name, sorted(row), f"a row with {field}")
    measured, interval = row["measured"], row["interval"]
    values = measured.values() if isinstance(measured, dict) else [measured]
    if not all(value is None or _is_number(value) for value in values):
        _refuse(where, f"{name}, measured", measured, "a finite number, a table of them, or null")
    intervals = interval.values() if isinstance(interval, dict) else [interval]
    if not all(value is None or _is_interval(value) for value in intervals):
        _refuse(where, f"{name}, interval", interval, "[low, high], a table of them, or null")
    if isinstance(interval, dict) and not (
        isinstance(measured, dict) and set(interval) <= set(measured)
    ):
        _refuse(where, f"{name}, interval", sorted(interval), "the labels of measured")
    n_seeds = row["n_seeds"]
    if n_seeds is not None and (type(n_seeds) is not int or n_seeds < 0):
        _refuse(where, f"{name}, n_seeds", n_seeds, "a whole number >= 0, or null")
    if row["scale"] not in (*SCALES, None):
        _refuse(where, f"{name}, scale", row["scale"], ", ".join(SCALES))
    if row["verdict"] not in VERDICTS:
        _refuse(where, f"{name}, verdict", row["verdict"], ", ".join(VERDICTS))
    if row["verdict"] == "not assessed" and not row["reason"]:
        _refuse(where, f"{name}, reason", row["reason"], "a reason for 'not assessed'")


def _check_fields(
    value: object, fields: Mapping[str, type], where: str, name: str
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, name, value, "a JSON object")
    for field, kind in fields.items():
        if not isinstance(value.get(field), kind):
            _refuse(where, f"{name}, {field}", value.get(field), f"a {kind.__name__}")
    return value


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_interval(value: object) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return pair and value[0] <= value[1]  # type: ignore[index]


def _refuse(where: str, name: str, seen: object, allowed: str) -> NoReturn:
    raise DataError(
        f"{where}: {name} is {seen!r:.80}; allowed is {allowed}. "
        "Records are never edited by hand: run the study again."
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
