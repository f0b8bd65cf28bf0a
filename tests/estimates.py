"""Estimates held against runs: `nox -s estimates -- l0 matrix [--profile laptop]`.

A study is estimated in an empty store, then run in another, by one worker each and nothing beside
them. Compared are the cells that compute; figures are in neither. What an estimate could not count,
because it needs what training would have made, is in the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import trust

from srclib.store import files, syntax
from srclib.suite import costs, params
from srclib.suite.execute import run


def measured(folder: Path) -> float:
    """Seconds of the computing cells of an executed notebook."""
    cells = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    computing = set(syntax.computing(code))
    mine = [cell for cell in code if "".join(cell["source"]) in computing]
    return float(sum(cell["metadata"]["papermill"]["duration"] for cell in mine))


def compared(study: str, profile: str) -> dict[str, Any]:
    """Seconds of both, and how many cells of the notebook the estimate could not count."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SRCLIB_BUILD"] = str(Path(folder) / "estimate")
        bill = costs.bill(study, profile, {})
        os.environ["SRCLIB_BUILD"] = str(Path(folder) / "run")
        run(study, profile)
        took = measured(files.build() / study / profile)
    told = sum(bill.seconds())
    row = {
        "study": study,
        "profile": profile,
        "estimated, s": round(told),
        "measured, s": round(took),
    }
    return row | {"factor": round(told / took, 2), "cells not counted": len(bill.failed)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", help="names of studies (default: all)")
    parser.add_argument("--profile", default="laptop")
    options = parser.parse_args()
    os.environ |= {"SRCLIB_ENGINE": "local:1", "OMP_NUM_THREADS": "1"}
    at = trust.commit()
    for study in options.studies or params.studies():
        row = compared(study, options.profile)
        print(row, flush=True)
        kept = stored()
        kept[study, options.profile] = row
        rows = [kept[key] for key in sorted(kept)]
        factors = [each["factor"] for each in rows]
        content = {"n": len(rows), "lowest": min(factors), "highest": max(factors), "rows": rows}
        trust.keep("estimates", "nox -s estimates", "runs", content, at)
    return 0


def stored() -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of earlier runs by study and profile."""
    from srclib.suite import trust as page

    found = page.load("estimates")["runs"]["rows"] if page.path("estimates").exists() else []
    return {(row["study"], row["profile"]): row for row in found}


if __name__ == "__main__":
    sys.exit(main())
