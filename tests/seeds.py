"""Verdicts under seeds that nobody has looked at: `nox -s seeds -- STUDY [--sets 5] [--profile P]`.

Without a study it runs all of them. What was computed is kept: the same command, or more sets, goes
on where an earlier one ended, and each study's figures are written as soon as it is through. After
a change of rules `--rejudge` judges what is stored once more and computes nothing.

Set j adds 1,000 j to `seed`, the root of all random streams, and to every seed and list of seeds
that a profile names (`..._seed`, `..._seeds`): worlds, language models, starts and orders of data
are drawn anew, everything else is the profile's. Each set is a run of its own in the store
(`custom-...`), and is found there again.

A claim flips where its verdict is another than in the run without a set; half a flip, to `partly`
or from it, is told apart from a whole one, and so is one to or from `not assessed`. Compared are
verdicts that could flip: at least one side is assessed, and a value moved under some set. A set
whose run stops, because a check of what was trained fails, is a row of its own.

Beside the verdicts stands how many units (SAEs, models) of the fresh sets meet the whole rule, each
alone: a verdict follows from the range over a few, which one unit in ten that misses turns often.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import trust

from srclib.errors import SuiteError
from srclib.suite import judging, params, records
from srclib.suite.claims import Claim, load_claims
from srclib.suite.execute import run
from srclib.suite.plan import plan
from srclib.suite.points import Table, Unmeasured, as_table

Run = Callable[..., dict[str, Any]]
STEP = 1000  # further than any profile counts up from its seed


def fresh(study: str, profile: str, j: int) -> dict[str, Any]:
    """The overrides of set j."""
    values = params.load_spec(study).resolve({"profile": profile}).values
    moved: dict[str, Any] = {"seed": values["seed"] + STEP * j}
    for name, value in values.items():
        if name.endswith("_seeds") and isinstance(value, list) and value:
            moved[name] = [each + STEP * j for each in value]
        elif name.endswith("_seed"):
            moved[name] = value + STEP * j
    return moved


def alone(study: str, id: str, rows: Sequence[dict[str, Any]]) -> str:
    """ "17 of 25": how many units of several runs meet the whole rule of a claim, each alone.

    No interval and no claim about independence: it tells one unit in ten that misses from a
    number at the edge. rows: what runs recorded of the claim; those that did not assess it have no
    part. Nothing where the rule reads a share of units or several people.
    """
    claim = next(each for each in load_claims(study) if each.id == id)
    meet = n = 0
    for row in rows:
        values = row["values"] if row["verdict"] != "not assessed" else None
        units = max(map(len, values.values()), default=0) if values else 0
        if any(len(own) not in (1, units) for own in (values or {}).values()):
            return ""
        for i in range(units):
            at = {label: own[i if len(own) > 1 else 0] for label, own in values.items()}
            table = as_table(at)
            read = {label for condition in claim.rule for label in condition.reads(table)}
            if read & row.get("interval_kinds", {}).keys():
                return ""
            n, meet = n + 1, meet + _meets(claim, table)
    return f"{meet} of {n}" if n else ""


def _meets(claim: Claim, table: Table) -> bool:
    try:
        return all(condition.judge(table).level == "holds" for condition in claim.rule)
    except Unmeasured:  # a value that is not finite
        return False


def compared(base: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per claim that a run measured: its verdict, those of the sets, what became of them."""
    tables = [{row["id"]: row for row in other["claims"]} for other in others]
    rows = []
    for row in base["claims"]:
        own = [table[row["id"]] for table in tables]
        if row["basis"] == "by construction" or not any(e.get("values") for e in (row, *own)):
            continue
        verdicts = [each["verdict"] for each in own]
        rows.append(
            {
                "claim": row["id"],
                "verdict": row["verdict"],
                "under fresh seeds": ", ".join(f"{n} {v}" for v, n in Counter(verdicts).items()),
                "units": alone(base["study"], row["id"], own),
                "units of the record": alone(base["study"], row["id"], [row]),
                "runs": sum({row["verdict"], each} != {"not assessed"} for each in verdicts),
                "flips": sum(_flip(row["verdict"], each) == "flip" for each in verdicts),
                "half": sum(_flip(row["verdict"], each) == "half" for each in verdicts),
                "unassessed": sum(_flip(row["verdict"], each) == "unassessed" for each in verdicts),
                "moved": any(each.get("values") != row["values"] for each in own),
            }
        )
    return rows


def _flip(before: str, after: str) -> str:
    if before == after:
        return "same"
    if "not assessed" in (before, after):
        return "unassessed"
    return "half" if "partly" in (before, after) else "flip"


