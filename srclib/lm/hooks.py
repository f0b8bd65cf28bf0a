"""Language models that have read prose and code, as sources of unit rows.

A model of our own is trained here on both; a named one is loaded, and its activations, which fit
no memory, are computed when training asks for them. Both have one face.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..compute.place import place
from ..errors import ParameterError, message
from ..sources.rows import Centred, Rows, Unit
from ..worlds import python_docs
from ..worlds.engine import pack
from .corpora import read
from .harvest import harvest, token_losses, unigram_loss
from .hub import load_tokenizer
from .models import LMConfig, described, load_model
from .streamed import Blocks, Streamed
from .train import train_lm

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

CONTEXT = 64
N_MEAN = 16_384  # held-out tokens whose mean is subtracted


@dataclass(frozen=True)
class Hooks:
    """Activations of language models at several places, centred and scaled to norm 1 per token."""

    sources: dict[tuple[int, str, int], Unit]
    """by (language model, corpus, block)"""
    losses: dict[tuple[int, str], float]
    """held-out cross entropy, nats, by (language model, corpus)"""
    n_tokens: dict[str, int]
    unigram: dict[tuple[int, str], float]
    """what the frequencies of tokens alone would score there"""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """of a named model: itself, its corpora, the tokens that the longest run of an SAE reads in
    one of them and those at hand, for `ledger.evidence(**hooks.evidence)`"""


def own_models(
    corpora: Sequence[str],
    lm_seeds: Sequence[int],
    layers: Sequence[int],
    n_chars: int,
    *,
    n_steps: int,
) -> Hooks:
    """Three-block Qwen2 models, trained on every second row of each corpus.

    corpora: what `corpora.read` takes; by default `n_chars` each of Python's
    prose and code. Raises SuiteError for a model that learnt less than the frequencies of tokens.
    """
    texts = _texts(corpora, n_chars)
    tokenizer = python_docs.tokenizer([t for each in texts.values() for t in each["text"]], 800)
    ids = _packed(texts, tokenizer)
    shape = LMConfig("qwen2", d_model=64, n_layers=3, d_mlp=128, context=CONTEXT, lr=1e-2)
    config = replace(shape, vocab_size=len(tokenizer), n_steps=n_steps)
    every_second = torch.cat([rows[::2] for rows in ids.values()])
    lms = {s: train_lm(replace(config, seed=s), every_second) for s in lm_seeds}
    return _hooks(lms, ids, layers, stream=False)


def named_model(
    name: str,
    corpora: Sequence[str],
    lm_seeds: Sequence[int],
    layers: Sequence[int],
    n_chars: int,
    *,
    read: int = 0,
) -> Hooks | None:
    """A stored model on corpora as for `own_models`; None for no name.

    read: tokens that the longest run of an SAE reads in each corpus, for the evidence.

    Raises ParameterError for several seeds: a named model has none of ours.
    """
    if not name:
        return None
    if len(lm_seeds) > 1:
        allowed = "one, since a named model has no seed of ours"
        raise ParameterError(message("lm_seeds", lm_seeds, allowed, "Give one."))
    texts = _texts(corpora, n_chars)
    tokenizer = load_tokenizer(name)
    lm, ids = load_model(name, dtype=place().dtype), _packed(texts, tokenizer)
    available = min((len(rows) - _held_out(rows)) * (CONTEXT - 1) for rows in ids.values())
    facts = {"lm": described(lm.config), "corpus": [Path(each).name for each in corpora]}
    made = _hooks({lm_seeds[0]: lm}, ids, layers, stream=True)
    return replace(made, evidence=facts | {"read": read, "available": available})


def _texts(corpora: Sequence[str], n_chars: int) -> dict[str, Dataset]:
    if not corpora:
        return {"prose": python_docs.prose(n_chars), "code": python_docs.code(n_chars)}
    return {Path(each).name: read(each) for each in corpora}


def _packed(texts: dict[str, Dataset], tokenizer: object) -> dict[str, Tensor]:
    return {
        name: pack(tokenizer(list(each["text"]))["input_ids"], CONTEXT)  # type: ignore[operator]
        for name, each in texts.items()
    }


def _hooks(
    lms: dict[int, PreTrainedModel], ids: dict[str, Tensor], layers: Sequence[int], stream: bool
) -> Hooks:
    read = {(s, name): rows for s in lms for name, rows in ids.items()}
    losses = {
        key: token_losses(lms[key[0]], rows[1::2][:100]).mean().item() for key, rows in read.items()
    }
    by_counts = {name: unigram_loss(rows[::2], rows[1::2][:100]) for name, rows in ids.items()}
    unigram = {(s, name): by_counts[name] for s, name in read}
    sources = {
        (s, name, layer): source
        for (s, name), rows in read.items()
        for layer, source in _sources(lms[s], rows, layers, stream).items()
    }
    return Hooks(sources, losses, {name: rows.numel() for name, rows in ids.items()}, unigram)


def _held_out(rows: Tensor) -> int:
    """A sixteenth of the rows, which no SAE is trained on."""
    return max(1, len(rows) // 16)


def _sources(
    lm: PreTrainedModel, rows: Tensor, layers: Sequence[int], stream: bool
) -> dict[int, Unit]:
    """Some rows are never trained on; each row's first position is left out."""
    held_out = _held_out(rows)
    n_mean = min(N_MEAN, held_out * (CONTEXT - 1))
    if stream:
        block = min(256, len(rows) - held_out)
        blocks = Blocks(lm, rows, block_rows=block, held_out=held_out, skip=1)

    def source(layer: int) -> Streamed | Rows:
        if stream:
            return blocks.at(layer)
        acts = harvest(lm, rows, layer)[0][:, 1:]
        return Rows(acts.flatten(0, 1), held_out=held_out * (CONTEXT - 1))

    found = {layer: source(layer) for layer in layers}
    return {b: Unit(Centred(each, each.batch(-1, n_mean).mean(dim=0))) for b, each in found.items()}
