"""Result records: find them, check their form, seal them against edits by hand.

A record is what one run of a study measured and how each claim was judged. Published ones are
committed in `data/results/`; those of local runs stand in the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import ClaimError, DataError, message
from ..store import files, seals
from . import judging, params
from .claims import SCALES
from .judging import SCHEMA
from .verdicts import VERDICTS, Record

SEAL = "record_sha256"
_JUDGED = ("verdict", "basis", "scale")
FIELDS = {"study", "profile", "params", "claims", "provenance"}
OF_CLAIM = {"id", "says", "where", "paper_value", "measured", "interval", "n_seeds", "scale"}
KNOWN = FIELDS | {"schema", "evidence", "published"}
KNOWN_OF_CLAIM = OF_CLAIM | {
    "says_ja", "basis", "history", "could_be_us", "values", "verdict", "reason", "note",
    "interval_kinds",
}  # fmt: skip
# Control characters, and those that turn the direction of a line: text stays in its cell.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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
        return _own(path, study, profile)
    path = local_path(study, profile)
    record = _own(path, study, profile) if path.exists() else judging.never_run(study, profile)
    return {**record, "published": False}


def _own(path: Path, study: str, profile: str) -> Record:
    record = load(path)
    if (seen := (record["study"], record["profile"])) != (study, profile):
        fix = "Run the study again."
        told = f"{files.short(path)}: study and profile"
        raise DataError(message(told, seen, f"{study}, {profile}", fix))
    return record


def load(path: Path, edited: bool = False) -> Record:
    """Read and check one record file. Raises DataError naming the file and the field.

    edited: also one that is not as its run left it, for who tells that it is not.
    """
    where = files.short(path)
    record = seals.read_json(path, "Run the study again.")
    check_record(record, where)
    if not (edited or is_sealed(record)):
        raise DataError(f"{where}: was edited by hand. Restore it, or run the study again.")
    return dict(record)


def shown(cells: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records that the cells of an executed notebook show."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    found = [output.get("data", {}).get("application/json") for output in outputs]
    return [data for data in found if isinstance(data, dict) and data.keys() >= FIELDS]


def rejudge_published() -> list[Path]:
    """Write into published records what the present ledger makes of their measurements.

    For records of long runs whose rule or wording has changed: measurements, commit and date stay,
    the provenance gains the day. Records that were edited by hand are left for `verify` to name.
    Raises ClaimError, and writes nothing, where a verdict would change without a word about it.
    """
    changed = {}
    for path in sorted((files.root() / "data" / "results").glob("*.json")):
        record = load(path, edited=True)
        if is_sealed(record) and judging.rejudge(record):
            provenance = {**record["provenance"], "rejudged": date.today().isoformat()}
            changed[path] = {**judging.rederive(record), "provenance": provenance}
            refuse_silent(record, files.short(path))
    for path, fresh in changed.items():
        files.write_atomic(path, files.pretty(seal(fresh)))
    return list(changed)


def refuse_silent(record: Record, where: str) -> None:
    """What the present ledger makes of a record's values may be another verdict only in words.

    Each claim whose verdict, basis or scale it changes needs a line of history that is new and
    names this record's profile and verdict; older lines stay, and no claim that was judged goes.
    Raises ClaimError naming the claim.
    """
    ledger = f"data/claims/{record['study']}.toml"
    fresh = {row["id"]: row for row in judging.rederive(record)["claims"]}
    for old in record["claims"]:
        name, row, before = f"{where}: {old['id']}", fresh.get(old["id"]), old.get("history", [])
        if row is None:
            fix = "Keep it, or remove the record and run the study anew."
            raise ClaimError(message(name, "gone", f"a claim of {ledger}", fix))
        if row["history"][: len(before)] != before:
            allowed = "the lines that the record has, and new ones behind them"
            raise ClaimError(message(f"{name}: history", "rewritten", allowed, "Restore them."))
        kept = [key for key in _JUDGED if key in old and row[key] != old[key]]
        added = [(each["profile"], each["verdict"]) for each in row["history"][len(before) :]]
        if kept and (record["profile"], old["verdict"]) not in added:
            seen = "; ".join(f"{old[key]} becomes {row[key]}" for key in kept)
            line = f"profile = {record['profile']!r}, verdict = {old['verdict']!r}"
            allowed = f"a new line of its history in {ledger} with {line}"
            raise ClaimError(message(name, seen, allowed, "Say there what was changed."))


def seal(record: Record) -> Record:
    """A copy of the record whose provenance holds the hash of everything else in it."""
    return dict(files.seal(record, "provenance", SEAL))


def is_sealed(record: Record) -> bool:
    """Whether the record is exactly as the run left it."""
    try:
        return seal(record) == record
    except UnicodeEncodeError:  # half a character: no text that we wrote
        return False


def check_record(record: object, where: str) -> None:
    """Raise DataError, naming `where`, unless `record` looks like one; `verify` judges its values.

    `schema` 2 has the values of every unit, 3 the evidence; a record without it is of the first.
    """
    if not isinstance(record, dict) or not record.keys() >= FIELDS:
        raise DataError(f"{where}: not a record, which has {sorted(FIELDS)}. Run the study again.")
    for name in ("params", "provenance"):
        if not isinstance(record[name], dict):
            raise DataError(message(f"{where}: {name}", record[name], "a table", "Run it again."))
    if record.get("schema", 1) not in range(1, SCHEMA + 1):
        raise DataError(
            f"{where}: schema={record['schema']!r}: allowed is 1 to {SCHEMA}. Update srclib."
        )
    if record.get("schema", 1) > 2 and not isinstance(record.get("evidence"), dict):
        raise DataError(f"{where}: no evidence, which schema 3 has. Run the study again.")
    _refuse_unknown(record, KNOWN, where, record)
    rows = record["claims"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: claims are no list of tables. Run the study again.")
    ids = [row.get("id") for row in rows]
    if twice := sorted({str(each) for each in ids if ids.count(each) > 1}):
        raise DataError(f"{where}: {', '.join(twice)} stand twice. Run the study again.")
    for row in rows:
        _refuse_unknown(row, KNOWN_OF_CLAIM, f"{where}: claim {row.get('id')}", record)
        if text := next((each for each in _texts(row) if _UNSEEN.search(each)), None):
            place = f"{where}: claim {row.get('id')}"
            raise DataError(message(place, text, "text of one line", "Remove what is not seen."))
        if row.get("scale") not in SCALES:
            fix = "Run it again."
            place = f"{where}: claim {row.get('id')}: scale"
            raise DataError(message(place, row.get("scale"), ", ".join(SCALES), fix))
        lacking = sorted(OF_CLAIM - row.keys())
        if lacking or row.get("verdict") not in VERDICTS or not row.get("reason"):
            seen = f"lacks {lacking}" if lacking else f"verdict={row.get('verdict')!r}"
            allowed = f"allowed is {', '.join(VERDICTS)}, with a reason"
            raise DataError(f"{where}: claim {row.get('id')}: {seen}: {allowed}. Run it again.")


def _refuse_unknown(row: Mapping[str, Any], known: set[str], where: str, record: Record) -> None:
    if unknown := sorted(row.keys() - known):
        versions = (
            f"it is of schema {record.get('schema', 1)}, and this srclib knows up to {SCHEMA}"
        )
        older = record.get("schema", 1) < SCHEMA
        fix = "Run the study again." if older else "Update srclib."
        raise DataError(f"{where}: unknown {', '.join(unknown)}: {versions}. {fix}")


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a value, keys included."""
    if isinstance(value, str):
        yield value
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    for part in parts if isinstance(parts, list) else ():
        yield from _texts(part)
