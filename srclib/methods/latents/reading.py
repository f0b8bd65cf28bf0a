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
import sklearn.metrics
import torch
from torch import Tensor

from ...worlds.bilingual import Shown
from . import AGREED, LANGUAGES, Label, classify, oracle, trend, with_lexicon
from . import language as trend_by_script
from .examples import Examples

if TYPE_CHECKING:
    from .trajectory import Checkpoints

ENOUGH = 5  # texts of each language that a judgement on both rests on
CONCEPT = ("synonymy", "similarity", "context", "concept")  # classes above a single token
FLAGS = {
    "trend": ("en", "ja", "mixed"),
    "granularity": ("token", *CONCEPT, "uninterpretable"),
    "part": ("random", "function", "other mixed", "within", "aligned"),
}
TOLD = ("synonymy", "similarity", "context", "function", "within")  # by the truth of texts alone


def describe(
    found: Examples, texts: Checkpoints, lexicon: Mapping[str, Label], min_texts: int = 10
) -> pd.DataFrame:
    """One row per latent, index `latent`, read off the texts that were kept for it.

    Columns: `trend`, `granularity` and `part` (`mixed_part`) as words and a column of bools per
    word, to take means of; the bools `living` (at least `min_texts` texts; else all are false),
    `concept-level`, `mono` (concept-level, of one language) and `strict` (mixed by the rule ">" of
    the paper's code); `script`, the trend of the tokens; `rule 0.5`, `rule 0.8` and `lexicon`,
    classes by tokens alone; `concepts`, see `effective_concepts`. Texts that do not carry their
    truth are classed by their tokens, and what these cannot tell has no column.
    """
    rows = []
    for f, n in enumerate(found.count.tolist()):
        enough = n >= min_texts
        shown = texts.shown(found.documents[f, :n], found.positions[f, :n]) if enough else None
        rows.append(_row(shown, lexicon, min_texts))
    table = _flagged(pd.DataFrame(rows))
    return table.drop(columns=["concept"] if texts.evidence else [*TOLD])


def stacked(tables: Mapping[Any, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Tables of `describe` as one, the levels of their keys first; without rows where none is."""
    if tables:
        return pd.concat(tables, names=list(names))
    nothing = _flagged(pd.DataFrame([_row(None, {}, 1)])).iloc[:0]
    levels = [*names, "latent"]
    return nothing.set_index(pd.MultiIndex.from_arrays([[] for _ in levels], names=levels))


def _row(shown: Shown | None, lexicon: Mapping[str, Label], min_texts: int) -> dict[str, Any]:
    if shown is None:
        words = ("trend", "strict", "script", "part", "rule 0.5", "rule 0.8", "lexicon")
        return {"granularity": "excluded", **dict.fromkeys(words), "concepts": math.nan}
    tokens, kind = shown.tokens, granularity(shown, min_texts)
    lean = trend(shown.languages)
    return {
        "granularity": kind,
        "trend": lean,
        "strict": trend(shown.languages, ">"),
        "script": trend_by_script(tokens),
        "part": mixed_part(kind, shown) if lean == "mixed" else None,
        "rule 0.5": classify(tokens, min_texts),
        "rule 0.8": classify(tokens, min_texts, dominant=0.8),
        "lexicon": with_lexicon(tokens, lexicon, min_texts),
        "concepts": effective_concepts(shown.concepts),
    }


def _flagged(table: pd.DataFrame) -> pd.DataFrame:
    for name, words in FLAGS.items():
        for word in words:
            table[word] = table[name] == word
    table["living"] = table.granularity != "excluded"
    table["strict"] = table.strict == "mixed"
    table["concept-level"] = table.granularity.isin(CONCEPT)
    table["mono"] = table["concept-level"] & ~table.mixed
    return table.rename_axis("latent")


def granularity(shown: Shown, min_texts: int = 10) -> str:
    """By the truth of the texts, by their tokens where that is not known."""
    if shown.meanings:
        return oracle(*shown[:4], min_texts=min_texts)
    return classify(shown.tokens, min_texts)


def mixed_part(kind: str, shown: Shown) -> str:
    """What a mixed latent is, from its granularity over all texts and from those of each language.

    aligned: 0.8 of all texts and of each language's share one concept or meaning. within: nothing
    in common over all, but in each language alone a concept or category. function: 0.8 are words
    without meaning. random: none of these; other mixed: the rest, such as one digit. Where texts
    do not carry their truth, a concept-level latent counts as aligned.
    """
    if not shown.meanings:
        named = {"concept": "aligned", "uninterpretable": "random"}
        return named.get(kind, "other mixed")
    apart = _in_each_language(shown)
    if kind in ("synonymy", "similarity"):
        tables = [[each.concepts, *each.meanings.values()] for each in apart]
        common = (
            [_agreed(en) & _agreed(ja) for en, ja in zip(*tables, strict=True)] if apart else []
        )
        return "aligned" if any(common) else "other mixed"
    if kind != "uninterpretable":
        return "other mixed"
    alone = [_agreed(each.concepts) | _agreed(each.meanings["category"]) for each in apart]
    if alone and all(alone):
        return "within"
    meant = zip(shown.concepts, shown.meanings["category"], strict=True)
    empty = [concept is None and category is None for concept, category in meant]
    return "function" if np.mean(empty) >= AGREED else "random"


def _in_each_language(shown: Shown) -> list[Shown]:
    """The texts of each language; none where one has fewer than ENOUGH."""
    sides = [[i for i, x in enumerate(shown.languages) if x == side] for side in LANGUAGES]
    if min(map(len, sides)) < ENOUGH:
        return []
    return [
        Shown(
            [shown.tokens[i] for i in side],
            [shown.concepts[i] for i in side],
            {name: [labels[i] for i in side] for name, labels in shown.meanings.items()},
            {name: [labels[i] for i in side] for name, labels in shown.neighbours.items()},
            [shown.languages[i] for i in side],
        )
        for side in sides
    ]


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


def agreement(living: pd.DataFrame) -> dict[str, float]:
    """How the rule that reads tokens alone agrees with the class on living latents, in three
    classes (token, concept, uninterpretable), and the trend of scripts with that of texts."""
    truth = living.granularity.replace(dict.fromkeys(CONCEPT, "concept"))
    rule = living["rule 0.5"]
    return {
        "agreement": (truth == rule).mean(),
        "kappa": sklearn.metrics.cohen_kappa_score(truth, rule),
        "uninterpretable, truth": (truth == "uninterpretable").mean(),
        "uninterpretable, tokens": (rule == "uninterpretable").mean(),
        "trend by script": (living.script == living.trend).mean(),
    }
