"""Parts of a page that a reader can operate: data in, one string of static HTML out.

A fragment needs no server and fetches nothing: style and script are inside. Without JavaScript all
of it can still be read; the script only searches, filters and moves the focus.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ..methods.latents import script
from .templates import fragment, macros

# Of one explorer, so that its page stays below 1.5 MB. It says when something was left out.
MAX_BYTES = 600_000


class Example(NamedTuple):
    """One text that activates a latent."""

    tokens: Sequence[str]  # decoded, in the order of the text
    acts: Sequence[int]  # 0 to 10 per token, 10 the strongest of the latent's examples


@dataclass(frozen=True)
class Neighbour:
    """A latent of another checkpoint that points the same way."""

    checkpoint: str
    index: int
    cosine: float


@dataclass(frozen=True)
class Latent:
    """What the explorer shows of one latent."""

    checkpoint: str  # such as "step 1000"
    index: int
    language: str
    granularity: str
    examples: Sequence[Example]
    histogram: Sequence[int] = ()  # tokens per bin; bins of equal width from 0 to `top`
    top: float = 0.0  # the strongest activation, in the SAE's units
    neighbours: Sequence[Neighbour] = ()
    note: str = ""  # shown above the examples

    @property
    def key(self) -> tuple[str, int]:  # what tells a latent from all others
        return self.checkpoint, self.index


def feature_explorer(
    latents: Sequence[Latent], *, name: str = "explorer", separator: str = ""
) -> str:
    """A searchable index of latents in the order given; each opens to its examples.

    name: the fragment's id, unique on its page. separator: goes between tokens that are whole
    words, except beside Japanese; tokens of a subword tokeniser bring their own spaces. Latents
    with the fewest examples are left out until the fragment fits into MAX_BYTES, among equals the
    last ones first.
    """
    keys = ("checkpoint", "language", "granularity")
    facets = {key: list(dict.fromkeys(getattr(x, key) for x in latents)) for key in keys}
    id_of = {x.key: f"{name}-{facets['checkpoint'].index(x.checkpoint)}-{x.index}" for x in latents}
    rank = sorted(range(len(latents)), key=lambda i: -len(latents[i].examples))

    @cache
    def page(n_kept: int) -> str:
        kept = [latents[i] for i in sorted(rank[:n_kept])]
        ids = {latent.key: id_of[latent.key] for latent in kept}
        body = MACROS.explorer(kept, len(latents), ids, facets, separator, MAX_BYTES)
        return fragment(name, body, "explorer.js")

    n = len(latents)
    if len(page(n).encode()) > MAX_BYTES:
        n = bisect_right(range(1, n), MAX_BYTES, key=lambda n: len(page(n).encode()))
    return page(n)


def _pieces(example: Example, separator: str) -> Iterator[tuple[str, str, int, bool]]:
    """(gap before it, token, shade, whether it is the strongest) of each token."""
    acts, before = list(example.acts), script("あ")  # nothing goes before the first token
    for i, (token, act) in enumerate(zip(example.tokens, acts, strict=True)):
        gap = "" if "ja" in (before, before := script(token)) else separator
        # SentencePiece writes a space as ▁.
        yield gap, token.replace("▁", " "), act, act > 0 and i == acts.index(max(acts))


def _peak_words(latent: Latent) -> str:
    every = (piece for example in latent.examples for piece in _pieces(example, ""))
    words = Counter(token.strip() for _, token, _, strongest in every if strongest)
    return ", ".join([word for word, _ in words.most_common() if word][:6])


def _bars(counts: Sequence[int]) -> str:
    """The path of a histogram, logarithmic: most tokens barely activate a latent."""
    width, highest = 160 / len(counts), math.log1p(max(counts))
    return "".join(
        f"M{i * width:.1f} 46v-{height}h{width * 0.85:.1f}v{height}z"
        for i, count in enumerate(counts)
        if (height := round(44 * math.log1p(count) / highest, 1))
    )


HELPERS = {"bars": _bars, "peak_words": _peak_words, "pieces": _pieces, "script": script}
MACROS = macros("fragments.jinja", **HELPERS)
