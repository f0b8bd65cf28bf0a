"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.mse_low", mse_per_seed)
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

from typing import Any

from ..errors import ClaimError, message
from ..params import PROFILES, SCALES, Parameters, load_spec
from ..params.fields import nearest
from .ledgerfile import Claim, load_claims
from .measurement import Interval, Measured, as_table, given_interval, measure
from .rules import Unmeasured, Unrecorded
from .verdicts import VERDICTS, Verdicts, measured_html, summary, verdict_table

__all__ = ["VERDICTS", "Claim", "Ledger", "judge", "ledger", "load_claims", "measured_html"]
__all__ += ["never_run", "rederive", "rejudge", "summary", "verdict_table"]

Record = dict[str, Any]

_PAPER_SIDE = ("says", "says_ja", "where", "paper_value")


def judge(
    claim: Claim, measured: Measured, interval: Interval, n_seeds: int, profile: str
) -> tuple[str, str]:
    """The verdict (one of VERDICTS) on a measurement and the reason in words.

    All conditions hold: replicated. All fail: not replicated. Otherwise: partly. Smoke
    runs, smaller profiles, too few seeds and missing numbers are not assessed.
    """
    table = as_table(measured, interval)
    outcomes, doubts = [], _too_small(claim, n_seeds, profile)
    for condition in claim.rule:
        try:
            outcomes.append(condition.judge(table))
        except Unmeasured as lack:
            doubts.append(str(lack))
    if not claim.rule:
        doubts.append(claim.unless_run)
    if doubts:
        return "not assessed", "; ".join(doubts)
    levels = {outcome.level for outcome in outcomes}
    words = {"holds": "Holds", "centre": "Holds at the median only", "fails": "Fails"}
    texts = {level: "; ".join(o.text for o in outcomes if o.level == level) for level in words}
    parts = [f"{words[level]}: {text}." for level, text in texts.items() if text]
    if levels == {"holds"}:
        return "replicated", " ".join(parts)
    return "not replicated" if levels == {"fails"} else "partly", " ".join(parts)


class Ledger:
    """Collects the measurements of one run; every claim is recorded once or not at all."""

    def __init__(self, study: str, P: Parameters):
        if P.study != study:
            raise ClaimError(message("study", study, repr(P.study), "Use one study's parameters."))
        self._claims = {claim.id: claim for claim in load_claims(study)}
        self._study = study
        self._parameters = P
        self._rows: dict[str, Record] = {}

    def record(
        self,
        id: str,
        values: object,
        *,
        interval: object = None,
        n_seeds: int | None = None,
        scale: str | None = None,
        note: str = "",
    ) -> None:
        """Store the measurement of a claim.

        values: a number, a sequence with one number per seed, or a table of these by
        label (a bare number has the label "value"); a table may be empty where the caller
        changed which settings are run. Stored are the median over seeds and
        [min, max] over seeds, which covers the population median with probability
        1 - 2**(1 - n) whatever the distribution; no interval for one seed.
        interval: given instead, as [low, high] or a table of these (Wilson and the like).
        n_seeds: where it is not the number of values, as for counts over seeds.
        scale: "paper", "reduced" or "stand-in"; the profile's own by default.
        """
        claim = self._new(id)
        if not claim.rule:
            raise ClaimError(f"{id}: the ledger has no rule for it. Write the rule first.")
        if values == {} and not self._must_deliver(claim):
            return self.not_assessed(id, "the settings that it compares were not run")
        scale = self._parameters.scale if scale is None else scale
        if scale not in SCALES:
            raise ClaimError(message(f"{id}: scale", scale, ", ".join(SCALES), "Choose one."))
        measured, spread, n_values = measure(id, values)
        if interval is not None:
            spread = given_interval(id, interval, measured)
        n_seeds = n_values if n_seeds is None else n_seeds
        if type(n_seeds) is not int or n_seeds < 1:
            fix = "Count the outermost random unit."
            raise ClaimError(message(f"{id}: n_seeds", n_seeds, "an int >= 1", fix))
        self._refuse_absent_labels(claim, measured)
        verdict, reason = judge(claim, measured, spread, n_seeds, self._parameters.profile)
        self._rows[id] = _row(claim, measured, spread, n_seeds, scale, verdict, reason, note)

    def not_assessed(self, id: str, reason: str) -> None:
        """State why this run does not measure a claim."""
        claim = self._new(id)
        if not reason.strip():
            raise ClaimError(f"{id}: a reason is needed. Say what would assess the claim.")
        self._rows[id] = _unmeasured(claim, self._parameters.scale, reason)

    def verdicts(self) -> Verdicts:
        """The record of this run, shown as a table and kept as the cell's JSON output."""
        from .. import fingerprint

        scale, default = self._parameters.scale, "no measurement was recorded in this run"
        rows = [
            self._rows.get(id) or _unmeasured(claim, scale, claim.unless_run or default)
            for id, claim in self._claims.items()
        ]
        return Verdicts(
            {
                "study": self._study,
                "profile": self._parameters.profile,
                "params": self._parameters.values,
                "claims": rows,
                "provenance": fingerprint.provenance(),
            }
        )

    def _new(self, id: str) -> Claim:
        if id not in self._claims:
            hint = nearest(id, self._claims)
            raise ClaimError(f"{id!r} is not in data/claims/{self._study}.toml. {hint}")
        if id in self._rows:
            raise ClaimError(f"{id}: recorded twice. Keep the record beside the deciding figure.")
        return self._claims[id]

    def _must_deliver(self, claim: Claim) -> bool:
        """A profile as written must deliver each label of the rule; other runs need not."""
        custom = set(self._parameters.overridden) - {"seed"}
        return not custom and not _below(self._parameters.profile, claim.decides)

    def _refuse_absent_labels(self, claim: Claim, measured: Measured) -> None:
        if not self._must_deliver(claim):
            return
        for condition in claim.rule:
            try:
                condition.judge(as_table(measured, None))
            except Unrecorded as lack:
                where = f"{claim.id} (data/claims/{self._study}.toml)"
                labels = ", ".join(as_table(measured, None))
                raise ClaimError(
                    f"{where}: {lack}; recorded are {labels}. Correct the rule or the labels."
                ) from None
            except Unmeasured:
                continue


