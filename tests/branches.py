"""Which branches no test takes: `nox -s coverage`.

    nox -s coverage                  # the store and what judges, under their own tests
    nox -s coverage -- --everything  # all modules under all tests, a long run

Counted is what runs in the process of the tests; what a command or a kernel runs as a child of
theirs is not, so the share of modules that only children run is too low.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trust

# What must not have an untried branch: the module, and what the page calls it.
MODULES = {
    "runs/keys.py": "keys",
    "runs/memo.py": "memo",
    "store/seals.py": "store: seals",
    "store/files.py": "store: files",
    "suite/claims.py": "claims",
    "suite/cells.py": "parameters cell",
    "suite/params.py": "params",
    "suite/records.py": "records",
    "suite/gate.py": "gate",
}
STORE = "files memo memo_refusals exchanged checkpoint update hostile fuzz_loaders"
JUDGES = "claims params records gate verify branches"
TESTS = [f"test_{stem}.py" for stem in f"{STORE} {JUDGES}".split()]

Json = dict[str, Any]


def counted(report: Mapping[str, Any], modules: Mapping[str, str]) -> Json:
    """The table of a JSON report of coverage.py: branches of each module and of all of them.

    `modules`: path below srclib to the name shown. Raises KeyError for one that was not measured.
    """
    rows = []
    for path, name in modules.items():
        found = report["files"][f"srclib/{path}"]
        taken, every = (found["summary"][key] for key in ("covered_branches", "num_branches"))
        left = sorted({start for start, _ in found["missing_branches"]})
        shown = {"module": name, "branches": every, "taken": taken, "untaken at line": left}
        rows.append(shown | {"untaken at line": ", ".join(map(str, left)) or "none"})
    total = {
        "branches": sum(row["branches"] for row in rows),
        "branches_taken": sum(row["taken"] for row in rows),
    }
    share = total["branches_taken"] / total["branches"] if total["branches"] else 1.0
    return {"rows": rows, "total": {**total, "share": round(share, 4)}}


def measured(tests: Sequence[str], source: str, cores: int = 0) -> tuple[int, Json]:
    """pytest's exit code, and the report of coverage.py over a package under some tests.

    cores: processes that share the tests; 0 for this one alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coverage.json"
        words = ["-q", "-p", "no:cacheprovider", f"--cov={source}", "--cov-branch"]
        words += ["--cov-report", f"json:{file}", "-n", str(cores), "--dist", "worksteal"]
        words += ["-m", "not scale and not faults and not long", *tests]
        code = int(pytest.main(words))
        return code, json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--everything", action="store_true", help="all modules under all tests")
    everything = parser.parse_args(words).everything
    at, part = trust.commit(), "everything" if everything else "branches"
    tests = ["tests"] if everything else [f"tests/{name}" for name in TESTS]
    code, report = measured(tests, "srclib", cores=2 * everything)
    if code:
        print("coverage: tests failed, and nothing is written")
        return code
    every = {path.removeprefix("srclib/"): path for path in report["files"]}
    found = counted(report, every if everything else MODULES)
    scope = "the whole test suite" if everything else "their own tests alone"
    command = " ".join(["nox -s coverage", "--" * bool(words), *words]).strip()
    trust.keep("coverage", command, part, {"scope": scope, **found}, at)
    total = found["total"]
    print(f"{total['branches_taken']} of {total['branches']} branches were taken")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
