"""What `run.py` measured, kept for the book: rows in, data/trust/bench.json out.

A row is what `measure.keep` writes of one workload: the times of every round and contender. An
entry is what a page needs of it, with ratios to the best peer and the goals of targets.toml.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from srclib.suite import trust

BENCH = Path(__file__).resolve().parent
TARGETS = tomllib.loads((BENCH / "targets.toml").read_text("utf-8"))
NAME = "bench"
Row = Mapping[str, Any]


def merge(rows: Sequence[Row]) -> Path:
    """Put rows into the record: each replaces what was known of its workload, the rest stays.

    Returns the record's path. Raises DataError where the record was edited.
    """
    known = trust.load(NAME) if trust.path(NAME).exists() else {}
    known.pop(trust.SEAL, None)
    known |= {row["workload"]: entry(row) for row in rows}
    return trust.write(NAME, {name: known[name] for name in TARGETS if name in known})


def entry(row: Row) -> dict[str, Any]:
    """The record of one workload. Raises SystemExit for one that targets.toml does not have."""
    name, target = row["workload"], TARGETS.get(row["workload"])
    if target is None:
        raise SystemExit(f"workload {name!r}: allowed are {', '.join(TARGETS)}. See targets.toml.")
    day, _, machine = row["machine"].partition("; ")
    origin = row.get("provenance") or {"command": f"nox -s bench -- {name}", "commit": None}
    kept = {"provenance": {**origin, "date": day, "machine": machine}, "title": target["title"]}
    if "curves" in row:
        return kept | {"curves": row["curves"]}
    times = {each: found["cpu_ms"] for each, found in row["contenders"].items()}
    peers = {each: times[each] for each in target["peers"] if each in times}
    best = min(peers, key=lambda each: median(peers[each]))
    tail = row.get("tail", 1)
    return kept | {
        "peak_gib": _short(row["peak_gib"]),
        "proof": row["proof"],
        "limit": row["limit"],
        "best_peer": best,
        "contenders": [
            _contender(each, row["contenders"][each], times, best, row["limit"], tail)
            for each in times
        ],
        "goals": [_goal(goal, times, best) for goal in target.get("goals", [{}])],
    }


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times `fast` fits into `slow`, round by round: both met the same neighbours."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def _contender(
    name: str, found: Row, times: Mapping[str, list[float]], best: str, limit: str | None, tail: int
) -> dict[str, Any]:
    own, proofs = times[name], found["proofs"]
    return {
        "name": name,
        "cpu_ms": _short(median(own)),
        "low": _short(min(own)),
        "high": _short(max(own)),
        "to_best": _short(median(ratios(times[best], own))),
        "of_limit": _short(median(ratios(times[limit], own))) if limit else None,
        "first": float(f"{proofs[0]:.7g}") if proofs else None,
        "last": float(f"{fmean(proofs[-tail:]):.7g}") if proofs else None,
        "peak_gib": _short(found["peak_gib"]) if found.get("peak_gib") else None,
        "profile": {op: _short(share) for op, share in found.get("profile", {}).items()},
    }


def _goal(goal: Row, times: Mapping[str, list[float]], best: str) -> dict[str, Any]:
    ours, against = goal.get("ours", "srclib"), goal.get("against", best)
    every = ratios(times[against], times[ours])
    return {
        "ours": ours,
        "against": against,
        "ratio": _short(median(every)),
        "low": _short(min(every)),
        "high": _short(max(every)),
        "to_best": _short(median(ratios(times[best], times[ours]))),
        "must": goal.get("must"),
        "aim": goal.get("aim"),
    }


def _short(value: float) -> float:
    """Four significant digits: a time has no more."""
    return float(f"{value:.4g}")
