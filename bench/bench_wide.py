"""One training step of a wide SAE, where nearly all activations are zero.

    topk        TopK, d 512, 8,192 latents, batch 1,024, k 32
    topk-large  TopK, d 2,304, 18,432 latents, batch 512, k 32: two minutes a contender
    jumprelu    JumpReLU, d 512, 8,192 latents, batch 1,024, L0 about 60
    gba         Group Bias Adaptation, 2,048 features, d 128, 8,192 neurons, 2.3 % active

Run it through `nox -s bench`, which makes the environment. Prints Markdown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from measure import Contender, interleave, run, table
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

LIMIT = "encoder product"


def topk_step(d: int, h: int, k: int, n_batch: int, rounds: int) -> str:
    torch.manual_seed(0)
    batches = [torch.randn(n_batch, d) for _ in range(N_BATCHES)]
    peers = {
        "sparsify": Sparsify(d, h, k, batches),
        "dictionary_learning": dl_topk(d, h, k, batches),
    }
    return _compare(lambda: topk(d, h, k, n_batch), batches, h, peers, "sparsify", rounds)


def jumprelu_step() -> str:
    torch.manual_seed(0)
    d, h, n_batch, threshold, target = 512, 8192, 1024, 2.44, 60.0  # 0.73 % of a normal is above
    batches = [torch.randn(n_batch, d) for _ in range(N_BATCHES)]
    peers = {"dictionary_learning": dl_jumprelu(d, h, batches, threshold, target)}
    made = lambda: jumprelu(d, h, n_batch, threshold, target)  # noqa: E731
    return _compare(made, batches, h, peers, "dictionary_learning", 5, "loss")


def gba_step() -> str:
    torch.manual_seed(0)
    d, h, n, s, n_batch = 128, 8192, 2048, 3, 512
    features = torch.nn.functional.normalize(torch.randn(n, d))
    batches = [features[torch.rand(n_batch, n).topk(s).indices].sum(1) for _ in range(N_BATCHES)]
    batches = [torch.nn.functional.normalize(x) for x in batches]
    threshold = 2.0 / d**0.5  # 2.3 % of products of unit vectors are above
    peers = {"autograd": Autograd(d, h, batches, threshold)}
    made = lambda: gba(d, h, n_batch, threshold)  # noqa: E731
    return _compare(made, batches, h, peers, "autograd", 7)


def _compare(
    made: Callable[[], tuple[Any, ...]],
    batches: list[torch.Tensor],
    h: int,
    peers: dict[str, Any],
    reference: str,
    rounds: int,
    what: str = "mse",
) -> str:
    ours = {"srclib": False, "srclib, whole tables": True}
    contenders = [
        _contender(name, Srclib(made, batches, whole), what) for name, whole in ours.items()
    ]
    contenders += [Contender(name, peer.step, peer.loss) for name, peer in peers.items()]
    contenders.append(Contender(LIMIT, Encoder(batches[0], h).step))
    interleave(contenders, rounds, calls=1, warmup=2)
    return table(contenders, reference, LIMIT, what, tail=3)


def _contender(name: str, trainer: Srclib, what: str) -> Contender:
    return Contender(name, trainer.step, trainer.loss if what == "mse" else trainer.objective)


WORKLOADS: dict[str, Callable[[], str]] = {
    "topk": lambda: topk_step(512, 8192, 32, 1024, rounds=5),
    "topk-large": lambda: topk_step(2304, 18_432, 32, 512, rounds=3),
    "jumprelu": jumprelu_step,
    "gba": gba_step,
}

if __name__ == "__main__":
    packages = ("torch", "numpy", "eai-sparsify", "dictionary-learning", "sae-paper-suite")
    run(__doc__.splitlines()[0], WORKLOADS, packages)
