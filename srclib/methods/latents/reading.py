"""Latents read by rule, as a tidy table with a row per latent.

    found = collect(sae, lms.batches(lm, step, layer))
    latents = stacked({(lm, step): describe(found, lms, lexicon)}, ("lm", "step"))
    latents[latents.living].groupby("step")[["mixed", "aligned"]].mean()

Classes are those of the package, with the parts of *mixed*: Inaba et al. 2025 (arXiv:2503.06394v1,
section 4.3) call mixed both what fires at random and what means the same in two languages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...worlds.bilingual import Shown
from . import AGREED, LANGUAGES, Label, classify, oracle, trend
from .examples import Examples

if TYPE_CHECKING:
    from .trajectory import Checkpoints

ENOUGH = 5  # texts of each language that a judgement on both rests on
CONCEPT = ("synonymy", "similarity", "context", "concept")  # classes above a single token
ALIGNED = ("same concept", "same category")
SHARED = (*ALIGNED, "same sentence", "same text")  # digits are one token in both languages
PARTS = (*SHARED, "digit", "within", "function")
FLAGS = {
    "trend": ("en", "ja", "mixed"),
    "granularity": ("token", *CONCEPT, "text", "uninterpretable"),
    "part": (*PARTS, "random", "other mixed"),
}
MARKED = ("meaning within", "same in both", "dedicated")
TOLD = ("synonymy", "similarity", "context", "text", *MARKED)  # by the truth alone


def describe(found: Examples, texts: Checkpoints, min_texts: int = 10) -> pd.DataFrame:
    """One row per latent, index `latent`, read off the texts that were kept for it.

    Columns: `trend`, `granularity` and `part` (`mixed_part`) as words and a column of bools per
    word, to take means of; the bools `living` (at least `min_texts` texts; else all are false),
    `aligned` (parts of ALIGNED), `same in both` (of SHARED), `meaning within` (within by concept or
    category), `concept-level`, `mono` (concept-level, of one language) and `strict` (mixed by the
    rule ">" of the paper's code); `concepts`, see `effective_concepts`; `dedicated`, the concept
    that 0.8 of the texts show, nan for none. Texts that do not carry their truth are classed by
    their tokens, and what these cannot tell has no column.
    """
    rows = []
    for f, n in enumerate(found.count.tolist()):
        enough = n >= min_texts
        shown = texts.shown(found.documents[f, :n], found.positions[f, :n]) if enough else None
        rows.append(_row(shown, min_texts))
    table = _flagged(pd.DataFrame(rows))
    return table.drop(columns=["concept"] if texts.evidence else [*TOLD, *PARTS[2:]])


def stacked(tables: Mapping[Any, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Tables of `describe` as one, the levels of their keys first; without rows where none is."""
    if tables:
        return pd.concat(tables, names=list(names))
    nothing = _flagged(pd.DataFrame([_row(None, 1)])).iloc[:0]
    levels = [*names, "latent"]
    return nothing.set_index(pd.MultiIndex.from_arrays([[] for _ in levels], names=levels))


def _row(shown: Shown | None, min_texts: int) -> dict[str, Any]:
    if shown is None:
        words = ("trend", "strict", "part", "meaning within")
        numbers = dict.fromkeys(("concepts", "dedicated"), math.nan)
        return {"granularity": "excluded", **dict.fromkeys(words), **numbers}
    kind, lean = granularity(shown, min_texts), trend(shown.languages)
    return {
        "granularity": kind,
        "trend": lean,
        "strict": trend(shown.languages, ">"),
        "part": mixed_part(kind, shown) if lean == "mixed" else None,
        "meaning within": lean == "mixed" and within(shown, 2),
        "concepts": effective_concepts(shown.concepts),
        "dedicated": float(next(iter(_agreed(shown.concepts)), math.nan)),  # type: ignore[arg-type]
    }


def _flagged(table: pd.DataFrame) -> pd.DataFrame:
    for name, words in FLAGS.items():
        for word in words:
            table[word] = table[name] == word
    table["living"] = table.granularity != "excluded"
    table["strict"] = table.strict == "mixed"
    table["meaning within"] = table["meaning within"].eq(True)
    table["aligned"] = table.part.isin(ALIGNED)
    table["same in both"] = table.part.isin(SHARED)
    table["concept-level"] = table.granularity.isin(CONCEPT)
    table["mono"] = table["concept-level"] & ~table.mixed
    return table.rename_axis("latent")


def granularity(shown: Shown, min_texts: int = 10) -> str:
    """By the truth of the texts, by their tokens where that is not known."""
    if shown.meanings:
        return oracle(*shown[:4], min_texts=min_texts, topics=shown.topics)
    return classify(shown.tokens, min_texts)


def mixed_part(kind: str, shown: Shown) -> str:
    """What a mixed latent is: the first of PARTS that 0.8 of the texts of each language share.

    same concept, same category: of the word that it marks. same sentence: relation or subject of
    the sentence, or the category of the next word. same text: what the text is about. digit: 0.8 of
    the words are digits. within: a label of any of these kinds but the text's, or a token, in each
    language, and none in common. function: 0.8 are words without meaning. random: none of these;
    other mixed: the rest, such as fewer than ENOUGH texts of a language. Where texts do not carry
    their truth, a concept-level latent counts as one category.
    """
    if not shown.meanings:
        named = {"concept": "same category", "uninterpretable": "random"}
        return named.get(kind, "other mixed")
    sides = _in_each_language(shown)
    category = shown.meanings["category"]
    bare = [own for c, own in zip(shown.concepts, category, strict=True) if c is None]
    empty = bare.count(None)
    if len(bare) - empty >= AGREED * len(category):
        return "digit"
    if sides:
        en, ja = map(_labels, sides)
        for part in en:
            if any(_agreed(x) & _agreed(y) for x, y in zip(en[part], ja[part], strict=True)):
                return part
    if within(shown):
        return "within"
    if empty >= AGREED * len(category):
        return "function"
    return "random" if kind == "uninterpretable" else "other mixed"


def _labels(shown: Shown) -> dict[str, list[Any]]:
    """The labels of some texts by the part that they make a mixed latent."""
    sentence = [shown.meanings[name] for name in ("relation", "subject", "next category")]
    own = {"same concept": [shown.concepts], "same category": [shown.meanings["category"]]}
    return own | {"same sentence": sentence, "same text": [shown.topics]}


def within(shown: Shown, n_kinds: int = 3) -> bool:
    """Whether each language agrees in a label of the first kinds, with all three also in a token,
    and not in one that both share."""
    sides = _in_each_language(shown) if shown.meanings else []
    if not sides:
        return False
    kinds = [
        [each for tables in [*_labels(x).values()][:n_kinds] for each in tables] for x in sides
    ]
    if n_kinds > 2:
        kinds = [[*tables, x.tokens] for tables, x in zip(kinds, sides, strict=True)]
    found = [[_agreed(table) for table in tables] for tables in kinds]
    shared = any(a & b for a, b in zip(*found, strict=True))
    return all(map(any, found)) and not shared


def _in_each_language(shown: Shown) -> list[Shown]:
    """The texts of each language; none where one has fewer than ENOUGH."""
    sides = [[i for i, x in enumerate(shown.languages) if x == side] for side in LANGUAGES]
    if min(map(len, sides)) < ENOUGH:
        return []

    def taken(labels: Any, side: list[int]) -> Any:
        if isinstance(labels, Mapping):
            return {name: taken(each, side) for name, each in labels.items()}
        return [labels[i] for i in side]

    return [Shown(*(taken(each, side) for each in shown)) for side in sides]


def _agreed(labels: Sequence[Label]) -> set[Label]:
    """The label that 0.8 of the texts share, if there is one. None is no label."""
    count = Counter(label for label in labels if label is not None)
    return {label for label, n in count.items() if n >= AGREED * len(labels)}


def effective_concepts(concepts: Sequence[Label]) -> float:
    """exp of the entropy of content words' concepts; nan where fewer than half are such words."""
    known = [c for c in concepts if c is not None]
    if not concepts or 2 * len(known) < len(concepts):
        return math.nan
    shares = np.array([*Counter(known).values()]) / max(len(known), 1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def dealt(x: Tensor, within_texts: bool, generator: torch.Generator) -> Tensor:
    """A null: x [n_texts, seq, d] with every activation at a random other place.

    Of all texts, or of its own text. What survives the first is an artefact of the rules; what
    survives only the second can be read off the text as a whole.
    """
    if within_texts:
        order = torch.rand(x.shape[:2], generator=generator).argsort(dim=1)
        return x[torch.arange(len(x))[:, None], order]
    order = torch.randperm(x.shape[0] * x.shape[1], generator=generator)
    return x.flatten(0, 1)[order].view_as(x)