def ledger(study: str, P: Parameters) -> Ledger:
    """A fresh ledger for one run of a study with the parameters `P`."""
    return Ledger(study, P)


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
        _unmeasured(claim, scale, claim.unless_run if claim.test == "c" else reason)
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
            rows.append(_unmeasured(claim, row["scale"], row["reason"], note))
            continue
        numbers = (row["measured"], row["interval"], row["n_seeds"])
        verdict, reason = judge(claim, *numbers, record["profile"])
        rows.append(_row(claim, *numbers, row["scale"], verdict, reason, note))
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
        for key in ("verdict", *_PAPER_SIDE):
            if row.get(key) != expected[id][key]:
                found.append(f"{id}: {key} is {row.get(key)!r}, should be {expected[id][key]!r}")
        if row["verdict"] == "not assessed" and not row["reason"]:
            found.append(f"{id}: not assessed without a reason")
    return found


def _below(profile: str, other: str) -> bool:
    return PROFILES.index(profile) < PROFILES.index(other)


def _too_small(claim: Claim, n_seeds: int, profile: str) -> list[str]:
    doubts = []
    if _below(profile, claim.decides):
        doubts.append(f"profile {profile} decides nothing here; {claim.decides} or larger does")
    if n_seeds < claim.seeds:
        doubts.append(f"{n_seeds} seed(s) measured, {claim.seeds} needed")
    return doubts


def _row(
    claim: Claim,
    measured: Measured,
    interval: Interval,
    n_seeds: int,
    scale: str,
    verdict: str,
    reason: str,
    note: str,
) -> Record:
    paper_side = {"id": claim.id, **{key: getattr(claim, key) for key in _PAPER_SIDE}}
    numbers = {"measured": measured, "interval": interval, "n_seeds": n_seeds, "scale": scale}
    return {**paper_side, **numbers, "verdict": verdict, "reason": reason, "note": note}


def _unmeasured(claim: Claim, scale: str, reason: str, note: str = "") -> Record:
    # A claim about a named model stays visible at the paper's scale until that model is run.
    scale = "paper" if claim.test == "c" else scale
    return _row(claim, None, None, 0, scale, "not assessed", reason, note)
