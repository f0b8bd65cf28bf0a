"""Tokenisers that put exactly one BOS before a text, in the layout of the hub."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from .lexicon import BOS, SPECIALS


def with_bos(tokenizer: Tokenizer, specials: Sequence[str]) -> PreTrainedTokenizerFast:
    """`tokenizer` for transformers; `specials` are a beginning of SPECIALS that it knows by id.

    `add_special_tokens=False` leaves BOS out. Special tokens that a text spells out are left to
    the model: for bytes they are ordinary text and no second BOS.
    """
    bos = SPECIALS[BOS]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, BOS)]
    )
    names = ("pad_token", "bos_token", "eos_token", "unk_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        **dict(zip(names, specials, strict=False)),
    )
