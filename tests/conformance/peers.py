"""Against programs of others, in environments of their own: `nox -s conformance`.

The same SAE read by both, one update written by both, the same toy world drawn by both, and
SAEBench's own functions beside ours. Ends in data/trust/conformance.json, which the book quotes.
The environments are those of `nox -s bench`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "bench")]

PARTS = {"saelens": ("formats", "steps", "worlds", "saebench"), "wide": ("learning",)}
# Asks for older versions than SAELens does of packages that what is called here never imports.
ALONE = {"saelens": ("sae-bench==0.6.0", "tabulate==0.10.0"), "wide": ()}


def told(parts: list[str]) -> None:
    """In a peer's environment: compare, print what came out, one JSON text a line."""
    for part in parts:
        for row in __import__(part).rows():
            line = row._asdict() | {"agrees": row.agrees, "gap": f"{row.gap:.1e}"}
            print(json.dumps(line), flush=True)


def asked(peers: str) -> list[dict[str, Any]]:
    """Rows of all parts of an environment, which is made where it is missing."""
    from run import RUN_ENV, environment

    python = environment(peers)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    if ALONE[peers]:
        subprocess.run([*pip, *ALONE[peers]], check=True)
    env = os.environ | RUN_ENV | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        command = [python, __file__, *PARTS[peers]]
        subprocess.run(command, check=True, env=env, stdout=out)
        out.seek(0)
        return [json.loads(line) for line in out if line.startswith("{")]


def main() -> int:
    if sys.argv[1:]:
        told(sys.argv[1:])
        return 0
    import trust

    at, rows = trust.commit(), [row for peers in PARTS for row in asked(peers)]
    for row in rows:
        said = "agrees" if row["agrees"] else "DIFFERS"
        print(f"{said:8} {row['against']:20} {row['what'] + ': ' + row['of']:75} {row['gap']}")
    agree = sum(row["agrees"] for row in rows)
    print(f"{agree} of {len(rows)} agree")
    names = {"what": "compared", "of": "of", "against": "with", "gap": "largest gap"}
    table = [{new: row[old] for old, new in names.items()} for row in rows]
    content = {"n": len(rows), "agree": agree, "rows": table}
    trust.keep("conformance", "nox -s conformance", "peers", content, at)
    return 0 if agree == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
