"""Result records: find them, check their form, seal them against edits by hand.

A record is what one run of a study measured and how each claim was judged. Published ones are
committed in `data/results/`; those of local runs stand in the store.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from .. import files
from ..errors import DataError
from . import judging, params
from .verdicts import VERDICTS, Record

SEAL = "record_sha256"
FIELDS = {"study", "profile", "params", "claims", "provenance"}
OF_CLAIM = {"id", "says", "where", "paper_value", "measured", "interval", "n_seeds", "scale"}


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
    if (path := published_path(study, profile)).exists():
        return load(path)
    path = local_path(study, profile)
    record = load(path) if path.exists() else judging.never_run(study, profile)
    return {**record, "published": False}


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
    return dict(files.seal(record, "provenance", SEAL))


def is_sealed(record: Record) -> bool:
    """Whether the record is exactly as the run left it."""
    return seal(record) == record


def check_record(record: object, where: str) -> None:
    """Raise DataError, naming `where`, unless `record` looks like one; `verify` judges its values.

    `schema` 2 has the values of every unit, 3 the evidence; a record without it is of the first.
    """
    if not isinstance(record, dict) or not record.keys() >= FIELDS:
        raise DataError(f"{where}: not a record, which has {sorted(FIELDS)}. Run the study again.")
    if record.get("schema", 1) not in (1, 2, 3):
        raise DataError(f"{where}: schema={record['schema']!r}: allowed is 1 to 3. Update srclib.")
    for row in record["claims"]:
        lacking = sorted(OF_CLAIM - row.keys())
        if lacking or row.get("verdict") not in VERDICTS or not row.get("reason"):
            seen = f"lacks {lacking}" if lacking else f"verdict={row.get('verdict')!r}"
            allowed = f"allowed is {', '.join(VERDICTS)}, with a reason"
            raise DataError(f"{where}: claim {row.get('id')}: {seen}: {allowed}. Run it again.")
