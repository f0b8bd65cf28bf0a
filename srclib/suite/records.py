"""Result records: find them, check their form, seal them against edits by hand.

A record is what one run of a study measured and how each claim was judged. Published
records stand in `data/results/<study>.<profile>.json` and are committed; those of local
runs stand in `build/<study>/<profile>/result.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from .. import files
from ..errors import DataError, message, whole
from . import judging, params, schema
from .params import Scale
from .verdicts import Record as Record
from .verdicts import Verdict

SEAL = "record_sha256"

Pair = tuple[float, float]
_AGAIN = "Records are never edited by hand: run the study again."


@dataclass(frozen=True)
class Row:
    """One claim of a record; what has a default may be absent, as in older records."""

    id: str
    says: str
    where: str
    paper_value: str | None
    measured: float | dict[str, float | None] | None
    interval: Pair | dict[str, Pair | None] | None
    n_seeds: int
    scale: Scale
    verdict: Verdict
    reason: str
    says_ja: str = ""
    note: str = ""
    values: dict[str, list[float | None]] | None = None  # one number per outermost unit
    interval_kinds: dict[str, str] | None = None  # of labels whose interval is no range of units
    basis: Literal["measured", "by construction"] = "measured"
    could_be_us: bool = False
    history: list[Any] | None = None

    def __post_init__(self) -> None:
        whole("n_seeds", self.n_seeds)
        labels = set(self.measured) if isinstance(self.measured, dict) else {"value"}
        same = dict.fromkeys(labels, self.interval)
        pairs: dict[str, Any] = self.interval if isinstance(self.interval, dict) else same
        ordered = all(pair is None or pair[0] <= pair[1] for pair in pairs.values())
        if not ordered or not set(pairs) <= labels:
            allowed = "low <= high for labels of measured"
            raise ValueError(message("interval", self.interval, allowed, _AGAIN))
        if self.values is not None and set(self.values) != labels:
            raise ValueError(message("values", list(self.values), "the labels of measured", _AGAIN))


@dataclass(frozen=True)
class Run:
    """A record: schema 2 has the values of every unit; `published` is said when shown."""

    study: str
    profile: str
    params: dict[str, Any]
    claims: list[Any]
    provenance: dict[str, Any]
    schema: Literal[1, 2] = 1
    published: bool = True


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
    where = files.short(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
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
    sealed: Record = files.seal(record, "provenance", SEAL)
    return sealed


def is_sealed(record: Record) -> bool:
    """Whether the record is exactly as the run left it."""
    return bool(seal(record) == record)


def check_record(record: object, where: str) -> None:
    """Raise DataError, naming `where` and the field, unless `record` is well formed."""
    rows = schema.read(Run, record, where, DataError, _AGAIN).claims
    for index, row in enumerate(rows):
        name = row.get("id", index) if isinstance(row, dict) else index
        schema.read(Row, row, f"{where}: claim {name}", DataError, _AGAIN)
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        raise DataError(message(f"{where}: claims", ids, "each id once", _AGAIN))
