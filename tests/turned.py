"""Does a claim that says `replicated` depend on what was measured? Part of `nox -s sabotage`.

`recorded`: named distortions of the recorded values of every unit, judged by the suite's own code.
It shows what the rule listens to, not that a fault in the code would reach it. `by_runs` does that
for one study: it plants faults in a copy, runs the notebook at laptop and compares verdicts.
"""

from __future__ import annotations

import contextlib
import copy as copies
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = list[float | None]  # of every unit; None where it has no finite value
Values = dict[str, Row]


def _reversed(values: Values) -> Values:
    """What belongs to the first label stands under the last one."""
    return dict(zip(values, reversed(values.values()), strict=True))


def _alike(values: Values) -> Values:
    """Every label holds the mean over labels, unit by unit: what is varied has no effect."""
    longest = max(map(len, values.values()))
    columns = [[row[i] for row in values.values() if i < len(row)] for i in range(longest)]
    known = [[x for x in column if x is not None] for column in columns]
    means = [sum(column) / len(column) if column else None for column in known]
    return {label: means[: len(row)] for label, row in values.items()}


def _everywhere(best: Callable[[list[float]], float]) -> Callable[[Values], Values]:
    """Every label holds the largest or smallest of all, unit by unit."""

    def spread(values: Values) -> Values:
        longest = max(map(len, values.values()))
        columns = [[row[i] for row in values.values() if i < len(row)] for i in range(longest)]
        known = [[x for x in column if x is not None] for column in columns]
        ends = [best(column) if column else None for column in known]
        return {label: ends[: len(row)] for label, row in values.items()}

    return spread


def _each(change: Callable[[float], float]) -> Callable[[Values], Values]:
    return lambda values: {
        label: [x if x is None else change(x) for x in row] for label, row in values.items()
    }


DISTORTIONS: dict[str, Callable[[Values], Values]] = {
    "labels stand in reverse": _reversed,
    "what is varied has no effect": _alike,
    "the largest stands everywhere": _everywhere(max),
    "the smallest stands everywhere": _everywhere(min),
    "everything is a tenth": _each(lambda x: x / 10),
    "everything is tenfold": _each(lambda x: x * 10),
    "a share of what is not": _each(lambda x: 1 - x),
    "the sign is lost": _each(lambda x: -x),
    "all is zero": _each(lambda x: 0.0),
    "all is a half": _each(lambda x: 0.5),
}


def recorded() -> dict[str, Any]:
    """Every claim that is replicated in a laptop record, under every distortion."""
    import trust

    from srclib.suite import claims, records

    rows, steady = [], []
    for path in sorted((trust.ROOT / "data" / "results").glob("*.laptop.json")):
        record = records.load(path)
        known = {claim.id: claim for claim in claims.load_claims(record["study"])}
        for row in record["claims"]:
            if row["verdict"] != "replicated" or not row.get("values") or row["id"] not in known:
                continue
            constructed = row["basis"] == "by construction"
            turning = turns(known[row["id"]], row, record)
            rows.append({"claim": row["id"], "turned by": ", ".join(turning) or "nothing"})
            if not turning:
                steady.append({"claim": row["id"], "by construction": constructed})
    print(f"{len(rows) - len(steady)} of {len(rows)} replicated claims turn")
    return {
        "n": len(rows),
        "turned": len(rows) - len(steady),
        "distortions": [{"distortion": name} for name in DISTORTIONS],
        "steady": steady,
        "rows": rows,
    }


