"""Generating and training on the toy of Sparse but Wrong: srclib beside SAELens.

    w1-gen  one batch of 1,024 inputs
    w1      the same and one training step of a BatchTopK SAE, k = 11
    w1b     25 SAEs, k = 1..25, times per SAE

Run it through `nox -s bench`, which makes the environment. Prints Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from measure import Contender, interleave, made, run, table
from torch import Tensor
from toy_contenders import (
    N_BATCH,
    Gemms,
    OneBatch,
    SaeLens,
    Srclib,
    saelens_batches,
    srclib_batches,
    toy,
)

ROUNDS = 7
SAELENS, LIMIT = "SAELens", "five products"


def generator() -> str:
    """One batch; its mean squared norm shows that both draw from the same distribution."""
    source = toy()
    contenders = made(
        {
            "srclib": lambda: _generator("srclib", srclib_batches(source)),
            SAELENS: lambda: _generator(SAELENS, saelens_batches(source)),
        }
    )
    interleave(contenders, ROUNDS, calls=100, warmup=10)
    return table(contenders, SAELENS, None, "squared norm", tail=100)


def one_sae() -> str:
    """Batch and step. On the same batches both libraries must show the same losses."""
    source = toy()
    x = source.batch(0, N_BATCH)
    trainers: dict[str, Callable[[], Srclib | SaeLens]] = {
        "srclib": lambda: Srclib(source, [11]),
        "srclib, step alone": lambda: Srclib(OneBatch(x), [11]),
        SAELENS: lambda: SaeLens(saelens_batches(source), [11]),
        "SAELens, srclib's batches": lambda: SaeLens(srclib_batches(source), [11]),
    }
    contenders = _trainers(trainers, lambda: Gemms(x))
    interleave(contenders, ROUNDS, calls=60, warmup=10)
    return table(contenders, SAELENS, LIMIT, "loss", tail=20)


def sweep() -> str:
    """25 SAEs per seed; losses are means over the SAEs."""
    source, ks = toy(), range(1, 26)
    trainers: dict[str, Callable[[], Srclib | SaeLens]] = {
        "srclib, one list": lambda: Srclib(source, ks),
        SAELENS: lambda: SaeLens(saelens_batches(source), ks),
        "SAELens, shared batch": lambda: SaeLens(saelens_batches(source), ks, share_batch=True),
    }
    contenders = _trainers(trainers, lambda: Gemms(source.batch(0, N_BATCH), len(ks)))
    interleave(contenders, ROUNDS, calls=8, warmup=2)
    return table(contenders, SAELENS, LIMIT, "loss", tail=8, share=len(ks))


WORKLOADS: dict[str, Callable[[], str]] = {"w1-gen": generator, "w1": one_sae, "w1b": sweep}


def _trainers(
    makers: dict[str, Callable[[], Srclib | SaeLens]], limit: Callable[[], Gemms]
) -> list[Contender]:
    def contender(name: str, make: Callable[[], Srclib | SaeLens]) -> Contender:
        trainer = make()
        return Contender(name, trainer.step, trainer.loss)

    every = {name: partial(contender, name, make) for name, make in makers.items()}
    return made({**every, LIMIT: lambda: Contender(LIMIT, limit().step)})


def _generator(name: str, batches: Callable[[], Tensor]) -> Contender:
    newest: list[Tensor] = []

    def call() -> None:
        newest[:] = [batches()]

    return Contender(name, call, lambda: float(newest[0].square().sum(dim=1).mean()))


if __name__ == "__main__":
    torch.manual_seed(0)  # SAELens draws from the global generator
    packages = ("torch", "numpy", "sae-lens", "sae-paper-suite")
    run(__doc__.splitlines()[0], WORKLOADS, packages)
