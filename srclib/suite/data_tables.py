"""The tables below data/ that notebooks read, checked against data/tables.toml before a run starts.

pandas reads an empty cell as a missing number, "NA" as none at all, and forty as text that sums
by joining: a claim then moves without a word. So every cell is read strictly here first.
"""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, ParameterError, message, nearest
from ..store import files
from .schema import KINDS, Field, fits, one_of, read, read_toml

KINDS_OF_FILE = (".csv", ".tsv", ".jsonl")
SCHEMAS = "tables.toml"
# What pandas takes for a missing value, and blank text.
_MISSING = re.compile(r"\s*|#?n/?a|#n/a n/a|-?nan|-?1\.#(ind|qnan)|<na>|null|none", re.IGNORECASE)

Row = dict[str, Any]


@dataclass(frozen=True)
class Schema:
    """Columns in their order; `key`: a column that tells rows apart; `sums`: the first of each
    list is the sum of the others."""

    columns: list[dict]  # type: ignore[type-arg]
    key: str
    sums: list[list[str]]

    def __post_init__(self) -> None:
        numbers = [name for name, field in self.fields.items() if field.type != "str"]
        bounds = [b for f in self.fields.values() for b in f.bounds.values() if isinstance(b, str)]
        for name in [*bounds, *(each for sum in self.sums for each in sum)]:
            one_of("a bound or a sum", name, numbers, DataError)
        one_of("key", self.key, self.fields, DataError)

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """By name, as the file has them from left to right."""
        found = {}
        for column in self.columns:
            field = read(Field, column, "columns", DataError)
            one_of(f"columns: {field.name}: type", field.type, KINDS, DataError)
            found[field.name] = field
        return found


def check(study: str | None = None) -> None:
    """Raise DataError, naming file, line and column, unless the tables of a study (None: all)
    are what their schemas say; also for a table without a schema, or a schema without its table."""
    data = files.root() / "data"
    path = data / SCHEMAS
    schemas = read_toml(path, DataError) if path.is_file() else {}
    found = {each.relative_to(data).as_posix() for each in data.rglob("*") if _is_table(each)}
    for name in sorted({*schemas, *found}):
        if study not in (None, name.partition("/")[0]):
            continue
        if name not in schemas:
            raise DataError(f"data/{name}: no schema in data/{SCHEMAS}. {_add(name, schemas)}")
        if name not in found:
            raise DataError(
                f"data/{SCHEMAS}: {name} is no table below data/. Restore or remove it."
            )
        schema = read(Schema, schemas[name], f"data/{SCHEMAS}: {name}", DataError)
        check_table(data / name, schema)


def _is_table(path: Path) -> bool:
    return path.suffix in KINDS_OF_FILE and path.is_file()


def _add(name: str, schemas: Mapping[str, object]) -> str:
    return f"Add one, as the others have. {nearest(name, schemas)}"


def check_table(path: Path, schema: Schema) -> list[Row]:
    """The rows of one table as typed values. Raises DataError, see `check`."""
    where, fields = f"data/{path.parent.name}/{path.name}", schema.fields
    typed = path.suffix == ".jsonl"
    rows, keys = [], set[Any]()
    for number, raw in _json_rows(path, where) if typed else _csv_rows(path, where, list(fields)):
        place = f"{where}, line {number}"
        if differing := sorted(raw.keys() ^ fields.keys()):
            what = "unknown" if differing[0] in raw else "no"
            raise DataError(f"{place}: {what} column {differing[0]!r}. Restore the line.")
        row = {name: _value(place, field, raw[name], typed) for name, field in fields.items()}
        _check_row(place, row, schema)
        if (key := row[schema.key]) in keys:
            raise DataError(message(f"{place}: {schema.key}", key, "one row for each", "Drop one."))
        keys.add(key)
        rows.append(row)
    if not rows:
        raise DataError(f"{where}: no rows. Restore the file.")
    return rows


def _value(place: str, field: Field, raw: Any, typed: bool) -> Any:
    """A cell as a value of its column's type; typed: no text is a number. Raises DataError."""
    missing = isinstance(raw, str) and (_MISSING.fullmatch(raw) or raw != raw.strip())
    if missing or (typed and not fits(raw, KINDS[field.type].of)):
        allowed = f"{field.type}: {field.help}"
        raise DataError(message(f"{place}: {field.name}", raw, allowed, "Correct the cell."))
    try:
        return field.accept(raw)
    except ParameterError as error:
        raise DataError(f"{place}: {error}") from None


def _check_row(place: str, row: Row, schema: Schema) -> None:
    for name, field in schema.fields.items():
        try:
            field.accept(row[name], row)
        except ParameterError as error:
            raise DataError(f"{place}: {error}") from None
    for total, *parts in schema.sums:
        if row[total] != (seen := sum(row[name] for name in parts)):
            allowed = f"the sum of {', '.join(parts)}, which is {seen}"
            raise DataError(message(f"{place}: {total}", row[total], allowed, "Correct the row."))


def _csv_rows(path: Path, where: str, columns: list[str]) -> Iterator[tuple[int, Row]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            header = next(reader, [])
            if header != columns:
                allowed = ",".join(columns)
                raise DataError(
                    message(f"{where}: columns", ",".join(header), allowed, "Restore it.")
                )
            for cells in reader:
                if len(cells) != len(header):
                    seen = f"{len(cells)} cells; allowed are {len(header)}, one for each column"
                    raise DataError(f"{where}, line {reader.line_num}: {seen}. Restore the line.")
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: cannot be read as a table ({error}). Restore it.") from None


def _json_rows(path: Path, where: str) -> Iterator[tuple[int, Row]]:
    def once(pairs: list[tuple[str, Any]]) -> Row:
        if len(row := dict(pairs)) < len(pairs):
            raise ValueError("a column stands twice")
        return row

    number = 0
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line, object_pairs_hook=once)
            if not isinstance(row, dict):
                raise ValueError("it is no table")
            yield number, row
    except (OSError, ValueError, RecursionError) as error:
        what = f"cannot be read as JSON ({error}). Restore it."
        raise DataError(f"{where}, line {number}: {what}") from None
