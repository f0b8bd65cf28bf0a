"""Texts that a user brings, as rows of token ids of one length."""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
Mended = defaultdict[tuple[Path, str], list[int]]  # file and what was done there -> rows


@dataclass(frozen=True)
class Corpus:
    """Documents of one length, and what was done to get there."""

    rows: Tensor
    """[n_documents, context] int32, the first tokens of each document, BOS first"""
    n_short: int
    """documents dropped because they end before the context does"""
    notes: tuple[str, ...]
    """what was mended, by file and row; empty for a clean corpus"""


def read_rows(
    files: Sequence[str | Path],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    *,
    n_documents: int | None = None,
    bos: bool = True,
) -> Corpus:
    """The first `context` tokens of each document, in the order of the files.

    files: `.txt` with a document per line, or `.jsonl` with a document in the field `text` of
        each line. Read line by line, so a corpus may be larger than memory.
    n_documents: stop after so many rows; fewer is an error, not a smaller corpus.
    bos: begin each row with the tokeniser's BOS, which counts as one of `context` tokens. It is
        put there once, also where the tokeniser would add it by itself.

    Documents that end before `context` tokens are dropped and counted: padding would be read as
    text. Windows line ends, a byte order mark and empty lines are mended and noted. Invalid UTF-8
    and lines that are no document are refused, because the text cannot be known: DataError names
    file and row. Raises ParameterError for a context of no tokens, and for a missing BOS.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1 + bos:
        fix = "The paper's is 65."
        raise ParameterError(message("context", context, f"a whole number >= {1 + bos}", fix))
    if n_documents is not None and n_documents < 1:
        allowed = "at least 1, or None for all"
        raise ParameterError(message("n_documents", n_documents, allowed, "Ask for some."))
    if bos and tokenizer.bos_token_id is None:
        fix = "Pass bos=False for a model that was trained without one."
        raise ParameterError(message("bos", True, "a tokeniser that has a BOS", fix))
    first = [tokenizer.bos_token_id] if bos else []
    kept, n_rows, n_short = array("i"), 0, 0  # flat: a tensor a row would weigh three times as much
    mended = Mended(list)
    for text in _documents(files, mended):
        ids = first + tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) < context:
            n_short += 1
            continue
        kept.extend(ids[:context])
        n_rows += 1
        if n_rows == n_documents:
            break
    if n_rows < (n_documents or 1):
        names = ", ".join(str(file) for file in files)
        raise DataError(
            f"{names}: {n_rows} documents of at least {context} tokens ({n_short} shorter). "
            f"Allowed is {n_documents or 'one'} or more. Bring more text, or lower the context."
        )
    notes = [f"{file}, row {at[0]}: {what} ({len(at)} rows)" for (file, what), at in mended.items()]
    rows = torch.frombuffer(kept, dtype=torch.int32).view(n_rows, context)
    return Corpus(rows, n_short, tuple(notes))


def _documents(files: Sequence[str | Path], mended: Mended) -> Iterator[str]:
    for file in map(Path, files):
        if file.suffix not in (".txt", ".jsonl"):
            fix = "Write one document per line."
            raise DataError(message("file", str(file), "a .txt or .jsonl file", fix))
        for row, line in _lines(file, mended):
            yield _field(file, row, line) if file.suffix == ".jsonl" else line


def _lines(file: Path, mended: Mended) -> Iterator[tuple[int, str]]:
    """Row, counted from 1, and text of every line that holds something."""
    try:
        with open(file, "rb") as lines:  # bytes: text mode would hide the row of a bad one
            for row, raw in enumerate(lines, start=1):
                line = _decoded(file, row, raw.removesuffix(b"\n"))
                if line.endswith("\r"):
                    line = line.removesuffix("\r")
                    mended[file, "Windows line end removed"].append(row)
                if line.startswith(BOM):  # in later rows, too, where files were joined
                    line = line.removeprefix(BOM)
                    mended[file, "byte order mark removed"].append(row)
                if line.strip():
                    yield row, line
                else:
                    mended[file, "empty, left out"].append(row)
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
    except ValueError as error:
        raise DataError(f"{file}, row {row}: no JSON ({error}). Write one object a line.") from None
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        fix = "Rename the field that holds the document."
        raise DataError(message(f"{file}, row {row}: text", text, "a string", fix))
    return text
