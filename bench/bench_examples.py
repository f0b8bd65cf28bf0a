"""Texts that show each latent, collected from a stream: sparse entries against a dense table.

    examples   50 texts for each of 32,768 latents, chunks of 2,048 tokens, 32 active per token

Run it through `nox -s bench`. Prints Markdown. No peer library takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from measure import Contender, interleave, made, run, table
from torch import Tensor

from srclib import rng
from srclib.methods.latents.examples import Collector, Rule

ROUNDS, CALLS, WARMUP = 4, 1, 3
N_LATENTS, N_TOKENS, SEQ, K, N_KEPT = 32_768, 2_048, 64, 32, 50


def chunk(index: int) -> tuple[Tensor, Tensor]:
    """Active latents and their activations, [N_TOKENS, K] each; a few latents are frequent."""
    draw = rng.stream(0, "bench", "examples", index)
    popular = torch.rand(N_TOKENS, N_LATENTS // 8, generator=draw).topk(K // 2).indices
    rare = torch.randint(N_LATENTS // 8, N_LATENTS, (N_TOKENS, K // 2), generator=draw)
    values = torch.rand(N_TOKENS, K, generator=draw) + 0.01
    return torch.cat([popular, rare.sort(dim=1).values], dim=1), values


@dataclass
class Sparse:
    """Our collector, one chunk at each call."""

    rule: Rule
    collector: Collector = field(init=False)
    n_chunks: int = 0

    def __post_init__(self) -> None:
        self.collector = Collector(N_LATENTS, N_KEPT, self.rule)

    def call(self) -> None:
        latents, values = CHUNKS[self.n_chunks % len(CHUNKS)]
        token = torch.arange(N_TOKENS).repeat_interleave(K)
        document = self.n_chunks * (N_TOKENS // SEQ) + token // SEQ
        flat = latents.flatten(), document, token % SEQ, values.flatten()
        bar = 0.7 if self.rule == "threshold" else 0.0
        wanted = flat[3] > bar
        self.collector.add(*(each[wanted] for each in flat))
        self.n_chunks += 1

    def kept(self) -> float:
        return float(self.collector.result(torch.zeros(N_LATENTS)).count.double().mean())


@dataclass
class Dense:
    """The plain way: every token of every latent, then the largest of old and new."""

    best: Tensor = field(default_factory=lambda: torch.zeros(N_KEPT, N_LATENTS))
    where: Tensor = field(default_factory=lambda: torch.full((N_KEPT, N_LATENTS), -1))
    n_chunks: int = 0

    def call(self) -> None:
        latents, values = CHUNKS[self.n_chunks % len(CHUNKS)]
        acts = torch.zeros(N_TOKENS, N_LATENTS).scatter_(1, latents, values)
        tokens = torch.arange(N_TOKENS)[:, None] + self.n_chunks * N_TOKENS
        both = torch.cat([self.best, acts])  # [N_KEPT + N_TOKENS, N_LATENTS]
        self.best, index = both.topk(N_KEPT, dim=0)
        places = torch.cat([self.where, tokens.expand(-1, N_LATENTS)])
        self.where = places.gather(0, index)
        self.n_chunks += 1

    def kept(self) -> float:
        return float((self.best > 0).sum(0).double().mean())


CHUNKS = [chunk(i) for i in range(4)]


def examples() -> str:
    kept: dict[str, Sparse | Dense] = {}

    def contender(name: str, make: Callable[[], Sparse | Dense]) -> Contender:
        kept[name] = make()
        return Contender(name, kept[name].call, kept[name].kept)

    makers: dict[str, Callable[[], Sparse | Dense]] = {
        "srclib, threshold": partial(Sparse, "threshold"),
        "srclib, top": partial(Sparse, "top"),
        "dense": Dense,
    }
    contenders = made({name: partial(contender, name, make) for name, make in makers.items()})
    interleave(contenders, ROUNDS, CALLS, WARMUP, profiled=False)  # all have read as much
    rows = table(contenders, "dense", None, "examples per latent", tail=ROUNDS)
    top, dense = kept["srclib, top"], kept["dense"]
    assert isinstance(top, Sparse) and isinstance(dense, Dense)
    weakest = top.collector.result(torch.zeros(N_LATENTS)).values[:, -1]
    if bool((weakest > dense.best[-1]).any()):
        raise SystemExit("a 50th strongest text is stronger than the 50th strongest token")
    return f"{rows}\n\nNo 50th text is above the 50th token."


if __name__ == "__main__":
    run(__doc__.splitlines()[0], {"examples": examples}, ("torch", "numpy", "sae-paper-suite"))
