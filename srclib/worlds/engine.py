"""What every world is made with: words, chance, templates, tokenizers, rows."""

from __future__ import annotations

import random
import tomllib
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import datasets
import numpy as np
import torch
from datasets import Features, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .. import rng
from ..errors import DataError, ParameterError, message, whole

T = TypeVar("T")
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(SPECIALS))
KINDS = {"int": Value("int32"), "flag": Value("bool"), "text": Value("string")}
KINDS |= {f"{name}s": datasets.Sequence(kind) for name, kind in KINDS.items()}


@cache
def words_of(world: str) -> dict[str, Any]:
    """The word lists and templates of `words/<world>.toml`; not to be changed."""
    path = Path(__file__).parent / "words" / f"{world}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def columns(text: str) -> Features:
    """The columns of a dataset: `text:text tokens:ints`."""
    pairs = (column.split(":") for column in text.split())
    return Features({name: KINDS[kind] for name, kind in pairs})


def chance(seed: int, *names: str | int) -> random.Random:
    """A generator of its own for `names` under `seed`."""
    return random.Random(rng.derive(seed, *names))


class Weighted(NamedTuple, Generic[T]):
    """Things with cumulative probabilities."""

    things: Sequence[T]
    below: Sequence[float]


def weighted(things: Sequence[T], shares: Iterable[float]) -> Weighted[T]:
    """Things with the first of `shares`, renormalised."""
    sums = list(accumulate(share for _, share in zip(things, shares, strict=False)))
    return Weighted(things, [s / sums[-1] for s in sums])


def uniform(things: Sequence[T]) -> Weighted[T]:
    return weighted(things, repeat(1))


def zipf(things: Sequence[T], exponent: float = 1.0) -> Weighted[T]:
    return weighted(things, ((i + 1) ** -exponent for i in range(len(things))))


class Writer:
    """Writes a document; all it takes from chance are uniform numbers in [0, 1) of `random`."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random

    def pick(self, weighted: Weighted[T]) -> T:
        return weighted.things[bisect(weighted.below, self.random())]

    def any(self, things: Sequence[T]) -> T:
        return things[int(self.random() * len(things))]


def fill(template: str, slots: Mapping[str, Iterable[T]], plain: Callable[[str], T]) -> Iterator[T]:
    """A template word by word: all that stands in the word's slot, else `plain(word)`.

    Left to right and not before it is asked for: a slot that draws does so in its place.
    """
    for word in template.split():
        if word in slots:
            yield from slots[word]
        else:
            yield plain(word)


def unique(*texts: str, slots: str = "") -> tuple[str, ...]:
    """The words of texts, each once, in order, without `slots`."""
    words = dict.fromkeys(" ".join(texts).split())
    return tuple(word for word in words if word not in slots.split())


class World:
    """What has a vocabulary: a word's place in `words` is its token id; SPECIALS come first."""

    words: tuple[str, ...]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token per word; BOS put first where it is a word of this world."""
        tokenizer = Tokenizer(models.WordLevel(self.ids, unk_token=SPECIALS[UNK]))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return for_transformers(tokenizer, [name for name in SPECIALS if name in self.ids])


def for_transformers(tokenizer: Tokenizer, specials: Sequence[str]) -> PreTrainedTokenizerFast:
    """`tokenizer` in the layout of the hub. With BOS it puts exactly one before a text.

    `add_special_tokens=False` leaves BOS out. Special tokens that a text spells out are then left
    to the model: for bytes they are ordinary text and no second BOS.
    """
    bos = SPECIALS[BOS]
    if bos in specials:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, BOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        split_special_tokens=bos in specials,
        clean_up_tokenization_spaces=False,
        **{f"{name.strip('<>')}_token": name for name in specials},
    )


def pack(tokens: Iterable[Sequence[int]], context: int) -> Tensor:
    """int64 [n_rows, context]: the documents one after another, cut every `context` tokens.

    A document that starts with BOS keeps it, so BOS stands between documents; what does not fill
    the last row is dropped. Raises DataError when the documents do not fill one row.
    """
    whole("context", context, 1)
    documents = [np.asarray(document, dtype=np.int64) for document in tokens]
    stream = np.concatenate([np.empty(0, np.int64), *documents])
    n_rows = len(stream) // context
    if n_rows < 1:
        fix = "Give more documents, or lower context."
        raise DataError(message("tokens in all documents", len(stream), f">= {context}", fix))
    return torch.from_numpy(stream[: n_rows * context].reshape(n_rows, context))


def between(name: str, value: object, low: int, high: int) -> None:
    """Raises ParameterError for what is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        allowed = f"a whole number from {low} to {high}"
        raise ParameterError(message(name, value, allowed, "Give such a number."))


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raises ParameterError for what is not one of `allowed`; 1 is not True."""
    if not any(value == each and type(value) is type(each) for each in allowed):
        raise ParameterError(message(name, value, ", ".join(map(str, allowed)), "Choose one."))
