"""Two numbers that need a large table of products, beside the plain ways.

    selection  s_n: the element 64 x 512 of 512 x 32,768 projections, by size
    cosines    the largest cosine of each of 8,192 latents with 8,192 others, d 1,536

Run it through `nox -s bench`. Prints Markdown. No peer library takes part.
"""

from __future__ import annotations

from collections.abc import Callable

from measure import Contender, interleave, made, run, table
from torch import Tensor
from torch.nn.functional import normalize

from srclib import rng
from srclib.compute.fast import kth_largest
from srclib.metrics import max_cosine_similarity

ROUNDS = 5
PRODUCT = "the product alone"
Number = Callable[[], float]


def selection() -> str:
    """All three are exact: another value is an error, not a result."""
    z = rng.normals(0, "bench", "projections", shape=(512, 32_768))
    nth = 64 * len(z) + 1
    contenders = _made(
        {
            "srclib": lambda: kth_largest(z, nth),
            "torch.topk": lambda: float(z.flatten().topk(nth, sorted=False).values.min()),
            "torch.sort": lambda: float(z.flatten().sort(descending=True).values[nth - 1]),
        }
    )
    return _compared(contenders, "torch.topk", None, "s_n")


def cosines() -> str:
    a, b = (rng.normals(0, "bench", "cosines", name, shape=(8192, 1536)) for name in "ab")

    def whole() -> float:
        return _mean((normalize(a) @ normalize(b).T).amax(dim=1))

    contenders = _made(
        {
            "srclib": lambda: _mean(max_cosine_similarity(a, b)),
            "whole table": whole,
            PRODUCT: lambda: float((a @ b.T)[0, 0]),
        }
    )
    return _compared(contenders, "whole table", PRODUCT, "mean of the largest cosines")


WORKLOADS: dict[str, Callable[[], str]] = {"selection": selection, "cosines": cosines}


def _mean(x: Tensor) -> float:
    return float(x.double().mean())


def _made(numbers: dict[str, Number]) -> list[Contender]:
    def contender(name: str, number: Number) -> Contender:
        newest: list[float] = []

        def call() -> None:
            newest[:] = [number()]

        return Contender(name, call, None if name == PRODUCT else lambda: newest[0])

    return made({name: lambda n=name: contender(n, numbers[n]) for name in numbers})  # type: ignore[misc]


def _compared(contenders: list[Contender], peer: str, limit: str | None, proof: str) -> str:
    interleave(contenders, ROUNDS, calls=1, warmup=1)
    found = {each.name: each.proofs[-1] for each in contenders if each.name != limit}
    if max(found.values()) - min(found.values()) > 1e-6:
        raise SystemExit(f"the results differ: {found}")
    return table(contenders, peer, limit, proof, tail=ROUNDS)


if __name__ == "__main__":
    run(__doc__.splitlines()[0], WORKLOADS, ("torch", "numpy", "sae-paper-suite"))
