"""Documents as rows of token ids of one length: the beginning of each, or one after another."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message, whole
from ..store import files
from .corpora import Place, read
from .hub import rules

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class Corpus(NamedTuple):
    """Documents of one length, and what was left out to get there."""

    rows: Tensor
    """[n_documents, context] int32, the first tokens of each document, BOS first"""
    n_short: int
    """documents dropped because they end before the context does"""


def read_rows(
    corpus: Place | Dataset,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    *,
    n_documents: int | None = None,
    bos: bool = True,
) -> Corpus:
    """The first `context` tokens of each document, in order.

    corpus: what `read` takes or returns.
    n_documents: stop after so many rows; fewer is an error, not a smaller corpus.
    bos: begin each row with the tokeniser's BOS, which counts as one of `context` tokens. It is
        put there once, also where the tokeniser would add it by itself.

    Shorter documents are dropped and counted: padding would be read as text. Raises what `read`
    raises, DataError for too few documents, ParameterError for no context or a missing BOS.
    """
    whole("context", context, 1 + bos)
    if n_documents is not None:
        whole("n_documents", n_documents, 1)
    if bos and tokenizer.bos_token_id is None:
        fix = "Pass bos=False for a model that was trained without one."
        raise ParameterError(message("bos", True, "a tokeniser that has a BOS", fix))
    first = [tokenizer.bos_token_id] if bos else []
    kept, n_rows, n_short = array("i"), 0, 0  # flat: a tensor a row would weigh three times as much
    table = read(corpus) if isinstance(corpus, str | Path | Sequence) else corpus
    for row in table:
        ids = first + tokenizer(row["text"], add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) < context:
            n_short += 1
            continue
        kept.extend(ids[:context])
        n_rows += 1
        if n_rows == n_documents:
            break
    if n_rows < (n_documents or 1):
        raise DataError(
            f"corpus: {n_rows} documents of at least {context} tokens ({n_short} shorter). "
            f"Allowed is {n_documents or 'one'} or more. Bring more text, or lower the context."
        )
    return Corpus(torch.frombuffer(kept, dtype=torch.int32).view(n_rows, context), n_short)


def packed(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    n_rows: int,
    *,
    held_out: bool = False,
) -> Tensor:
    """[at most n_rows, context] int32: documents one after another, mapped from a stored file.

    A tenth of the documents, by the hash of their text, is held out: the others never hold it,
    whatever stands around them. Tokenised a thousand at a time, so a corpus may be larger than
    memory; what does not fill the last row is dropped. Raises DataError where not one row fills.
    """
    whole("context", context, 1)
    words = [tokenizer.get_vocab(), repr(tokenizer.special_tokens_map), rules(tokenizer)]
    told = [texts._fingerprint, files.digest(words), context, n_rows, held_out]
    file = files.build() / "cache" / "tokens" / f"{files.sha256(files.canonical(told))}.int32"
    seal = file.with_suffix(".sha256")
    files.forget_once(file)
    there = file.is_file() and seal.is_file()
    if not there or seal.read_bytes() != files.file_sha256(file).encode():
        files.write_atomic(file, _tokens(texts, tokenizer, context * n_rows, held_out))
        files.write_atomic(seal, files.file_sha256(file))
    n = min(n_rows, file.stat().st_size // 4 // context)
    if n < 1:
        seen, fix = file.stat().st_size // 4, "Bring more text, or lower context."
        raise DataError(message("tokens in all documents", seen, f">= {context}", fix))
    return torch.from_file(str(file), size=n * context, dtype=torch.int32).view(n, context)


def _tokens(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, n: int, held_out: bool
) -> Iterator[bytes]:
    """The first n tokens of one side of the split."""
    for batch in texts.iter(1000):
        mine = [t for t in batch["text"] if (int(files.sha256(t)[:8], 16) % 10 == 9) == held_out]
        for ids in tokenizer(mine, verbose=False)["input_ids"] if mine else ():
            yield array("i", ids[:n]).tobytes()
            n -= len(ids)
            if n <= 0:
                return
