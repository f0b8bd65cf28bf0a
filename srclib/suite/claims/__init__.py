"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.mse_low", mse_per_seed)
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import ClaimError, message
from ..params import SCALES, Parameters
from ..params.fields import nearest
from .judging import Record, below, judge, row_of, unmeasured
from .ledgerfile import Claim, load_claims
from .measurement import Interval, Measured, as_table
from .rederiving import never_run, rederive, rejudge
from .rules import Unmeasured, Unrecorded
from .verdicts import VERDICTS, Verdicts, measured_html, summary, verdict_html, verdict_table

if TYPE_CHECKING:
    from ..labels import Labelled

__all__ = ["VERDICTS", "Claim", "Ledger", "judge", "ledger", "load_claims", "measured_html"]
__all__ += ["never_run", "rederive", "rejudge", "summary", "verdict_html", "verdict_table"]


class Ledger:
    """Collects the measurements of one run; every claim is recorded once or not at all."""

    def __init__(self, study: str, P: Parameters, unit: str = "seed", scale: str | None = None):
        if P.study != study:
            raise ClaimError(message("study", study, repr(P.study), "Use one study's parameters."))
        self._claims = {claim.id: claim for claim in load_claims(study)}
        self._study = study
        self._unit, self._default_scale = unit, scale
        self._parameters = P
        self._rows: dict[str, Record] = {}

    def record(
        self,
        id: str,
        *parts: object,
        by: str | Sequence[str] | None = None,
        unit: str | None = None,
        cluster: str | None = None,
        within: str | None = None,
        scale: str | None = None,
        note: str = "",
    ) -> None:
        """Store the measurement of a claim, label by label, with the value of every unit.

        parts, by, unit, cluster, within: see `srclib.suite.labels.labelled`. Stored are the
        median over units and [min, max], which covers the population median with probability
        1 - 2**(1 - n) whatever the distribution, or the interval that fits a share or people.
        scale: "paper", "reduced" or "stand-in"; the profile's own by default.
        """
        from ..labels import labelled

        claim = self._new(id)
        if not claim.rule:
            raise ClaimError(f"{id}: the ledger has no rule for it. Write the rule first.")
        found = labelled(id, *parts, by=by, unit=unit or self._unit, cluster=cluster, within=within)
        if not found.measured and not self._must_deliver(claim):
            return self.not_assessed(id, "the settings that it compares were not run", scale=scale)
        self._rows[id] = self._row(claim, found, self._scale(id, scale), note)

    def _row(self, claim: Claim, found: Labelled, scale: str, note: str) -> Record:
        measured: Measured = found.measured
        interval: Interval = found.interval if found.n_units > 1 or found.kinds else None
        if found.bare and found.measured:
            measured, interval = found.measured["value"], interval and found.interval["value"]
        self._refuse_absent_labels(claim, measured)
        verdict, reason = judge(claim, measured, interval, found.n_units, self._parameters.profile)
        row = row_of(claim, measured, interval, found.n_units, scale, verdict, reason, note)
        return {**row, "values": found.values} | ({"intervals": found.kinds} if found.kinds else {})

    def not_assessed(self, id: str, reason: str, *, scale: str | None = None) -> None:
        """State why this run does not measure a claim, and at which scale it would have."""
        claim = self._new(id)
        if not reason.strip():
            raise ClaimError(f"{id}: a reason is needed. Say what would assess the claim.")
        self._rows[id] = unmeasured(claim, self._scale(id, scale), reason)

    def verdicts(self) -> Verdicts:
        """The record of this run, shown as a table and kept as the cell's JSON output."""
        from ... import fingerprint

        scale, default = self._parameters.scale, "no measurement was recorded in this run"
        rows = [
            self._rows.get(id) or unmeasured(claim, scale, claim.unless_run or default)
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

    def _scale(self, id: str, scale: str | None) -> str:
        scale = scale or self._default_scale or self._parameters.scale
        if scale not in SCALES:
            raise ClaimError(message(f"{id}: scale", scale, ", ".join(SCALES), "Choose one."))
        return scale

    def _must_deliver(self, claim: Claim) -> bool:
        """A profile as written must deliver each label of the rule; other runs need not."""
        custom = set(self._parameters.overridden) - {"seed"}
        return not custom and not below(self._parameters.profile, claim.decides)

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


def ledger(study: str, P: Parameters, *, unit: str = "seed", scale: str | None = None) -> Ledger:
    """A fresh ledger for one run of a study with the parameters `P`.

    unit, scale: the defaults of `record`; the scale is the profile's own unless given.
    """
    return Ledger(study, P, unit, scale)