def told(rows: list[dict[str, Any]], sets: int, profile: str) -> dict[str, Any]:
    """Counts over the verdicts of one study that could flip, as the page quotes them."""
    moved = [row for row in rows if row["moved"]]
    n = sum(row["runs"] for row in moved)
    counts = {name: sum(row[name] for row in moved) for name in ("flips", "half", "unassessed")}
    changed = [row for row in rows if row["flips"] or row["half"] or row["unassessed"]]
    decisive = [row for row in moved if row["verdict"] in ("replicated", "not replicated")]
    whole = sum(row["runs"] - row["unassessed"] for row in decisive)  # the others cannot
    names = ("claim", "verdict", "units of the record", "under fresh seeds", "units")
    return {
        "profile": profile,
        "sets": sets,
        "claims": sum(row["runs"] > 0 for row in moved),
        "n": n,
        **counts,
        "whole": whole,
        "share": round(counts["flips"] / whole, 4) if whole else 0.0,
        "claims_changed": len(changed),
        "unmoved": [row["claim"] for row in rows if not row["moved"]],
        "changed": [{name: row.get(name, "") for name in names} for row in changed],
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", help="names of studies (default: all)")
    parser.add_argument("--sets", type=int, default=5, help="fresh sets of seeds for each study")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rejudge", action="store_true", help="judge stored runs, compute none")
    options = parser.parse_args()
    at, failed = trust.commit(), 0
    named = [] if "all" in options.studies else options.studies
    for study in named or params.studies():
        try:
            found = one(study, options.sets, options.profile, stored if options.rejudge else run)
        except SuiteError as error:  # without any set: the others have their figures all the same
            failed = 1
            print(f"{study}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            continue
        failed |= bool(found["stopped"])
        command = f"nox -s seeds -- {study} --sets {options.sets} --profile {options.profile}"
        command += " --rejudge" * options.rejudge
        trust.keep("seeds", command, study, found, at)
        total()
        print(f"{study}: {found['flips']} whole and {found['half']} half flips in {found['n']}")
    return failed


def stored(study: str, profile: str, moved: dict[str, Any] | None = None) -> dict[str, Any]:
    """A run of the store, whatever code made it, as the present ledger judges it."""
    return judging.rederive(records.load(plan(study, profile, moved or {}).folder / "result.json"))


def one(study: str, sets: int, profile: str, run: Run = run) -> dict[str, Any]:
    """What became of the claims of a study under its sets; runs that are stored are taken."""
    base, others, stopped = run(study, profile), [], []
    for j in range(1, sets + 1):
        try:
            others.append(run(study, profile, fresh(study, profile, j)))
        except SuiteError as error:  # the others have their figures all the same
            stopped.append(f"set {j}: {type(error).__name__}")
            print(f"{study}, set {j}: {error}", file=sys.stderr, flush=True)
    commits = {each["provenance"]["commit"] for each in (base, *others)}
    found = told(compared(base, others), sets, profile)
    return found | {"stopped": stopped, "computed at": sorted(map(str, commits))}


def total() -> None:
    """The sum over all studies that decide, kept beside them; none where all were at smoke."""
    from srclib.suite import trust as stored

    content = stored.load("seeds")
    content.pop(stored.SEAL)
    content.pop("all", None)
    for k in content.keys() & set(params.studies()):
        content[k] |= told(content[k]["rows"], content[k]["sets"], content[k]["profile"])
    known = {k: v for k, v in content.items() if k in params.studies()}
    decided = {k: v for k, v in known.items() if v["profile"] != "smoke" and v["n"]}
    if not decided:
        stored.write("seeds", content)
        return
    names = ("claims", "claims_changed", "n", "whole", "flips", "half", "unassessed")
    sums: dict[str, Any] = {each: sum(v[each] for v in decided.values()) for each in names}
    sums["stopped"] = sum(len(v["stopped"]) for v in known.values())
    sums["not_run"] = sorted(set(params.studies()) - known.keys())
    sums["left_out"] = sorted(known.keys() - decided)  # at smoke, or not assessed under any set
    sums["studies"] = len(decided)
    sums["share"] = round(sums["flips"] / sums["whole"], 4) if sums["whole"] else 0.0
    sums["share_changed"] = round(sums["claims_changed"] / sums["claims"], 4)
    sums["rows"] = [
        {"study": k, **{each: v[each] for each in ("sets", *names)}, "stopped": len(v["stopped"])}
        for k, v in decided.items()
    ]
    sums["changed"] = [row for v in decided.values() for row in v["changed"]]
    stored.write("seeds", {**content, "all": sums})


if __name__ == "__main__":
    sys.exit(main())
