"""Real text that every CPython brings along: its manual's topics, its docstrings, its library.

The text differs between versions of Python: record `content_hash` beside every number that
comes from it.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Dataset, Features, Value
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .. import files
from ..errors import DataError, ParameterError, message
from .lexicon import EOS, SPECIALS
from .tokenizing import with_bos

READS_PYTHON = True  # keys of what reads this text cover the version of Python
DOCUMENT = Features(name=Value("string"), text=Value("string"))
# Installed packages and tests differ between machines, pydoc_data is prose in a string. (So do
# the files _sysconfigdata*, which hold the paths of whoever built this Python.)
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "pydoc_data"}


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


def content_hash(dataset: Dataset) -> str:
    """SHA-256 over all names and texts in order: two corpora with one hash are the same."""
    pairs = zip(dataset["name"], dataset["text"], strict=True)
    return files.sha256(files.canonical([list(pair) for pair in pairs]))


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
    least = EOS + 1 + 256  # the specials and every byte
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < least:
        fix = "2048 suits a small model."
        raise ParameterError(message("vocab_size", vocab_size, f"an integer >= {least}", fix))
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS[: EOS + 1]),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    if model.get_vocab_size() != vocab_size:
        allowed = f"at most {model.get_vocab_size()} for these {len(texts)} texts"
        fix = "Give more text, or lower vocab_size."
        raise ParameterError(message("vocab_size", vocab_size, allowed, fix))
    return with_bos(model, SPECIALS[: EOS + 1])


def _collect(documents: Iterable[tuple[str, str | None]], n_chars_max: int) -> Dataset:
    """Documents until the next one would not fit; empty and undecodable ones are counted only."""
    if isinstance(n_chars_max, bool) or not isinstance(n_chars_max, int) or n_chars_max < 1:
        raise ParameterError(message("n_chars_max", n_chars_max, "an integer >= 1", "Raise it."))
    names, texts, n_empty, n_undecodable, n_chars = list[str](), list[str](), 0, 0, 0
    for name, text in documents:
        if text is None:
            n_undecodable += 1
        elif not text.strip():
            n_empty += 1
        elif n_chars + len(text) <= n_chars_max:
            names.append(name)
            texts.append(text)
            n_chars += len(text)
        elif not texts:
            allowed = f">= {len(text)}, the length of {name}"
            raise ParameterError(message("n_chars_max", n_chars_max, allowed, "Raise it."))
        else:
            break
    left_out = f"left out: {n_empty} empty, {n_undecodable} not UTF-8"
    if not texts:
        raise DataError(f"no text found ({left_out}). Name a folder that holds Python sources.")
    dataset = Dataset.from_dict({"name": names, "text": texts}, features=DOCUMENT)
    dataset.info.description = f"{len(texts)} documents, {n_chars} characters; {left_out}"
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
        raise DataError(message("folder", str(folder or root), "an existing folder", "Name one."))
    for name in sorted(_names(root)):
        yield name, clean((root / name).read_bytes())


def _names(root: Path) -> Iterator[str]:
    """Python sources below `root`; skipped folders, which may be huge, are not entered."""
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in SKIPPED]
        for name in names:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _docstrings(source: str) -> str:
    """All docstrings of a module in source order; none where this Python cannot parse it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # strange escapes are not our concern
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))
