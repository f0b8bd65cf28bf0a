"""Records without a run: of a profile that was never run, and stored ones judged anew."""

from __future__ import annotations

from ...errors import ClaimError, message
from ..params import PROFILES, load_spec
from .judging import PAPER_SIDE, Record, judge, row_of, unmeasured
from .ledgerfile import load_claims


def never_run(study: str, profile: str) -> Record:
    """The record of a profile that was never run: every claim is not assessed."""
    if profile not in PROFILES:
        raise ClaimError(message("profile", profile, ", ".join(PROFILES), "Choose one."))
    spec = load_spec(study)
    if profile in spec.profiles:
        P = spec.resolve({"profile": profile})
        params, scale, reason = P.values, P.scale, "never run at this profile"
    else:
        scale = "paper" if profile == "paper" else "reduced"
        params, reason = {"profile": profile}, f"the study has no profile {profile}"
    rows = [
        unmeasured(claim, scale, claim.unless_run if claim.test == "c" else reason)
        for claim in load_claims(study)
    ]
    run = {"study": study, "profile": profile, "params": params}
    return {**run, "claims": rows, "provenance": {}}


def rederive(record: Record) -> Record:
    """The record with the ledger's present wording and the verdicts that follow from its
    stored measurements; rows that the ledger does not know are left out."""
    stored = {row["id"]: row for row in record["claims"]}
    scale = load_spec(record["study"]).profiles[record["profile"]].scale
    absent = {"n_seeds": 0, "scale": scale, "reason": "the claim is newer than this record"}
    rows = []
    for claim in load_claims(record["study"]):
        row = stored.get(claim.id, absent)
        note = row.get("note", "")
        if row["n_seeds"] == 0:  # never measured: what was said about it then still stands
            rows.append(unmeasured(claim, row["scale"], row["reason"], note))
            continue
        numbers = (row["measured"], row["interval"], row["n_seeds"])
        verdict, reason = judge(claim, *numbers, record["profile"])
        rows.append(row_of(claim, *numbers, row["scale"], verdict, reason, note))
    return {**record, "claims": rows}


def rejudge(record: Record) -> list[str]:
    """How stored claims differ from what the ledger and the stored measurements say now."""
    if record["profile"] not in load_spec(record["study"]).profiles:
        return [f"profile {record['profile']!r} is not one of {record['study']}"]
    expected = {row["id"]: row for row in rederive(record)["claims"]}
    stored = {row["id"]: row for row in record["claims"]}
    found = [f"{id}: not in data/claims/{record['study']}.toml" for id in stored.keys() - expected]
    found += [f"{id}: missing in the record" for id in expected if id not in stored]
    if len(stored) != len(record["claims"]):
        found.append("a claim id occurs twice in the record")
    for id, row in ((id, row) for id, row in stored.items() if id in expected):
        for key in ("verdict", *PAPER_SIDE):
            if row.get(key) != expected[id][key]:
                found.append(f"{id}: {key} is {row.get(key)!r}, should be {expected[id][key]!r}")
        if row["verdict"] == "not assessed" and not row["reason"]:
            found.append(f"{id}: not assessed without a reason")
    return found
