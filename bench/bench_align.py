"""One stage-2 step of AlignSAE at its published size: 100,006 latents, d 768, batch 64.

    align   the step as the authors' code makes it, beside srclib's

Run it through `nox -s bench`. Prints Markdown. No peer library takes part: the authors' form is
written from what their code does, not taken from it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple, Protocol

import torch
from align_contenders import Authors, Srclib, evaluate
from measure import Contender, peak_gib, profile, run, table

ROUNDS, CALLS = 2, 2
AUTHORS, SAME = "authors' form", "srclib, the same loss"
SAME_LOSS = 1e-4  # relative: sums of 77 million squares in float32, in another order


class Step(Protocol):
    def step(self) -> float: ...


CONTENDERS: dict[str, Callable[[], Step]] = {
    AUTHORS: Authors,
    SAME: lambda: Srclib(linear=True, n_answers=Authors.n_answers),
    "srclib": Srclib,
    "srclib, with independence": lambda: Srclib(independence=1e-2),
}


class Outcome(NamedTuple):
    milliseconds: list[float]
    losses: list[float]
    """per call, warm-up included"""
    peak: float
    """GiB"""
    fvu: float
    slot_accuracy: float
    profile: dict[str, float]


def alone(name: str) -> Outcome:
    """Warm-up and CALLS steps of one contender in this process: two do not fit into 6 GB."""
    torch.set_num_threads(1)
    contender, losses = CONTENDERS[name](), list[float]()
    timed = Contender(name, lambda: losses.append(contender.step()))
    timed.timed_call()  # allocates the optimiser's state
    seconds = [timed.timed_call() for _ in range(CALLS)]
    peak = peak_gib()  # before the evaluation
    told, found = list(losses), evaluate(contender)
    timed.milliseconds = [1e3 * s for s in seconds]
    seen = profile(timed) if name.startswith("srclib") else {}
    return Outcome(timed.milliseconds, told, peak, *found, seen)


def align() -> str:
    """All contenders in turn, ROUNDS times, each time from the same weights and batches."""
    contenders = {name: Contender(name, lambda: None) for name in CONTENDERS}
    outcomes, order, shuffle = dict[str, Outcome](), list(CONTENDERS), random.Random(0).shuffle
    for _ in range(ROUNDS):
        shuffle(order)
        for name in order:
            # spawned: a forked process would start with this one's peak
            with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
                outcomes[name] = pool.submit(alone, name).result()
            contenders[name].milliseconds.append(sum(outcomes[name].milliseconds) / CALLS)
            contenders[name].profile = outcomes[name].profile
            contenders[name].proofs, contenders[name].peak = (
                outcomes[name].losses,
                outcomes[name].peak,
            )
    ours, theirs = outcomes[SAME].losses[0], outcomes[AUTHORS].losses[0]
    if not math.isclose(ours, theirs, rel_tol=SAME_LOSS):
        raise SystemExit(
            f"losses of the first step differ: srclib {ours:.6f}, authors {theirs:.6f}"
        )
    lines = ["| | FVU | slot accuracy |", "| --- | ---: | ---: |"]
    for name, o in ((name, outcomes[name]) for name in CONTENDERS):
        lines.append(f"| {name} | {o.fvu:.4f} | {o.slot_accuracy:.3f} |")
    times = table(list(contenders.values()), AUTHORS, None, "loss", tail=1)
    return f"{times}\n\nAfter the last step, on inputs that no step read:\n\n" + "\n".join(lines)


WORKLOADS: dict[str, Callable[[], str]] = {"align": align}

if __name__ == "__main__":
    run(__doc__.splitlines()[0], WORKLOADS, ("torch", "numpy", "sae-paper-suite"))
