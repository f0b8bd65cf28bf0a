"""Result records: find them, check their form, seal them against edits by hand.

A record is what one run of a study measured and how each claim was judged. Published
records stand in `data/results/<study>.<profile>.json` and are committed; those of local
runs stand in `build/<study>/<profile>/result.json`.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict, get_type_hints

from .. import files
from ..errors import DataError
from . import judging, params, schema
from .params import Scale
from .verdicts import Record, Verdict

SEAL = "record_sha256"

_Pair = tuple[float, float]


class _Required(TypedDict):
    id: str
    says: str
    where: str
    paper_value: str | None
    measured: float | dict[str, float | None] | None
    interval: _Pair | dict[str, _Pair | None] | None
    n_seeds: int
    scale: Scale
    verdict: Verdict
    reason: str


class _Row(_Required, total=False):
    says_ja: str
    note: str
    values: dict[str, list[float | None]] | None  # absent or null where a record is older
    interval_kind: str  # of an interval that is not the range of the values
    basis: Literal["measured", "by construction"]
    could_be_us: bool
    history: list[Any]


class _Run(TypedDict):
    study: str
    profile: str
    params: dict[str, Any]
    claims: list[Any]
    provenance: dict[str, Any]


class _Form(_Run, total=False):
    schema: Literal[1, 2]  # 2 holds the values of every unit; absent is 1


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
    return {**judging.never_run(study, profile), "published": False}


def load(path: Path) -> Record:
    """Read and check one record file. Raises DataError naming the file and the field."""
    where = path.relative_to(files.root()).as_posix()
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
        if is_sealed(record) and judging.rejudge(record):
            provenance = {**record["provenance"], "rejudged": date.today().isoformat()}
            fresh = seal({**judging.rederive(record), "provenance": provenance})
            files.write_atomic(path, files.pretty(fresh))
            changed.append(path)
    return changed


def seal(record: Record) -> Record:
    """A copy of the record whose provenance holds the hash of everything else in it."""
    bare = {name: value for name, value in record["provenance"].items() if name != SEAL}
    digest = files.sha256(files.canonical({**record, "provenance": bare}))
    return {**record, "provenance": {**bare, SEAL: digest}}


def is_sealed(record: Record) -> bool:
    """Whether the record is exactly as the run left it."""
    return bool(seal(record) == record)


def check_record(record: object, where: str) -> None:
    """Raise DataError, naming `where` and the field, unless `record` is well formed."""
    record = _check_fields(record, _Form, where, "record")
    for index, row in enumerate(record["claims"]):
        row = _check_fields(row, _Row, where, f"claims[{index}]")
        name = f"claim {row['id']}"
        measured, interval = row["measured"], row["interval"]
        pairs = interval.values() if isinstance(interval, dict) else [interval]
        if any(pair is not None and pair[0] > pair[1] for pair in pairs):
            _refuse(where, f"{name}, interval", interval, "[low, high] with low <= high")
        if isinstance(interval, dict) and not _labels(interval) <= _labels(measured):
            _refuse(where, f"{name}, interval", sorted(interval), "the labels of measured")
        if row.get("values") is not None and _labels(row["values"]) != _labels(measured):
            _refuse(where, f"{name}, values", sorted(row["values"]), "the labels of measured")
        if row["n_seeds"] < 0:
            _refuse(where, f"{name}, n_seeds", row["n_seeds"], "a whole number >= 0")
        if row["verdict"] == "not assessed" and not row["reason"]:
            _refuse(where, f"{name}, reason", row["reason"], "a reason for 'not assessed'")
    ids = [row["id"] for row in record["claims"]]
    if len(set(ids)) != len(ids):
        _refuse(where, "claims", ids, "each id once")


def _labels(table: object) -> set[str]:
    return set(table) if isinstance(table, dict) else {"value"}


def _check_fields(value: object, form: Any, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, name, value, "a JSON object")
    for field, hint in get_type_hints(form).items():
        present = field in value
        if present != (field in form.__required_keys__) and not present:
            _refuse(where, name, sorted(value), f"one with {field}")
        if present and not schema.fits(value[field], hint):
            _refuse(where, f"{name}, {field}", value[field], schema.words(hint))
    return value


def _refuse(where: str, name: str, seen: object, allowed: str) -> NoReturn:
    raise DataError(
        f"{where}: {name} is {seen!r:.80}; allowed is {allowed}. "
        "Records are never edited by hand: run the study again."
    )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
