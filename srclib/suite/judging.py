"""What follows from stored values, derived anew whenever it is asked for.

Medians and ranges follow from the value of every unit, verdicts from these and the rule.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from ..errors import ClaimError
from . import schema
from .claims import Claim, load_claims
from .outcomes import Outcome
from .params import PROFILES, load_spec
from .points import Table, Unmeasured, Unrecorded, as_table, of_median
from .rules import Condition
from .verdicts import Record

SCHEMA = 3  # version of a record's form: 2 has values of every unit, 3 the evidence of the run
PAPER_SIDE = ("id", "says", "says_ja", "where", "paper_value")
NOT_ASSESSED = "not assessed"
_NOTHING: Record = {"measured": None, "interval": None, "values": None, "n_seeds": 0}
_NOTHING |= {"scale": None, "verdict": NOT_ASSESSED, "reason": "", "note": ""}


def summarise(row: Record) -> tuple[Any, Any]:
    """Median over units of each label and its interval; none for a label with one value.

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
            finite = math.isfinite(median)
            medians[label] = median if finite else None
            ranges[label] = list(of_median(numbers)) if finite and len(own) > 1 else None
    return bare(medians), bare(ranges) if any(ranges.values()) else None


class Verdict(NamedTuple):
    """One of VERDICTS, why, and whether it may be our own fault."""

    verdict: str
    reason: str
    could_be_us: bool = False


def judge(claim: Claim, row: Record, profile: str, strict: bool = False) -> Verdict:
    """The verdict on a row's measurement, and the reason in words.

    All conditions hold: replicated. None holds and one surely fails: not replicated. Otherwise
    partly. Smoke runs, smaller profiles, too few seeds, missing numbers, and a score whose floor or
    oracle says that the instrument does not work here, are not assessed; `strict` raises Unrecorded
    for a label of the rule that is missing.
    """
    table = as_table(row["measured"], row["interval"], row["values"], row.get("interval_kinds"))
    doubts = []
    if below(profile, claim.decides):
        doubts.append(f"profile {profile} decides nothing here; {claim.decides} or larger does")
    if row["n_seeds"] < claim.seeds:
        doubts.append(f"{row['n_seeds']} seed(s) measured, {claim.seeds} needed")
    elif row["values"]:
        doubts += _single(claim, table, row["values"])
    outcomes, lacks = _outcomes(claim.rule, table, strict)
    works, silent = _outcomes(claim.instrument, table, strict)
    doubts += lacks + silent
    doubts += [f"the instrument does not work here: {o.text}" for o in works if o.level != "holds"]
    if doubts or not claim.rule:
        doubts += [] if claim.rule else [claim.unless_run]
        return Verdict(NOT_ASSESSED, "; ".join(doubts))
    words = {"holds": "Holds", "undecided": "No difference measured", "fails": "Fails"}
    texts = {level: "; ".join(o.text for o in outcomes if o.level == level) for level in words}
    reason = " ".join(f"{words[level]}: {text}." for level, text in texts.items() if text)
    if row["n_seeds"] == 2 and not row.get("interval_kinds"):
        reason += " Two units: their range holds a median with 50 %."
    levels = {outcome.level for outcome in outcomes}
    verdict = "partly" if "holds" in levels or "fails" not in levels else "not replicated"
    verdict = "replicated" if levels == {"holds"} else verdict
    if verdict == "replicated" or claim.constructed:
        return Verdict(verdict, reason)
    ours, tried = _could_be_us(claim, table, strict)
    return Verdict(verdict, reason + tried, ours)


def _single(claim: Claim, table: Table, values: Record) -> list[str]:
    """Conditions that look at one number only where the claim is about several units."""
    doubts = []
    for condition in claim.rule if claim.seeds > 1 else ():
        read = [label for label in condition.reads(table) if label in values]
        if read and all(len(values[at]) == 1 and at not in claim.exact for at in read):
            names = " and ".join(map(repr, read[:3]))
            doubts.append(f"{names}: one number where {claim.seeds} units are needed")
    return doubts


