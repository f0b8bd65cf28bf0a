"""Time contenders side by side: one process, one thread, call by call, CPU time.

Absolute times on a shared machine mean little. Contenders that take turns meet the same
neighbours, so the ratio of two of them is sound; it is taken inside each round, then the median
over rounds.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import resource
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from time import perf_counter, process_time
from typing import Any

import torch

_newest: dict[str, Any] = {}  # what the newest table was made of, for `keep`


@dataclass
class Contender:
    """Something that can be called again and again, and a number that shows it did the work."""

    name: str
    call: Callable[[], object]
    """the timed work"""
    proof: Callable[[], float] | None = None
    """read after a call, not timed: the loss of a training step"""
    milliseconds: list[float] = field(default_factory=list)
    """CPU time of one call, one entry per round"""
    proofs: list[float] = field(default_factory=list)
    """one entry per call, warm-up included"""
    peak: float | None = None
    """GiB of a process that ran this one alone, where there was such a process"""
    profile: dict[str, float] = field(default_factory=dict)
    """share of a call's time by operation, the largest first"""

    def timed_call(self) -> float:
        """Make one call; returns its CPU time in seconds."""
        start = process_time()
        self.call()
        seconds = process_time() - start
        self.proofs.append(self.proof() if self.proof else math.nan)
        return seconds


def made(makers: Mapping[str, Callable[[], Contender]]) -> list[Contender]:
    """All contenders; where `run.py --memory` asks for one, only its peak memory, and the end.

    A process that made them all cannot tell whose memory it was.
    """
    alone = os.environ.get("SRCLIB_BENCH_ALONE")
    if not alone:
        return [make() for make in makers.values()]
    contender = makers[alone]()
    for _ in range(3):
        contender.timed_call()
    _append({"alone": alone, "peak_gib": peak_gib()})
    raise SystemExit


def interleave(
    contenders: Sequence[Contender], rounds: int, calls: int, warmup: int, profiled: bool = True
) -> None:
    """Fill `milliseconds` and `proofs`: `warmup` untimed calls each, then `rounds` of `calls`.

    profiled: ours are called some more times, for their `profile`.

    The order changes from call to call: who comes after whom decides what is still in the cache.
    """
    order, shuffle = list(contenders), random.Random(0).shuffle
    gc.collect()
    gc.disable()  # a collection would be charged to whoever runs when it starts
    try:
        for _ in range(warmup):
            for contender in order:
                contender.timed_call()
        for _ in range(rounds):
            seconds = dict.fromkeys((c.name for c in contenders), 0.0)
            for _ in range(calls):
                shuffle(order)
                for contender in order:
                    seconds[contender.name] += contender.timed_call()
            for contender in contenders:
                contender.milliseconds.append(1e3 * seconds[contender.name] / calls)
        for contender in contenders:
            if profiled and contender.name.startswith("srclib"):
                contender.profile = profile(contender)
    finally:
        gc.enable()


def profile(contender: Contender) -> dict[str, float]:
    """Where the time goes: what a call spends in each of torch's operations, and beside them.

    Shares below a thirtieth are left to the rest.
    """
    n_calls = max(2, min(50, round(1e3 / median(contender.milliseconds))))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        start = perf_counter()  # as the profiler's clock: both stand still for nobody
        for _ in range(n_calls):
            contender.call()
        whole = 1e6 * (perf_counter() - start)
    shares = {op.key: op.self_cpu_time_total / whole for op in seen.key_averages()}
    large = sorted(((share, op) for op, share in shares.items() if share > 1 / 30), reverse=True)
    found = {op.removeprefix("aten::"): share for share, op in large}
    return found | {"rest": max(0.0, 1 - sum(found.values()))}


def table(
    contenders: Sequence[Contender],
    reference: str,
    limit: str | None,
    proof: str,
    tail: int,
    share: int = 1,
) -> str:
    """A Markdown table of what `interleave` measured.

    reference: the contender whose speed counts as 1.
    limit: the contender that nobody can beat, or None.
    proof: what the proofs are; the last column is their mean over the last `tail` calls.
    share: units of work in one call; the times are divided by it.
    """
    by_name, total = {c.name: c for c in contenders}, len(contenders[0].proofs)
    last_calls = f"{proof}, mean of calls {total - tail + 1}-{total}"
    head = ["", "CPU ms", "range", f"x {reference}", "% of limit", f"{proof}, call 1", last_calls]
    head += ["peak GiB"] * any(each.peak for each in contenders)
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for each in contenders:
        times = [t / share for t in each.milliseconds]
        faster = _ratio(by_name[reference], each)
        used = f"{100 * _ratio(by_name[limit], each):.0f}" if limit else ""
        first, last = each.proofs[0], fmean(each.proofs[-tail:])
        time, spread = f"{median(times):.3f}", f"{min(times):.3f}-{max(times):.3f}"
        proofs = ["", ""] if math.isnan(first) else [f"{first:.4f}", f"{last:.4f}"]
        peak = [f"{each.peak:.2f}"] if each.peak else []
        rows.append([each.name, time, spread, f"{faster:.2f}", used, *proofs, *peak])
    _newest.clear()
    _newest.update(reference=reference, limit=limit, proof=proof, tail=tail, peak_gib=peak_gib())
    _newest["contenders"] = {
        each.name: {
            "cpu_ms": [t / share for t in each.milliseconds],
            "times_reference": _ratio(by_name[reference], each),
            "proofs": None if math.isnan(each.proofs[0]) else each.proofs,
            "profile": each.profile,
            "peak_gib": each.peak,
        }
        for each in contenders
    }
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def note(**found: Any) -> None:
    """What `keep` is to write of a workload that has no table."""
    _newest.clear()
    _newest.update(found)


def keep(workload: str, machine: str) -> None:
    """Hand what the newest table says to `run.py`, which puts it into the record."""
    if _newest:
        _append({"workload": workload, "machine": machine, **_newest})
    _newest.clear()


def _append(row: Mapping[str, Any]) -> None:
    if path := os.environ.get("SRCLIB_BENCH_ROWS"):
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")


def _ratio(slow: Contender, fast: Contender) -> float:
    """How many times `fast` fits into `slow`: the median over rounds."""
    pairs = zip(slow.milliseconds, fast.milliseconds, strict=True)
    return median(a / b for a, b in pairs)


def machine(packages: Sequence[str]) -> str:
    """What the numbers depend on besides the code; versions of the packages named."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cpuinfo = Path("/proc/cpuinfo")  # Linux; platform.processor() is often empty there
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"{date}; {cpu}, {torch.backends.cpu.get_cpu_capability()}, one thread; "
        f"{platform.system()}, Python {platform.python_version()}, {versions}"
    )


def peak_gib() -> float:
    """The largest resident memory this process has had, Python and torch in it."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def run(
    description: str,
    workloads: Mapping[str, Callable[[], str]],
    packages: Sequence[str],
    rare: Collection[str] = (),
) -> None:
    """Print, and `keep`, the workloads named on the command line; all but the rare where none is.

    packages: whose versions are told. An unknown workload ends the run.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(workloads))
    chosen = parser.parse_args().workloads or [name for name in workloads if name not in rare]
    if unknown := sorted({*chosen} - {*workloads}):
        parser.error(f"workload {unknown[0]!r}: allowed are {', '.join(workloads)}")
    torch.set_num_threads(1)
    here = machine(packages)
    print(here, flush=True)
    for name in chosen:
        print(f"\n### {name}\n\n{workloads[name]()}", flush=True)
        keep(name, here)
