"""Compare every measured number of two records: `python tests/golden.py OLD NEW [OLD NEW]...`.

Written for moving code without moving numbers: values, intervals and seeds of each claim must be
equal bit for bit; claims and labels that only one side has are named. Exit code 1 if anything
differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NUMBERS = ("measured", "interval", "n_seeds")


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """One line per number that moved, appeared or went."""
    before, after = ({row["id"]: row for row in record["claims"]} for record in (old, new))
    for id in sorted(before.keys() | after.keys()):
        if id not in before or id not in after:
            yield f"{id}: only in the {'old' if id in before else 'new'} record"
            continue
        for field in NUMBERS:
            yield from _differ(f"{id} {field}", before[id][field], after[id][field])


def _differ(where: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for label in sorted(old.keys() | new.keys()):
            if label not in old or label not in new:
                yield f"{where} {label!r}: only in the {'old' if label in old else 'new'} record"
            else:
                yield from _differ(f"{where} {label!r}", old[label], new[label])
    elif old != new:
        yield f"{where}: {old} -> {new}"


def main(paths: list[str]) -> int:
    if not paths or len(paths) % 2:
        print("usage: python tests/golden.py OLD NEW [OLD NEW]...", file=sys.stderr)
        return 2
    faults = 0
    for old, new in zip(paths[::2], paths[1::2], strict=True):
        found = list(
            differences(*(json.loads(Path(each).read_text("utf-8")) for each in (old, new)))
        )
        print("\n".join([f"{new}: {len(found)} differences", *found]))
        faults += bool(found)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