def _could_be_us(claim: Claim, table: Table, strict: bool) -> tuple[bool, str]:
    """Whether no run has excluded our own likeliest fault yet, and what tried to, in words."""
    outcomes, unknown = _outcomes(claim.excluded_by, table, strict)
    ours = bool(unknown) or not outcomes or any(o.level != "holds" for o in outcomes)
    if not claim.fault:
        return ours, ""
    tried = "; ".join([*(o.text for o in outcomes), *unknown]) or "no run has excluded it"
    return ours, f" {'Could be us' if ours else 'Not us'} ({claim.fault}): {tried}."


def _outcomes(
    rule: tuple[Condition, ...], table: Table, strict: bool
) -> tuple[list[Outcome], list[str]]:
    """How conditions came out, and why others cannot be judged."""
    outcomes, doubts = [], []
    for condition in rule:
        try:
            outcomes.append(condition.judge(table))
        except Unmeasured as lack:
            if strict and isinstance(lack, Unrecorded):
                raise
            doubts.append(str(lack))
    return outcomes, doubts


def derive(
    claim: Claim, stated: Record, profile: str, seen: Mapping[str, Any] | None, strict: bool = False
) -> Record:
    """One claim of a record: the ledger's wording, what was stated, and what follows from it.

    stated: values and n_seeds, and what is measured under labels whose interval is no range;
    records older than `values` state it all. Without seeds: the reason why there are none.
    seen: parameters and evidence of the run, from which its scale follows; None: an older record,
    which states its scale.
    """
    wording = {key: getattr(claim, key) for key in (*PAPER_SIDE, "basis")}
    wording |= {"history": [asdict(each) for each in claim.history], "could_be_us": False}
    row = {**wording, **_NOTHING, **stated, **wording}
    if seen is not None:
        row["scale"] = claim.scale_of(seen)
    if row["n_seeds"] == 0:
        # A claim about a named model stays visible at the paper's scale until that model is run.
        row["scale"] = "paper" if claim.test == "c" else row["scale"]
        return {**row, "measured": None, "interval": None, "verdict": NOT_ASSESSED}
    if row["values"]:
        row["n_seeds"] = max(map(len, row["values"].values()))
        row["measured"], row["interval"] = summarise(row)
    row |= judge(claim, row, profile, strict=strict)._asdict()
    return row


def new_record(
    P: Mapping[str, Any], study: str, evidence: Record, rows: list[Record], source: Record
) -> Record:
    """A record in the present form; P: the parameters' values, source: the provenance."""
    run = {"schema": SCHEMA, "study": study, "profile": P["profile"], "params": dict(P)}
    return {**run, "evidence": evidence, "claims": rows, "provenance": source}


def never_run(study: str, profile: str) -> Record:
    """The record of a profile that was never run: every claim is not assessed."""
    schema.one_of("profile", profile, PROFILES, ClaimError)
    spec = load_spec(study)
    values: dict[str, Any] = {"profile": profile}
    reason = f"the study has no profile {profile}"
    if profile in spec.profiles:
        values, reason = spec.resolve({"profile": profile}).values, "never run at this profile"
    rows = []
    for claim in load_claims(study):
        why = claim.unless_run if claim.test == "c" else reason
        rows.append(derive(claim, {"reason": why}, profile, values))
    return new_record(values, study, {}, rows, {})


def rederive(record: Record) -> Record:
    """The record with the ledger's present wording and what follows from its stored values;
    rows that the ledger does not know are left out."""
    stored = {row["id"]: row for row in record["claims"]}
    evidence = record.get("evidence")
    seen = None if evidence is None else evidence | record["params"]
    rows = []
    for claim in load_claims(record["study"]):
        absent = {"scale": claim.scale_of({}), "reason": "the claim is newer than this record"}
        rows.append(derive(claim, stored.get(claim.id, absent), record["profile"], seen))
    return {**record, "claims": rows}


_FOLLOWS = (*("verdict", "reason", "measured", "interval", "n_seeds"),
            *("scale", "basis", "could_be_us", "history"))  # fmt: skip


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
        for key in (*_FOLLOWS, *PAPER_SIDE)
        if id in expected and row.get(key) != expected[id][key]
    ]


def below(profile: str, other: str) -> bool:
    """Whether a profile takes less compute than another."""
    return PROFILES.index(profile) < PROFILES.index(other)


def bare(table: dict[str, Any]) -> Any:
    """A table whose only label is "value" is that value."""
    return table["value"] if table.keys() == {"value"} else table
