"""Texts that a user brings, read as documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, message
from ..store import files

if TYPE_CHECKING:
    from datasets import Dataset

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
KINDS = (".txt", ".jsonl", ".parquet")
PASSED_OVER = (".zst", ".gz", ".bz2", ".xz", ".zip", ".csv", ".tsv", ".arrow")
FORMS = "saved dataset with a column text, or .txt, .jsonl or .parquet: a file or a folder of them"
Place = str | Path | Sequence[str | Path]  # a folder, a file, or several files


def read(path: Place) -> Dataset:
    """A corpus as a `datasets.Dataset` with a column `text`, one document per row.

    path: a folder of `save_to_disk`; a `.txt` with a document per line, a `.jsonl` with a document
        in the field `text` of each line, a `.parquet` with a column `text`; a folder of such
        files, read sorted by name, or a list of them. A corpus may be larger than memory.

    Windows line ends, byte order marks and empty lines are mended. Invalid UTF-8 and lines that
    are no document are refused, because the text cannot be known. Raises DataError naming the
    file and row, another form, the splits of a DatasetDict, and a corpus without documents.
    """
    import datasets

    check(path)
    if _is_saved(path):
        return _saved(path)
    found = _found(path)
    as_of = [(file.stat().st_mtime_ns, file.stat().st_size) for file in found]
    with_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # in a notebook each leaves its lines for ever
    try:
        return datasets.Dataset.from_generator(
            _as_rows,
            gen_kwargs={"found": found, "as_of": as_of},
            features=datasets.Features({"text": datasets.Value("string")}),
            cache_dir=str(files.build() / "cache" / "corpora"),
        )
    except datasets.exceptions.DatasetGenerationError as error:
        raise error.__cause__ or error from None
    finally:
        if with_bars:
            datasets.enable_progress_bars()


def check(path: Place) -> None:
    """Raises what `read` would raise, as far as it shows without reading more than one document."""
    splits = Path(path) / "dataset_dict.json" if isinstance(path, str | Path) and path else None
    if splits and splits.is_file():
        try:
            names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(f"{splits}: is damaged ({error}). Save the dataset again.") from None
        fix = f"Name {' or '.join(str(splits.parent / name) for name in names)}."
        raise DataError(message("corpus", str(path), "one split of a saved dataset", fix))
    first = _saved(path)[:1]["text"] if _is_saved(path) else _documents(_found(path))
    if next(iter(first), None) is None:
        fix = "Bring text, or name another corpus."
        raise DataError(message("corpus", str(path), "one document or more, and it has none", fix))


def _is_saved(path: Place) -> bool:
    return isinstance(path, str | Path) and bool(path) and (Path(path) / "state.json").is_file()


def _saved(path: Place) -> Dataset:
    from datasets import Dataset

    try:
        saved = Dataset.load_from_disk(str(path))
    except (OSError, ValueError, LookupError) as error:  # LookupError: no rows
        raise DataError(f"{path}: dataset is broken or empty ({error}). Save it again.") from error
    _require_text(str(path), saved.data.schema)
    if n_null := saved.data.column("text").null_count:
        seen, fix = f"{n_null} of {len(saved)} empty", "Filter them out, and save it again."
        raise DataError(message(f"{path}: column text", seen, "a text in each row", fix))
    return saved.select_columns("text")


def _require_text(name: str, schema: Any) -> None:
    """schema: of Arrow."""
    from pyarrow import types  # type: ignore[import-untyped]

    if "text" not in schema.names:
        fix = "Rename the column that holds the documents."
        raise DataError(message(f"{name}: columns", schema.names, "a column text", fix))
    kind = schema.field("text").type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind)):
        fix = "Convert it before."
        raise DataError(message(f"{name}: column text", str(kind), "string", fix))


def _found(path: Place) -> list[Path]:
    """The files of a corpus, in the order of reading."""
    if not isinstance(path, str | Path):
        return [file for each in path for file in _found(str(each))]
    place = Path(path)
    if path and place.is_file():
        return [place]
    # an empty name would be the current folder
    found = [f for f in place.iterdir() if f.suffix in KINDS] if path and place.is_dir() else []
    if not found:
        fix = "Mend the path, or bring the corpus."
        raise DataError(message("corpus", str(path), f"an existing {FORMS}", fix))
    if left := sorted(f for f in files.below(place) if _is_data(f) and f not in found):
        names = ", ".join(str(f.relative_to(place)) for f in left[:3])
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        fix = "Unpack or rename them, name a deeper folder, or move them elsewhere."
        allowed = f"a folder whose texts are all read: {', '.join(KINDS)}, none below"
        raise DataError(message(f"corpus {path}: would pass over", names + more, allowed, fix))
    return sorted(found)


def _is_data(file: Path) -> bool:
    return file.suffix.lower() in (*KINDS, *PASSED_OVER) and file.is_file()


def _as_rows(found: list[Path], as_of: object) -> Iterator[dict[str, str]]:
    """as_of: sizes and dates of the files, so that changed ones are read again."""
    return ({"text": text} for text in _documents(found))


def _documents(found: Iterable[Path]) -> Iterator[str]:
    for file in found:
        if file.suffix not in KINDS:
            fix = "Write one document per line."
            raise DataError(message("file", str(file), f"one of {', '.join(KINDS)}", fix))
        if file.suffix == ".parquet":
            yield from _column(file)
            continue
        for row, line in _lines(file):
            yield _field(file, row, line) if file.suffix == ".jsonl" else line


def _column(file: Path) -> Iterator[str]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.ParquetFile(file)
        _require_text(str(file), table.schema_arrow)
        for batch in table.iter_batches(columns=["text"]):
            yield from filter(None, batch.column("text").to_pylist())
    except (OSError, ArrowException) as error:
        raise DataError(f"{file}: cannot be read as parquet ({error}). Save it again.") from None


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Row, counted from 1, and text of every line that holds something."""
    try:
        with open(file, "rb") as lines:  # bytes: text mode would hide the row of a bad one
            for row, raw in enumerate(lines, start=1):
                line = _decoded(file, row, raw.removesuffix(b"\n")).removesuffix("\r")
                line = line.removeprefix(BOM)  # in later rows, too, where files were joined
                if line.strip():
                    yield row, line
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Name another file.") from None


def _decoded(file: Path, row: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}, row {row}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8. "
            "Allowed is UTF-8: convert the file, for example with `iconv -f SHIFT_JIS -t UTF-8`."
        ) from None


def _field(file: Path, row: int, line: str) -> str:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}, row {row}: no JSON ({error}). Write one object a line.") from None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        fix = "Rename the field that holds the document."
        raise DataError(message(f"{file}, row {row}: text", text, "a string", fix))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"half a character (\\u{ord(text[error.start]):x})"
        fix = "Write the pair of escapes, or the character itself."
        raise DataError(
            message(f"{file}, row {row}: text", half, "whole characters", fix)
        ) from None
    return text