def turns(claim: Any, row: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """The distortions under which a claim is no longer replicated, though it is still assessed.

    Each is tried on all labels, and on all but those of the claim's instrument: where floor and
    oracle are distorted too, nothing is assessed, which says nothing about the rule.
    """
    from srclib.suite import judging, points

    kept = ("values", "n_seeds", "measured", "interval", "interval_kinds")
    given = {key: row[key] for key in kept if key in row}
    table = points.as_table(row["measured"], row["interval"], row["values"])
    oracle = {label for condition in claim.instrument for label in condition.reads(table)}
    seen, found = record["evidence"] | record["params"], []
    for name, distort in DISTORTIONS.items():
        tries = [_distorted(given, distort, left) for left in (set(), oracle)]
        verdicts = [judging.derive(claim, each, record["profile"], seen) for each in tries]
        if any(each["verdict"] not in ("replicated", "not assessed") for each in verdicts):
            found.append(name)
    return found


def _distorted(
    given: dict[str, Any], distort: Callable[[Values], Values], left: set[str]
) -> dict[str, Any]:
    """What a ledger was told, with values distorted, but for those of the labels `left`."""
    stated = copies.deepcopy(given)
    stated["values"] = distort(given["values"]) | {
        label: row for label, row in given["values"].items() if label in left
    }
    for label in (
        set(given.get("interval_kinds", {})) - left
    ):  # a share, with an interval of its own
        for part in ("measured", "interval"):
            tables = given[part] if isinstance(given[part], dict) else {}
            ends = tables[label] if isinstance(tables.get(label), list) else [tables.get(label)]
            lists = [
                distort({at: [_end(tables, at, i)] for at in tables}) for i in range(len(ends))
            ]
            new = [each[label][0] for each in lists] if tables else []
            if new and None not in new:
                stated[part][label] = sorted(new) if part == "interval" else new[0]
    return stated


def _end(table: dict[str, Any], label: str, index: int) -> float | None:
    """A number of a label, or one end of its interval."""
    found = table[label]
    return found[index] if isinstance(found, list) else found


def by_runs(copy: Path, words: Sequence[str]) -> dict[str, Any]:
    """Run a study at laptop in the copy, sound and under each named fault that its sabotage table
    has for it; report which replicated claims turn. words: the study, then parts of names."""
    from planted import FAULTS, TURNS

    study, *wanted = words
    sound = _verdicts(copy, study)
    was = [id for id, verdict in sound.items() if verdict == "replicated"]
    rows: list[dict[str, Any]] = []
    for fault in FAULTS:
        if fault.name not in TURNS.get(study, ()) or (
            wanted and not any(word in fault.name for word in wanted)
        ):
            continue
        file = copy / "srclib" / fault.file
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        try:
            found = _verdicts(copy, study)
        finally:
            file.write_text(text, encoding="utf-8")
        turned = [id for id in was if found.get(id) != "replicated"]
        told = ", ".join(turned) if found else "the run stopped"
        rows.append({"fault": fault.name, "turned": len(turned), "claims": told})
        print(f"{fault.name}: {told}", flush=True)
    hit = {id for row in rows for id in row["claims"].split(", ") if id in was}
    return {
        "study": study,
        "n": len(was),
        "turned": len(hit),
        "faults": len(rows),
        "rows": rows,
        "steady": [id for id in was if id not in hit],
    }


def _verdicts(copy: Path, study: str) -> dict[str, str]:
    """{claim: verdict} of a fresh run at laptop; empty where the run stopped by itself."""
    env = os.environ | {"PYTHONPATH": str(copy), "SRCLIB_BUILD": str(copy / "build")}
    command = [sys.executable, "-m", "srclib", "run", study, "--force"]
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1:], flush=True)
        return {}
    result = copy / "build" / study / "laptop" / "result.json"
    claims = json.loads(result.read_text(encoding="utf-8"))["claims"]
    return {row["id"]: row["verdict"] for row in claims}


def conditions(claim: Any, row: dict[str, Any]) -> list[tuple[Any, set[str]]]:
    """Every condition of a claim's rule, and how it comes out under the distortions of a row."""
    from srclib.suite import judging, points

    kept = ("values", "n_seeds", "measured", "interval", "interval_kinds")
    given = {key: row[key] for key in kept if key in row}
    found = [(condition, set[str]()) for condition in claim.rule]
    for distort in DISTORTIONS.values():
        made = _distorted(given, distort, set())
        told = judging.summarise(made)
        table = points.as_table(*told, made["values"], made.get("interval_kinds"))
        for condition, levels in found:
            with contextlib.suppress(points.Unmeasured):
                levels.add(condition.judge(table).level)
    return found
