"""`nox -s faults [-- --rounds N] [pytest's words]`: every hostile case, and the crash loops."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import counting  # noqa: E402
import pytest  # noqa: E402
import trust  # noqa: E402
from cases import named  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each loop; `tests` does ten")
    parser.add_argument("--loops", action="store_true", help="the crash loops alone")
    options, words = parser.parse_known_args()
    command = f"nox -s faults -- --rounds {options.rounds}" + " --loops" * options.loops
    os.environ |= {"SUITE_FAULT_ROUNDS": str(options.rounds)}
    os.environ |= {"SUITE_FAULT_COMMAND": " ".join([command, *words])}
    os.environ |= {"SUITE_FAULT_COMMIT": trust.commit() or ""}
    os.chdir(trust.ROOT)
    own = sorted({name for name in named() if not name.startswith("faults/")})
    loops = [str(path.relative_to(trust.ROOT)) for path in sorted(HERE.glob("test_*.py"))]
    own = [] if options.loops else own
    # words of pytest choose some tests of a case, which then says nothing about the case
    os.environ |= {"SUITE_FAULT_CASES": "" if options.loops or words else "all"}
    every = [*loops, *(f"tests/{name}" for name in own)]
    return int(pytest.main(["-q", *words, *every], plugins=[counting]))


if __name__ == "__main__":
    sys.exit(main())
