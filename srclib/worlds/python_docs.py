"""Real text that every CPython brings along: its manual's topics, its docstrings, its library.

The text differs between versions of Python, so results that come from it depend on the version.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ..errors import DataError, ParameterError, message, whole
from .engine import EOS, SPECIALS, columns, for_transformers

READS_PYTHON = True  # keys of what reads this text cover the version of Python
# Installed packages and tests differ between machines, pydoc_data is prose in a string.
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "pydoc_data"}
BUILD = "_sysconfigdata"  # files with the paths of whoever built this Python
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def prose(n_chars_max: int = 500_000, folder: Path | None = None) -> Dataset:
    """English: the topics of `help()`, then the docstrings of each module of the library.

    n_chars_max: documents are taken whole, in a fixed order, as long as they fit together: a
        smaller number gives a beginning of the same list.
    folder: another tree of Python sources; then its docstrings alone are read.

    Columns: name, text. A module's docstrings stand in one document, in source order. What is
    cleaned and left out is said at `clean`; `dataset.info.description` counts it. Raises
    ParameterError for a number that no document fits, DataError where nothing is found.
    """
    return _collect(_prose(folder), n_chars_max)


def code(n_chars_max: int = 500_000, folder: Path | None = None) -> Dataset:
    """Python: the sources of the standard library, or of `folder`, sorted by path; else as prose.

    Installed packages and test folders are skipped.
    """
    return _collect(_sources(folder), n_chars_max)


def clean(raw: bytes) -> str | None:
    """UTF-8 without byte order mark, lines ended by a newline alone; None if it is no UTF-8.

    Files in other encodings are left out, not repaired: half a word would pass unseen.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def tokenizer(corpus: Dataset | Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokeniser trained on texts; it puts BOS first and can spell any text.

    The same texts in any order give the same tokeniser. `<pad>`, `<bos>` and `<eos>` are 0, 1, 2;
    spelled out in a text they are ordinary text. Raises ParameterError when the texts hold too
    little to learn `vocab_size` tokens from, DataError for what is no list of texts.
    """
    texts = list(corpus["text"]) if isinstance(corpus, Dataset) else list(corpus)
    if isinstance(corpus, str) or not all(isinstance(text, str) for text in texts):
        fix = "Give whole texts."
        raise DataError(message("corpus", corpus, "a Dataset or a list of str", fix))
    specials = list(SPECIALS[: EOS + 1])
    whole("vocab_size", vocab_size, len(specials) + 256)  # and every byte
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    if model.get_vocab_size() != vocab_size:
        allowed = f"at most {model.get_vocab_size()} for these {len(texts)} texts"
        fix = "Give more text, or lower vocab_size."
        raise ParameterError(message("vocab_size", vocab_size, allowed, fix))
    return for_transformers(model, specials)


def _collect(documents: Iterable[tuple[str, str | None]], n_chars_max: int) -> Dataset:
    """Documents until the next one would not fit; empty and undecodable ones are counted only."""
    whole("n_chars_max", n_chars_max, 1)
    rows, n_empty, n_undecodable, n_chars = list[dict[str, str]](), 0, 0, 0
    for name, text in documents:
        if text is None:
            n_undecodable += 1
        elif not text.strip():
            n_empty += 1
        elif n_chars + len(text) <= n_chars_max:
            rows.append({"name": name, "text": text})
            n_chars += len(text)
        elif not rows:
            allowed = f">= {len(text)}, the length of {name}"
            raise ParameterError(message("n_chars_max", n_chars_max, allowed, "Raise it."))
        else:
            break
    left_out = f"left out: {n_empty} empty, {n_undecodable} not UTF-8"
    if not rows:
        raise DataError(f"no text found ({left_out}). Name a folder that holds Python sources.")
    dataset = Dataset.from_list(rows, features=columns("name:text text:text"))
    dataset.info.description = f"{len(rows)} documents, {n_chars} characters; {left_out}"
    return dataset


def _prose(folder: Path | None) -> Iterator[tuple[str, str | None]]:
    if folder is None:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise DataError(
                "pydoc_data: this Python comes without it. Install the complete standard library "
                "(libpython3-stdlib on Debian), or name a folder."
            ) from None
        for name in sorted(topics):
            yield f"topics/{name}", clean(topics[name].encode())
    for name, text in _sources(folder):
        yield f"docstrings/{name}", None if text is None else _docstrings(text)


def _sources(folder: Path | None) -> Iterator[tuple[str, str | None]]:
    """(path below the folder, cleaned text) of every Python source, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"]) if folder is None else Path(folder)
    if not root.is_dir():
        raise DataError(message("folder", str(root), "an existing folder", "Name one."))
    found = list[str]()
    for below, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in SKIPPED]  # not entered: may be huge
        sources = (name for name in names if name.endswith(".py") and not name.startswith(BUILD))
        found += [Path(below, name).relative_to(root).as_posix() for name in sources]
    for name in sorted(found):
        yield name, clean((root / name).read_bytes())


def _docstrings(source: str) -> str:
    """All docstrings of a module in source order; none where this Python cannot parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # strange escapes are not our concern
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))
