"""The table of cases names tests that exist."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TESTS = Path(__file__).parent
sys.path.append(str(TESTS / "faults"))

from cases import CASES, named  # noqa: E402


def test_every_test_of_the_table_exists() -> None:
    missing = []
    for name in named():
        file, _, function = name.partition("::")
        text = (TESTS / file).read_text("utf-8") if (TESTS / file).is_file() else ""
        if not text or (function and not re.search(rf"^def {function}\(", text, re.MULTILINE)):
            missing.append(name)
    assert not missing


def test_a_case_is_told_once() -> None:
    whats = [what for what, _ in CASES.values()]
    assert len(set(whats)) == len(whats)
