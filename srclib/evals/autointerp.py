"""SAEBench automated interpretability, with a judge that knows the vocabulary of explanations.

SAEBench asks a language model to explain a latent and to predict it. Here the explanation is the
best of the predicates that are true in a synthetic corpus, so the judge is free of charge,
deterministic, and its ceiling is known.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import rng
from ..errors import DataError, message

TOP, SAMPLED = (10, 2), (5, 2)  # windows for generation and for scoring
N_RANDOM = 10
FLOOR = N_RANDOM / (TOP[1] + SAMPLED[1] + N_RANDOM)  # "none" where random windows are silent
MARKED = 0.01  # of the largest activation: above it a token counts as active


class Interpretation(NamedTuple):
    """One entry per latent; a latent that fires too rarely to be judged has NaN and -1."""

    score: Tensor  # [n_latents] share of the 14 scoring windows that are classified correctly
    floor: Tensor  # what the answer "none" scores on the same windows; `FLOOR` or less
    explanation: Tensor  # index of the predicate
    f1: Tensor  # its F1 over the tokens of the generation windows


@torch.no_grad()
def autointerp(
    acts: Tensor, predicates: Tensor, *, reach: int = 10, seed: int = 0
) -> Interpretation:
    """How well the best explanation of each latent predicts where it fires.

    acts: [n_texts, seq, n_latents], zero where tokens do not count (BOS); predicates:
    [n_texts, seq, n_predicates] bool. A window is a token and `reach` on each side of it.

        generation: 10 of the 12 top windows, 5 of 7 drawn with probability ~ activation
        explanation = argmax over predicates of F1 with "marked", over their tokens
        scoring: the other 2 + 2 and 10 random windows; predicted active if the predicate holds at
            any token, active if any token is marked (above 1 % of the largest activation)

    Differs from SAEBench: the judge; random windows count as active where the latent fires
    (SAEBench takes them for silent); no sampled window is centred inside a top window, so the
    same tokens do not explain and score. Raises DataError for texts shorter than a window.
    """
    n_texts, seq, n_latents = acts.shape
    if predicates.shape[:2] != acts.shape[:2] or seq <= 2 * reach or reach < 1:
        seen = f"acts {tuple(acts.shape)}, predicates {tuple(predicates.shape)}, reach {reach}"
        fix = "Take longer texts or a smaller reach."
        raise DataError(message("shapes", seen, "equal texts with seq > 2 * reach >= 2", fix))
    table = predicates.reshape(n_texts * seq, -1)
    by_latent = acts.permute(2, 0, 1).contiguous()
    score, floor, f1 = torch.full((3, n_latents), torch.nan, dtype=torch.float64)
    explanation = torch.full((n_latents,), -1)
    for i in range(n_latents):
        generator = rng.stream(seed, "evals", "autointerp", i)
        drawn = _windows(by_latent[i], reach, generator)
        if drawn is None:
            continue
        generation, scoring = drawn
        marked = by_latent[i].flatten() > MARKED * by_latent[i].max()
        explanation[i], f1[i] = _explain(table[generation], marked[generation])
        predicted = table[:, explanation[i]][scoring].any(dim=1)  # [14]
        active = marked[scoring].any(dim=1)
        score[i] = (predicted == active).double().mean()
        floor[i] = (~active).double().mean()
    return Interpretation(score, floor, explanation, f1)


def _windows(acts: Tensor, reach: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """Token indices of the generation [15, width] and scoring [14, width] windows; None: too few.

    acts: [n_texts, seq] of one latent.
    """
    n_texts, seq = acts.shape
    left = acts.clamp(min=0).clone()
    left[:, :reach] = left[:, seq - reach :] = 0.0  # centres whose window would leave the text
    flat, top = left.view(-1), []
    for _ in range(sum(TOP)):
        centre = int(flat.argmax())
        if flat[centre] <= 0:
            return None
        top.append(centre)
        text, at = divmod(centre, seq)
        left[text, at - reach : at + reach + 1] = 0.0
    rest = flat.nonzero().flatten()
    if len(rest) < sum(SAMPLED):
        return None
    sampled = rest[torch.multinomial(flat[rest], sum(SAMPLED), generator=generator)]
    tops = torch.tensor(top)[torch.randperm(len(top), generator=generator)]
    texts = torch.randint(n_texts, (N_RANDOM,), generator=generator)
    places = torch.randint(reach, seq - reach, (N_RANDOM,), generator=generator)
    generation = torch.cat([tops[: TOP[0]], sampled[: SAMPLED[0]]])
    scoring = torch.cat([tops[TOP[0] :], sampled[SAMPLED[0] :], texts * seq + places])
    around = torch.arange(-reach, reach + 1)
    return generation[:, None] + around, scoring[:, None] + around


def _explain(table: Tensor, marked: Tensor) -> tuple[int, float]:
    """The predicate with the best F1, the first of equals. table: [..., n_predicates]."""
    held = table.reshape(-1, table.shape[-1]).float()  # [n_tokens, n_predicates]
    truth = marked.flatten().float()
    f1 = 2 * (truth @ held) / (held.sum(dim=0) + truth.sum())
    best = int(f1.argmax())
    return best, float(f1[best])
