"""One training step of a wide SAE, where nearly all activations are zero.

    topk        TopK, d 512, 8,192 latents, batch 1,024, k 32
    topk-large  TopK, d 2,304, 18,432 latents, batch 512, k 32: two minutes a contender
    jumprelu    JumpReLU, d 512, 8,192 latents, batch 1,024, L0 about 60
    gba         Group Bias Adaptation, 2,048 features, d 128, 8,192 neurons, 2.3 % active
    w1-dl       the toy of bench_toy.py, one SAE, beside dictionary_learning's BatchTopK
    scaling     TopK over d_sae, k and batch, toys over the length of their list: two minutes

Run it through `nox -s bench`, which makes the environment. Prints Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import scaling
import torch
from measure import Contender, interleave, made, run, table
from small_contenders import N_BATCH, Drawn, dl_toy, toy, toy_list
from wide_contenders import (
    N_BATCHES,
    Autograd,
    Encoder,
    Sparsify,
    Srclib,
    dl_jumprelu,
    dl_topk,
    gba,
    jumprelu,
    topk,
)

LIMIT, DL = "encoder product", "dictionary_learning"
Peers = dict[str, Callable[[], Any]]


def topk_step(d: int, h: int, k: int, n_batch: int, rounds: int) -> str:
    torch.manual_seed(0)
    batches = [torch.randn(n_batch, d) for _ in range(N_BATCHES)]
    peers: Peers = {
        "sparsify": lambda: Sparsify(d, h, k, batches),
        DL: lambda: dl_topk(d, h, k, batches),
    }
    return _compare(lambda: topk(d, h, k, n_batch), batches, h, peers, "sparsify", rounds)


def jumprelu_step() -> str:
    torch.manual_seed(0)
    d, h, n_batch, threshold, target = 512, 8192, 1024, 2.44, 60.0  # 0.73 % of a normal is above
    batches = [torch.randn(n_batch, d) for _ in range(N_BATCHES)]
    peers: Peers = {DL: lambda: dl_jumprelu(d, h, batches, threshold, target)}
    ours = lambda: jumprelu(d, h, n_batch, threshold, target)  # noqa: E731
    return _compare(ours, batches, h, peers, DL, 5, "loss")


def gba_step() -> str:
    torch.manual_seed(0)
    d, h, n, s, n_batch = 128, 8192, 2048, 3, 512
    features = torch.nn.functional.normalize(torch.randn(n, d))
    batches = [features[torch.rand(n_batch, n).topk(s).indices].sum(1) for _ in range(N_BATCHES)]
    batches = [torch.nn.functional.normalize(x) for x in batches]
    threshold = 2.0 / d**0.5  # 2.3 % of products of unit vectors are above
    peers: Peers = {"autograd": lambda: Autograd(d, h, batches, threshold)}
    ours = lambda: gba(d, h, n_batch, threshold)  # noqa: E731
    return _compare(ours, batches, h, peers, "autograd", 7)


def toy_step() -> str:
    """Batch and step of one toy SAE; both draw the same batches, each its own, from our source."""
    batches = Drawn(toy(), N_BATCH)

    def step(name: str, make: Callable[[], Any]) -> Contender:
        trainer = make()
        return Contender(name, trainer.step, trainer.loss)

    ours = lambda: Srclib(lambda: toy_list(1), batches, tables=False)  # noqa: E731
    trainers: Peers = {"srclib": ours, DL: lambda: dl_toy(batches)}
    contenders = made({name: partial(step, name, make) for name, make in trainers.items()})
    interleave(contenders, 7, calls=60, warmup=10)
    return table(contenders, DL, None, "mse", tail=20)


def _compare(
    ours: Callable[[], tuple[Any, ...]],
    batches: list[torch.Tensor],
    h: int,
    peers: Peers,
    reference: str,
    rounds: int,
    what: str = "mse",
) -> str:
    def step(name: str, make: Callable[[], Any]) -> Contender:
        trainer = make()
        whole = what == "loss" and isinstance(trainer, Srclib)
        return Contender(name, trainer.step, trainer.objective if whole else trainer.loss)

    every: Peers = {
        "srclib": lambda: Srclib(ours, batches, tables=False),
        "srclib, whole tables": lambda: Srclib(ours, batches, tables=True),
    }
    makers = {name: partial(step, name, make) for name, make in (every | peers).items()}
    limit = lambda: Contender(LIMIT, Encoder(batches[0], h).step)  # noqa: E731
    contenders = made({**makers, LIMIT: limit})
    interleave(contenders, rounds, calls=1, warmup=2)
    return table(contenders, reference, LIMIT, what, tail=3)


WORKLOADS: dict[str, Callable[[], str]] = {
    "topk": lambda: topk_step(512, 8192, 32, 1024, rounds=5),
    "topk-large": lambda: topk_step(2304, 18_432, 32, 512, rounds=3),
    "jumprelu": jumprelu_step,
    "gba": gba_step,
    "w1-dl": toy_step,
    **scaling.WORKLOADS,
}

if __name__ == "__main__":
    packages = ("torch", "numpy", "eai-sparsify", "dictionary-learning", "sae-paper-suite")
    run(__doc__.splitlines()[0], WORKLOADS, packages)
