"""What follows from stored values, derived anew whenever it is asked for.

Medians and ranges follow from the value of every unit, verdicts from these and the rule.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from ..errors import ClaimError
from . import schema
from .claims import Claim, load_claims
from .params import PROFILES, load_spec
from .rules import Unmeasured, Unrecorded, as_table
from .verdicts import Record

SCHEMA = 2  # version of a record's form; a record without one is of the first
PAPER_SIDE = ("id", "says", "says_ja", "where", "paper_value")
NOT_ASSESSED = "not assessed"
_NOTHING: Record = {"measured": None, "interval": None, "values": None, "n_seeds": 0}
_NOTHING |= {"scale": None, "verdict": NOT_ASSESSED, "reason": "", "note": ""}


def summarise(row: Record) -> tuple[Any, Any]:
    """Median and [min, max] over units of each label; no interval where there is one unit.

    As stated for labels whose interval is of another kind. A label with a value that is not
    finite has None: JSON has no NaN. The label "value" alone is a bare number.
    """
    stated, ends = (
        each if isinstance(each, dict) else {"value": each}
        for each in (row["measured"], row["interval"])
    )
    kinds = row.get("interval_kinds", {})
    medians: dict[str, float | None] = {}
    ranges: dict[str, list[float] | None] = {}
    for label, own in row["values"].items():
        numbers = [v for v in own if v is not None and math.isfinite(v)]
        if not own or len(numbers) < len(own):
            medians[label] = ranges[label] = None
        elif label in kinds and label in stated:
            medians[label], ranges[label] = stated[label], ends[label]
        else:
            median = statistics.median(numbers)  # of the two largest floats it overflows
            medians[label] = median if math.isfinite(median) else None
            ranges[label] = [min(numbers), max(numbers)] if math.isfinite(median) else None
    several = kinds or any(len(own) > 1 for own in row["values"].values())
    return bare(medians), bare(ranges) if several else None


def judge(
    claim: Claim, measured: Any, interval: Any, n_seeds: int, profile: str, strict: bool = False
) -> tuple[str, str]:
    """The verdict (one of VERDICTS) on a measurement and the reason in words.

    All conditions hold: replicated. All fail: not replicated. Otherwise: partly. Smoke
    runs, smaller profiles, too few seeds and missing numbers are not assessed; `strict`
    raises Unrecorded for a label of the rule that is missing.
    """
    table = as_table(measured, interval)
    outcomes, doubts = [], []
    if below(profile, claim.decides):
        doubts.append(f"profile {profile} decides nothing here; {claim.decides} or larger does")
    if n_seeds < claim.seeds:
        doubts.append(f"{n_seeds} seed(s) measured, {claim.seeds} needed")
    for condition in claim.rule:
        try:
            outcomes.append(condition.judge(table))
        except Unmeasured as lack:
            if strict and isinstance(lack, Unrecorded):
                raise
            doubts.append(str(lack))
    if doubts or not claim.rule:
        return NOT_ASSESSED, "; ".join(doubts if claim.rule else [*doubts, claim.unless_run])
    words = {"holds": "Holds", "centre": "Holds at the median only", "fails": "Fails"}
    texts = {level: "; ".join(o.text for o in outcomes if o.level == level) for level in words}
    reason = " ".join(f"{words[level]}: {text}." for level, text in texts.items() if text)
    whole = {"holds": "replicated", "fails": "not replicated"}
    first, *others = {outcome.level for outcome in outcomes}
    return "partly" if others else whole.get(first, "partly"), reason


def derive(claim: Claim, stated: Record, profile: str, strict: bool = False) -> Record:
    """One claim of a record: the ledger's wording, what was stated, and what follows from it.

    stated: values, n_seeds and scale, and what is measured under labels whose interval is no
    range; records older than `values` state it all. Without seeds: the reason why there are none,
    and the scale at which there would have been some.
    """
    wording = {key: getattr(claim, key) for key in PAPER_SIDE}
    row = {**wording, **_NOTHING, **stated, **wording}
    if row["n_seeds"] == 0:
        # A claim about a named model stays visible at the paper's scale until that model is run.
        scale = "paper" if claim.test == "c" else row["scale"]
        return {**row, "measured": None, "interval": None, "scale": scale, "verdict": NOT_ASSESSED}
    if row["values"]:
        row["measured"], row["interval"] = summarise(row)
    evidence = (row["measured"], row["interval"], row["n_seeds"], profile)
    row["verdict"], row["reason"] = judge(claim, *evidence, strict=strict)
    return row


def new_record(
    study: str, profile: str, values: Mapping[str, Any], rows: list[Record], source: Record
) -> Record:
    """A record in the present form; `values` are the parameters, `source` the provenance."""
    run = {"schema": SCHEMA, "study": study, "profile": profile, "params": values}
    return {**run, "claims": rows, "provenance": source}


def never_run(study: str, profile: str) -> Record:
    """The record of a profile that was never run: every claim is not assessed."""
    schema.one_of("profile", profile, PROFILES, ClaimError)
    spec = load_spec(study)
    values: dict[str, Any] = {"profile": profile}
    scale = "paper" if profile == "paper" else "reduced"
    reason = f"the study has no profile {profile}"
    if profile in spec.profiles:
        P = spec.resolve({"profile": profile})
        values, scale, reason = P.values, P.scale, "never run at this profile"
    rows = []
    for claim in load_claims(study):
        why = claim.unless_run if claim.test == "c" else reason
        rows.append(derive(claim, {"scale": scale, "reason": why}, profile))
    return new_record(study, profile, values, rows, {})


def rederive(record: Record) -> Record:
    """The record with the ledger's present wording and what follows from its stored values;
    rows that the ledger does not know are left out."""
    stored = {row["id"]: row for row in record["claims"]}
    scale = load_spec(record["study"]).profiles[record["profile"]].scale
    absent = {"scale": scale, "reason": "the claim is newer than this record"}
    claims = load_claims(record["study"])
    rows = [derive(claim, stored.get(claim.id, absent), record["profile"]) for claim in claims]
    return {**record, "claims": rows}


def rejudge(record: Record) -> list[str]:
    """How a stored record differs from what its values and the present ledger say."""
    if record["profile"] not in load_spec(record["study"]).profiles:
        return [f"profile {record['profile']!r} is not one of {record['study']}"]
    expected = {row["id"]: row for row in rederive(record)["claims"]}
    stored = {row["id"]: row for row in record["claims"]}
    found = [f"{id}: not in data/claims/{record['study']}.toml" for id in stored.keys() - expected]
    found += [f"{id}: missing in the record" for id in expected if id not in stored]
    return found + [
        f"{id}: {key} is {row.get(key)!r}, should be {expected[id][key]!r}"
        for id, row in stored.items()
        for key in ("verdict", "measured", "interval", *PAPER_SIDE)
        if id in expected and row.get(key) != expected[id][key]
    ]


def below(profile: str, other: str) -> bool:
    """Whether a profile takes less compute than another."""
    return PROFILES.index(profile) < PROFILES.index(other)


def bare(table: dict[str, Any]) -> Any:
    """A table whose only label is "value" is that value."""
    return table["value"] if table.keys() == {"value"} else table
