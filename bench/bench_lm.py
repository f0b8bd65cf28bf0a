"""Harvesting from a language model and matching two dictionaries, beside the plain ways.

    harvest    activations after block 6 of 12, GPT-2-small shape, 32 texts of 16-128 tokens
    matching   best one-to-one assignment of 2,048 latents, d 768
    matching-large   of 18,432, d 512; only where it is named

Run it through `nox -s bench`. Prints Markdown. No peer library takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from time import process_time
from typing import TYPE_CHECKING

import numpy as np
import torch
from measure import Contender, interleave, made, peak_gib, run, table
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from srclib import rng
from srclib.metrics.stability import _assign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUNDS = 5
N_TEXTS, N_BATCH, SHORTEST, LONGEST, N_IDS = 32, 8, 16, 128, 50_257
LAYER = 5  # blocks count from 0: after it, six have run
SAME_OPTIMUM = 1e-6  # between mean cosines: float32 rounding, far below any other assignment
Matcher = Callable[[Tensor, Tensor], float]


def texts() -> list[Tensor]:
    """Random ids; lengths uniform, in no order."""
    draw = rng.stream(0, "bench", "texts")
    lengths = torch.randint(SHORTEST, LONGEST + 1, (N_TEXTS,), generator=draw).tolist()
    return [torch.randint(N_IDS, (n,), generator=draw) for n in lengths]


@torch.no_grad()
def plain_pass(model: PreTrainedModel, batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The whole model on one padded batch: the state after LAYER, and which tokens are real."""
    ids = pad_sequence(batch, batch_first=True)
    lengths = torch.tensor([len(text) for text in batch])
    mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
    out = model(ids, attention_mask=mask.long(), output_hidden_states=True, use_cache=False)
    return out.hidden_states[LAYER + 1], mask  # entry 0 is the embedding


@dataclass
class Harvester:
    """Harvests all texts at each call and keeps what it got."""

    work: Callable[[], list[tuple[Tensor, Tensor]]]
    """activations [n_texts, seq, d_model] and mask [n_texts, seq], batch by batch"""
    newest: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def call(self) -> None:
        self.newest = self.work()

    def rows(self) -> Tensor:
        """[n_tokens, d_model], text after text."""
        return torch.cat([acts[mask] for acts, mask in self.newest])

    def squared_norm(self) -> float:
        return float(self.rows().double().square().sum(dim=1).mean())


def harvesting() -> str:
    """The whole model on the caller's batches, against `harvest`; values compared as well."""
    # here: transformers would count in the peak memory of `alone`, whose process imports this file
    from srclib.lm.harvest import harvest
    from srclib.lm.models import LMConfig, new_model

    sizes = {"d_model": 768, "n_layers": 12, "n_heads": 12, "d_mlp": 3072, "context": 1024}
    model, tokens = new_model(LMConfig(family="gpt2", vocab_size=N_IDS, **sizes)), texts()
    batches = [tokens[i : i + N_BATCH] for i in range(0, N_TEXTS, N_BATCH)]
    largest = N_BATCH * LONGEST  # positions per pass: 8 of the longest texts, more of the short

    plain = Harvester(lambda: [plain_pass(model, batch) for batch in batches])
    ours = Harvester(lambda: [harvest(model, tokens, LAYER, batch_tokens=largest)])
    contenders = made(
        {
            "srclib": lambda: Contender("srclib", ours.call, ours.squared_norm),
            "plain": lambda: Contender("plain", plain.call, plain.squared_norm),
        }
    )
    interleave(contenders, ROUNDS, calls=1, warmup=1)

    difference = float((ours.rows() - plain.rows()).abs().max())
    size = float(plain.rows().abs().max())
    same_batch = Harvester(lambda: [harvest(model, batch, LAYER) for batch in batches])
    same_batch.call()
    identical = same_batch.rows().equal(plain.rows())
    return (
        f"{table(contenders, 'plain', None, 'squared norm', tail=ROUNDS)}\n\n"
        f"Largest absolute difference: {difference:.1e} (largest activation {size:.1f}). "
        f"On the same batches: {'bit-identical' if identical else 'NOT bit-identical'}."
    )


def dictionaries(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Two of [n, d]: 60 % of the second are noisy copies from the first, 40 % unrelated rows."""
    a, b = (rng.normals(0, "bench", "dictionary", name, shape=(n, d)) for name in "ab")
    n_copies = 6 * n // 10
    b[:n_copies] = a[:n_copies] + 0.5 * b[:n_copies]  # cosine 0.89
    return a, b[torch.randperm(n, generator=rng.stream(0, "bench", "order"))]


def suite_matching(a: Tensor, b: Tensor) -> float:
    """One of the two assignments that `stability` makes; mean matched cosine."""
    return float(_assign(a, b)[1].mean())


def scipy_matching(a: Tensor, b: Tensor) -> float:
    """What one writes by hand: float32 cosines, handed to scipy as they are."""
    cosines = (normalize(a) @ normalize(b).T).numpy()
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].mean(dtype=np.float64))


MATCHERS: dict[str, Matcher] = {"srclib": suite_matching, "scipy": scipy_matching}


def matching() -> str:
    """Cosines and assignment, n 2,048."""
    a, b = dictionaries(2048, 768)
    makers = {name: partial(_matcher, name, each, a, b) for name, each in MATCHERS.items()}
    contenders = made(makers)
    interleave(contenders, ROUNDS, calls=1, warmup=1)
    rows = table(contenders, "scipy", None, "mean cosine", tail=ROUNDS)
    return f"{rows}\n\n{_same_optimum(*(each.proofs[-1] for each in contenders))}"


def large_matching() -> str:
    """The size of the largest SAEs here, once, each contender in a process of its own."""
    contenders = []
    for name in MATCHERS:
        # spawned: a forked process would start with this one's peak
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            seconds, gib, cosine = pool.submit(alone, name, 18_432, 512).result()
        contenders.append(Contender(name, lambda: None, None, [1e3 * seconds], [cosine], gib))
    rows = table(contenders, "scipy", None, "mean cosine", tail=1)
    return f"{rows}\n\n{_same_optimum(*(each.proofs[-1] for each in contenders))}"


def alone(name: str, n: int, d: int) -> tuple[float, float, float]:
    """CPU seconds of one matching, peak GiB of this process, mean matched cosine."""
    torch.set_num_threads(1)
    a, b = dictionaries(n, d)
    start = process_time()
    cosine = MATCHERS[name](a, b)
    seconds = process_time() - start
    return seconds, peak_gib(), cosine


WORKLOADS: dict[str, Callable[[], str]] = {
    "harvest": harvesting,
    "matching": matching,
    "matching-large": large_matching,
}


def _matcher(name: str, match: Matcher, a: Tensor, b: Tensor) -> Contender:
    newest: list[float] = []

    def call() -> None:
        newest[:] = [match(a, b)]

    return Contender(name, call, lambda: newest[0])


def _same_optimum(ours: float, theirs: float) -> str:
    """Both are exact: another optimum is an error, not a result."""
    if abs(ours - theirs) > SAME_OPTIMUM:
        raise SystemExit(f"mean cosines differ: srclib {ours:.9f}, scipy {theirs:.9f}")
    return f"Difference of the mean cosines: {abs(ours - theirs):.1e}."


if __name__ == "__main__":
    packages = ("torch", "numpy", "scipy", "transformers", "sae-paper-suite")
    run(__doc__.splitlines()[0], WORKLOADS, packages, rare=["matching-large"])
