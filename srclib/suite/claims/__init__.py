"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.mse_low", mse_per_seed)
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ClaimError, message
from ..params import SCALES, Parameters
from ..params.fields import nearest
from .judging import Record, below, judge, row_of, unmeasured
from .ledgerfile import Claim, load_claims
from .measurement import Measured, as_table, given_interval, measure
from .rederiving import never_run, rederive, rejudge
from .rules import Unmeasured, Unrecorded
from .verdicts import VERDICTS, Verdicts, measured_html, summary, verdict_html, verdict_table

__all__ = ["VERDICTS", "Claim", "Ledger", "judge", "ledger", "load_claims", "measured_html"]
__all__ += ["never_run", "rederive", "rejudge", "summary", "verdict_html", "verdict_table"]


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
        nothing = isinstance(values, Mapping) and not values
        if nothing and not self._must_deliver(claim):
            return self.not_assessed(id, "the settings that it compares were not run", scale=scale)
        scale = self._scale(id, scale)
        measured, spread, n_values = measure(id, values)
        if interval is not None:
            spread = given_interval(id, interval, measured)
        n_seeds = n_values if n_seeds is None else n_seeds
        if type(n_seeds) is not int or n_seeds < 1:
            fix = "Count the outermost random unit."
            raise ClaimError(message(f"{id}: n_seeds", n_seeds, "an int >= 1", fix))
        self._refuse_absent_labels(claim, measured)
        verdict, reason = judge(claim, measured, spread, n_seeds, self._parameters.profile)
        self._rows[id] = row_of(claim, measured, spread, n_seeds, scale, verdict, reason, note)

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
        scale = self._parameters.scale if scale is None else scale
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


def ledger(study: str, P: Parameters) -> Ledger:
    """A fresh ledger for one run of a study with the parameters `P`."""
    return Ledger(study, P)
