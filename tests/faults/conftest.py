"""Counts what the crash loops did; with SUITE_FAULT_COMMAND set, keeps it for the book."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent.parent))

import trust
from cases import CASES

Tally = Callable[..., None]
_COUNTS: dict[str, Counter[str]] = {}
_OUTCOMES: dict[str, set[str]] = {}


@pytest.fixture
def tally() -> Tally:
    """`tally("bit flips", "an SAE", detected=3)` adds to what the last run found."""

    def add(part: str, what: str, **counts: int) -> None:
        for name, n in counts.items():
            _COUNTS.setdefault(part, Counter())[f"{what}|{name}"] += n

    return add


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.split("[")[0].removeprefix("tests/")
        _OUTCOMES.setdefault(name, set()).add(report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    command = os.environ.get("SUITE_FAULT_COMMAND")
    if not command or hasattr(session.config, "workerinput"):
        return
    rows = [{"case": case, "what is done": what} for case, (what, _) in CASES.items()]
    for row, (_, names) in zip(rows, CASES.values(), strict=True):
        row["outcome"] = _outcome(names.split())
    survived = sum(row["outcome"] == "survived" for row in rows)
    not_run = sum(row["outcome"] == "not run" for row in rows)
    found: dict[str, Any] = {"n": len(rows), "survived": survived, "not_run": not_run, "rows": rows}
    at = os.environ.get("SUITE_FAULT_COMMIT")
    trust.keep("faults", command, "cases", found, at)
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
