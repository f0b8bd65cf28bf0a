"""Counts what the crash loops did; run by `nox -s faults` it is a plugin that keeps the counts."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
import trust
from cases import CASES

_COUNTS: dict[str, Counter[str]] = {}
_OUTCOMES: dict[str, set[str]] = {}


def tally(part: str, what: str, **counts: int) -> None:
    """`tally("flips", "an SAE", detected=3)` adds to what this run found."""
    for name, n in counts.items():
        _COUNTS.setdefault(part, Counter())[f"{what}|{name}"] += n


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.split("[")[0].removeprefix("tests/")
        _OUTCOMES.setdefault(name, set()).add(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    command = os.environ["SUITE_FAULT_COMMAND"]
    rows = [{"case": case, "what is done": what} for case, (what, _) in CASES.items()]
    for row, (_, names) in zip(rows, CASES.values(), strict=True):
        row["outcome"] = _outcome(names.split())
    survived = sum(row["outcome"] == "survived" for row in rows)
    not_run = sum(row["outcome"] == "not run" for row in rows)
    found: dict[str, Any] = {"n": len(rows), "survived": survived, "not_run": not_run, "rows": rows}
    at = os.environ.get("SUITE_FAULT_COMMIT")
    if os.environ["SUITE_FAULT_CASES"]:
        trust.keep("faults", command, "cases", found, at)
    if any("failed" in outcomes for name, outcomes in _OUTCOMES.items() if "faults/" in name):
        print("\nfaults: a loop failed, and its counts would say nothing: none is written")
        return
    for part, counts in _COUNTS.items():
        trust.keep("faults", command, part.replace(" ", "_"), _table(counts), at)


def _outcome(names: list[str]) -> str:
    """survived: each of the tests ran and passed."""
    seen: set[str] = set()
    for name in names:
        own = [v for k, v in _OUTCOMES.items() if k == name or k.startswith(f"{name}::")]
        seen |= set().union(*own) if own else {"not run"}
    if "failed" in seen:
        return "FAILED"
    return "survived" if seen == {"passed"} else "not run"


def _table(counts: Counter[str]) -> dict[str, Any]:
    """Rows by what was done, and the sum of each count."""
    rows: dict[str, dict[str, Any]] = {}
    for key, n in counts.items():
        what, name = key.split("|")
        rows.setdefault(what, {"what": what})[name] = n
    total: Counter[str] = Counter()
    for row in rows.values():
        total.update({name: n for name, n in row.items() if name != "what"})
    return {**total, "rows": list(rows.values())}
