"""One latent as the explorer shows it: label, histogram, neighbours, coloured texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...methods.latents import Language
from ...methods.latents import script as script_of
from .fragment import escape


class Example(NamedTuple):
    """One text that activates a latent."""

    tokens: Sequence[str]
    """decoded tokens, in the order of the text"""
    acts: Sequence[int]
    """0 to 10 per token, 10 the strongest of the latent's examples"""


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


def shades(acts: Iterable[float], top: float) -> list[int]:
    """Activations as 0 to 10, rounded up, so that only what is not active is 0.

    top: the strongest activation of the latent's examples, above 0.
    """
    return [min(10, max(0, math.ceil(10 * act / top))) for act in acts]


def key_of(latent: Latent | Neighbour) -> tuple[str, int]:
    """What tells a latent from all others."""
    return latent.checkpoint, latent.index


def block(
    latent: Latent,
    is_open: bool,
    ids: Mapping[tuple[str, int], str],
    facets: Mapping[str, list[str]],
    separator: str,
) -> str:
    data = "".join(
        f' data-{key}="{each.index(getattr(latent, key))}"' for key, each in facets.items()
    )
    chips = [latent.checkpoint, latent.language, latent.granularity]
    peaks = Counter(word for word in map(_peak_word, latent.examples) if word)
    words = ", ".join(word for word, _ in peaks.most_common(6))
    summary = (
        f"<b>Latent {latent.index}</b>"
        + "".join(f'<span class="x-chip">{escape(chip)}</span>' for chip in chips)
        + f'<span class="x-peaks"{_language(words)}>{escape(words)}</span>'
    )
    texts = "".join(_example(example, separator) for example in latent.examples)
    return (
        f'<details id="{ids[key_of(latent)]}"{data}{" open" if is_open else ""}>'
        f"<summary>{summary}</summary>{_histogram(latent)}{_near(latent, ids)}"
        f"<ol>{texts}</ol></details>"
    )


def _peak(example: Example) -> int | None:
    """The position of the strongest token, the first of equals."""
    acts = list(example.acts)
    return acts.index(max(acts)) if any(acts) else None


def _peak_word(example: Example) -> str:
    peak = _peak(example)
    return "" if peak is None else _plain(example.tokens[peak]).strip()


def _plain(token: str) -> str:
    """SentencePiece writes a space as ▁."""
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")


def _example(example: Example, separator: str) -> str:
    peak, parts = _peak(example), list[str]()
    before: Language | None = "ja"  # nothing goes before the first token
    for i, (token, act) in enumerate(zip(example.tokens, example.acts, strict=True)):
        shown, here = escape(_plain(token)), script_of(token)
        parts.append("" if "ja" in (before, here) else escape(separator))
        before = here
        name = f'"a{act} pk"' if i == peak else f"a{act}"
        parts.append(f"<mark class={name}>{shown}</mark>" if act else shown)
    return f"<li{_language(''.join(example.tokens))}>{''.join(parts)}</li>"


def _language(text: str) -> str:
    """Screen readers and font choice need to know Japanese on an English page."""
    return ' lang="ja"' if script_of(text) == "ja" else ""


def _near(latent: Latent, ids: Mapping[tuple[str, int], str]) -> str:
    if not latent.neighbours:
        return ""
    links = []
    for each in latent.neighbours:
        text = escape(f"{each.checkpoint}, latent {each.index} (cosine {each.cosine:.2f})")
        known = ids.get(key_of(each))
        links.append(f'<a href="#{known}">{text}</a>' if known else text)
    return f'<p class="x-near">Nearest at other checkpoints: {"; ".join(links)}</p>'


def _histogram(latent: Latent) -> str:
    """Bars on a logarithmic scale: most tokens barely activate a latent."""
    counts, highest = list(latent.histogram), max(latent.histogram, default=0)
    if not highest:
        return ""
    width = 160 / len(counts)
    tall = [round(44 * math.log1p(count) / math.log1p(highest), 1) for count in counts]
    bars = "".join(
        f"M{i * width:.1f} 46v-{height}h{width * 0.85:.1f}v{height}z"
        for i, height in enumerate(tall)
        if height
    )
    label = (
        f"Histogram of {sum(counts)} activations from 0 to {latent.top:.3g}, "
        f"at most {highest} tokens in a bin, logarithmic"
    )
    return (
        f'<svg viewBox="0 0 160 58" role="img" aria-label="{escape(label)}">'
        f'<path d="{bars}"/><path d="M0 46h160v.7H0z"/><text y="56">0</text>'
        f'<text x="160" y="56" text-anchor="end">{latent.top:.3g}</text>'
        f'<text x="160" y="8" text-anchor="end">highest bar {highest}, log scale</text></svg>'
    )
