"""Latents of a known class, planted in texts whose truth is known: do the rules see them?"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from ... import rng
from ...runs.tables import tidy
from ...worlds.bilingual import Evidence
from .reading import granularity, mixed_part, within

N_TEXTS = 50  # kept for a latent, as in the study
CONTAMINATIONS = (0.0, 0.1, 0.2, 0.3)  # shares of texts that are replaced by random ones
KINDS = ("token", "synonymy", "similarity", "uninterpretable")
WITHIN = ("within", "meaning within")
PARTS = ("same concept", "same category", "same sentence", *WITHIN, "function", "random")

Where = tuple[Tensor, Tensor]  # documents and positions, both [N_TEXTS]


def recovered(evidence: Evidence | None, n_trials: int, seed: int) -> pd.DataFrame:
    """Share of planted latents whose class is found again, index (planted, contamination), in the
    column `truth`, where *context* counts as similarity. No rows without evidence."""
    tests = {}
    for kind, contamination, trial in _tests(evidence, KINDS, n_trials):
        assert evidence is not None
        shown = evidence.at(*planted(evidence, kind, contamination, trial, seed))
        fine = {kind, "context"} if kind == "similarity" else {kind}
        tests[kind, contamination, trial] = {"truth": granularity(shown) in fine}
    return _shares(tests)


def recovered_parts(evidence: Evidence | None, n_trials: int, seed: int) -> pd.DataFrame:
    """The same for the parts of *mixed*, and for what is *within* by a concept or category."""
    tests = {}
    for part, contamination, trial in _tests(evidence, PARTS, n_trials):
        assert evidence is not None
        shown = evidence.at(*planted_mixed(evidence, part, contamination, trial, seed))
        by_meaning = part == "meaning within" and within(shown, 2)
        found = by_meaning or mixed_part(granularity(shown), shown) == part
        tests[part, contamination, trial] = {"truth": found}
    return _shares(tests)


def _tests(
    evidence: Evidence | None, kinds: tuple[str, ...], n_trials: int
) -> list[tuple[str, float, int]]:
    trials = range(n_trials if evidence else 0)
    return [(kind, share, trial) for kind in kinds for share in CONTAMINATIONS for trial in trials]


def _shares(tests: dict[tuple[str, float, int], dict[str, bool]]) -> pd.DataFrame:
    table = tidy(tests, ("planted", "contamination", "trial")).reindex(columns=["truth"])
    return table.groupby(["planted", "contamination"], sort=False).mean()


def planted(evidence: Evidence, kind: str, contamination: float, trial: int, seed: int) -> Where:
    """The texts of a latent of a class: of one token, concept or category, or any words."""
    g = rng.stream(seed, "planted", kind, int(100 * contamination), trial)
    every = torch.arange(evidence.tokens.numel())
    content = evidence.concept.flatten() >= 0
    table = {"token": evidence.tokens, "synonymy": evidence.concept}.get(kind)
    table = evidence.meanings["category"] if table is None else table
    values = table.flatten()[content]
    value = values[int(torch.randint(len(values), (), generator=g))]
    fits = every[(table.flatten() == value) & content]
    n_random = N_TEXTS if kind == "uninterpretable" else round(N_TEXTS * contamination)
    picks = fits[torch.randint(len(fits), (N_TEXTS - n_random,), generator=g)]
    noise = every[torch.randint(len(every), (n_random,), generator=g)]
    return _where(evidence, torch.cat([picks, noise]))


def planted_mixed(
    evidence: Evidence, part: str, contamination: float, trial: int, seed: int
) -> Where:
    """The texts of a mixed latent, half of them English: one concept or category in both languages,
    sentences with one relation, one concept in each language (within), words without meaning
    (function), or any words (random)."""
    g = rng.stream(seed, "planted mixed", part, int(100 * contamination), trial)
    tables = (evidence.concept, evidence.meanings["category"], evidence.meanings["relation"])
    concept, category, relation = (table.flatten() for table in tables)
    language = evidence.language.flatten()

    def draw(mask: Tensor, n: int) -> Tensor:
        where = mask.nonzero().flatten()
        return where[torch.randint(len(where), (n,), generator=g)]

    def in_both(table: Tensor) -> Tensor:
        english, japanese = (torch.isin(table, table[language == i]) for i in (0, 1))
        return english & japanese & (table >= 0)

    shared = in_both(concept)
    one = draw(shared, 1)
    another = draw(shared & (category != category[one]), 1)
    every = torch.ones_like(shared)
    fits = {
        "same concept": [concept == concept[one]] * 2,
        "same category": [category == category[one]] * 2,
        "same sentence": [relation == relation[draw(in_both(relation), 1)]] * 2,
        **{name: [concept == concept[i] for i in (one, another)] for name in WITHIN},
        "function": [(concept < 0) & (category < 0)] * 2,
        "random": [every] * 2,
    }[part]
    n_random = round(N_TEXTS * contamination)
    picks = [draw(fits[i] & (language == i), (N_TEXTS - n_random) // 2) for i in (0, 1)]
    return _where(evidence, torch.cat([*picks, draw(every, n_random)]))


def _where(evidence: Evidence, place: Tensor) -> Where:
    width = evidence.tokens.shape[1]
    return place // width, place % width
