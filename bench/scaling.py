"""How the time of a training step grows: one size moves, the others stay. CPU ms, one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from measure import Contender, interleave, note
from small_contenders import N_BATCH, Drawn, toy, toy_list
from wide_contenders import N_BATCHES, Sparsify, Srclib, topk

BASE = {"d": 512, "h": 8192, "k": 32, "n_batch": 1024}
NAMES = {"h": "d_sae", "k": "k", "n_batch": "n_batch"}
MOVED = {
    "h": (1024, 2048, 4096, 8192, 16_384),
    "k": (8, 16, 32, 64, 128),
    "n_batch": (128, 256, 512, 1024, 2048),
}
LISTS = (1, 2, 5, 10, 25)
ROUNDS = 4


def scaling() -> str:
    """All curves as a table each; the last losses of a row show that the work was done."""
    curves = [_curve(moved) for moved in MOVED] + [_lists()]
    note(curves=curves)
    return "\n\n".join(_table(curve) for curve in curves)


def _curve(moved: str) -> dict[str, Any]:
    points = {at: _step(**{**BASE, moved: at}) for at in MOVED[moved]}
    fixed = ", ".join(f"{NAMES.get(n, n)} {v:,}" for n, v in BASE.items() if n != moved)
    return {"over": NAMES[moved], "fixed": f"TopK, {fixed}", "series": _series(points)}


def _step(d: int, h: int, k: int, n_batch: int) -> list[Contender]:
    torch.manual_seed(0)
    batches = [torch.randn(n_batch, d) for _ in range(N_BATCHES)]
    ours = Srclib(partial(topk, d, h, k, n_batch), batches, tables=False)
    theirs = Sparsify(d, h, k, batches)
    contenders = [
        Contender("srclib", ours.step, ours.loss),
        Contender("sparsify", theirs.step, theirs.loss),
    ]
    interleave(contenders, ROUNDS, calls=1, warmup=1)
    return contenders


def _lists() -> dict[str, Any]:
    """Toys in one list share the batch and the products with it; times are per SAE."""
    points = {}
    for n in LISTS:
        ours = Srclib(partial(toy_list, n), Drawn(toy(), N_BATCH), tables=False)
        contender = Contender("srclib", ours.step, ours.loss)
        interleave([contender], ROUNDS, calls=20, warmup=5)
        contender.milliseconds = [each / n for each in contender.milliseconds]
        points[n] = [contender]
    fixed = "toys of 50 latents, n_batch 1,024, per SAE"
    return {"over": "list length", "fixed": fixed, "series": _series(points)}


def _series(points: dict[int, list[Contender]]) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for at, contenders in points.items():
        for each in contenders:
            times = each.milliseconds
            point = {"cpu_ms": median(times), "low": min(times), "high": max(times)}
            point |= {"last": each.proofs[-1]}
            rounded = {name: float(f"{value:.5g}") for name, value in point.items()}
            found.setdefault(each.name, []).append({"at": at, **rounded})
    return found


def _table(curve: dict[str, Any]) -> str:
    def lines() -> Iterator[list[str]]:
        yield [curve["over"], *(f"{name}, CPU ms | loss" for name in curve["series"])]
        yield ["---:"] * (1 + 2 * len(curve["series"]))
        for points in zip(*curve["series"].values(), strict=True):
            cells = [f"{each['cpu_ms']:.4g} | {each['last']:.5g}" for each in points]
            yield [f"{points[0]['at']:,}", *cells]

    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines())
    return f"{curve['fixed']}:\n\n{rows}"


WORKLOADS: dict[str, Callable[[], str]] = {"scaling": scaling}
