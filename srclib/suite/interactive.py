"""Parts of a page that a reader can operate: data in, one string of static HTML out.

    display.HTML(feature_explorer(latents))     what each latent of an SAE fires on
    display.HTML(swap_table(rows))              what a model answers when a slot is swapped

A fragment needs no server and fetches nothing: style, script and the Japanese glyphs it shows are
inside. Everything is in the HTML itself, so without JavaScript all of it can still be read; the
script only searches, filters and moves the focus. Layout, style and scripts are files in pages/.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import NamedTuple

from ..errors import DataError, ParameterError, message
from ..methods.latents import script
from .templates import fragment, macros


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

    @property
    def key(self) -> tuple[str, int]:  # what tells a latent from all others
        return self.checkpoint, self.index


class Swap(NamedTuple):
    """One question asked with one slot raised."""

    question: str
    slot: str  # the relation whose slot is raised
    alpha: float  # its value, in the unit that the table's caption names
    answer: str  # what the model says
    expected: str  # what the raised slot should make it say
    verdict: str  # such as "swapped", "unchanged" or "another value of this kind"


def feature_explorer(
    latents: Sequence[Latent],
    *,
    name: str = "explorer",
    separator: str = "",
    max_bytes: int = 2_000_000,
) -> str:
    """A searchable index of latents in the order given; each opens to its examples.

    name: the fragment's id, unique on its page. separator: goes between tokens that are whole
    words, except beside Japanese; tokens of a subword tokeniser bring their own spaces.
    max_bytes: latents with the fewest examples are left out until the fragment fits, among
    equals the last ones first; the page says how many. Raises DataError for no latent, one given
    twice, activations that do not fit their tokens; ParameterError for a size that holds none.
    """
    _check_latents(latents)
    keys = ("checkpoint", "language", "granularity")
    facets = {key: list(dict.fromkeys(getattr(x, key) for x in latents)) for key in keys}
    id_of = {x.key: f"{name}-{facets['checkpoint'].index(x.checkpoint)}-{x.index}" for x in latents}
    rank = sorted(range(len(latents)), key=lambda i: -len(latents[i].examples))

    @cache
    def page(n_kept: int) -> str:
        kept = [latents[i] for i in sorted(rank[:n_kept])]
        ids = {latent.key: id_of[latent.key] for latent in kept}
        body = MACROS.explorer(kept, len(latents), ids, facets, separator, max_bytes)
        return fragment(name, body, "explorer.js")

    n = len(latents)
    if len(page(n).encode()) > max_bytes:
        n = bisect_right(range(1, n), max_bytes, key=lambda n: len(page(n).encode()))
    if not n:
        allowed = f"at least {len(page(1).encode())}, the size with one latent"
        fix = "Raise it, or give fewer and shorter examples."
        raise ParameterError(message("max_bytes", max_bytes, allowed, fix))
    return page(n)


def swap_table(
    rows: Sequence[Swap],
    *,
    name: str = "swaps",
    unit: str = "times the slot's natural value",
    max_bytes: int = 1_000_000,
) -> str:
    """Choose question, slot and strength; read the model's answer, and the whole sweep below it.

    name: the fragment's id, unique on its page. unit: what `alpha` is counted in. Raises DataError
    for no row, one given twice, an alpha that is no number; ParameterError for more than
    `max_bytes`: which questions to drop is not ours to say.
    """
    _check_swaps(rows)
    sweeps: dict[tuple[str, str], list[Swap]] = {}
    for row in rows:
        sweeps.setdefault((row.question, row.slot), []).append(row)
    questions, slots, alphas = ({row[i]: 0 for row in rows} for i in range(3))
    body = MACROS.swaps(sweeps, len(rows), list(questions), list(slots), sorted(alphas), unit)
    page = fragment(name, body, "swaps.js")
    if (size := len(page.encode())) > max_bytes:
        fix = "Give fewer questions, or raise it."
        raise ParameterError(message("max_bytes", max_bytes, f"at least {size}", fix))
    return page


def shades(acts: Iterable[float], top: float) -> list[int]:
    """Activations as 0 to 10, rounded up, so that only what is not active is 0.

    top: the strongest activation of the latent's examples, above 0.
    """
    return [min(10, max(0, math.ceil(10 * act / top))) for act in acts]


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


def _check_latents(latents: Sequence[Latent]) -> None:
    for latent in latents:
        where = f"{latent.checkpoint}, latent {latent.index}"
        for i, (tokens, acts) in enumerate(latent.examples):
            fits = len(tokens) == len(acts)
            if not fits or not all(act in range(11) and isinstance(act, Integral) for act in acts):
                allowed = f"{len(tokens)} whole numbers from 0 to 10, one per token"
                fix = "Scale by the strongest activation of the latent's examples."
                raise DataError(message(f"{where}: acts of example {i}", list(acts), allowed, fix))
        if any(count < 0 for count in latent.histogram) or not math.isfinite(latent.top):
            seen, allowed = (list(latent.histogram), latent.top), "counts and a finite activation"
            raise DataError(message(f"{where}: histogram", seen, allowed, "Count the tokens."))
    _check_once("latents", [latent.key for latent in latents])


def _check_swaps(rows: Sequence[Swap]) -> None:
    for i, row in enumerate(rows):
        if not math.isfinite(row.alpha):
            fix = "Leave the row out."
            raise DataError(message(f"rows[{i}].alpha", row.alpha, "a finite number", fix))
    _check_once("rows", [row[:3] for row in rows])


def _check_once(name: str, keys: Sequence[object]) -> None:
    if not keys:
        raise DataError(message(name, [], "at least one", "Give what the page shall show."))
    if twice := [key for key, n in Counter(keys).items() if n > 1]:
        raise DataError(message(name, twice[0], "each once", "Leave the copy out."))


HELPERS = {"bars": _bars, "peak_words": _peak_words, "pieces": _pieces, "script": script}
MACROS = macros("fragments.jinja", **HELPERS)
