"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.further_is_worse", table.mcc, by="k")
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ClaimError, ParameterError, SuiteError, message, nearest
from .claims import FACTS, Claim, load_claims
from .judging import below, derive, new_record
from .params import Parameters
from .points import Unrecorded
from .verdicts import Record, Verdicts

if TYPE_CHECKING:
    from pandas import Series


class Ledger:
    """Collects the measurements of one run of `study` with the parameters `P`.

    Every claim is recorded once or not at all. unit: the default of `record`.
    """

    def __init__(self, study: str, P: Parameters, *, unit: str = "seed"):
        self._claims = {claim.id: claim for claim in load_claims(study)}
        self._parameters, self._unit = P, unit
        self._stated: dict[str, Record] = {}
        self._evidence: Record = {}

    def evidence(self, *, read: int = 0, available: int = 0, **facts: object) -> None:
        """What a run of a named model read, as reported by what was loaded; before any record.

        read: tokens that the longest of its runs reads; available: distinct ones at hand. The scale
        of every claim follows from facts and parameters, see `paper_scale` in the claims file.
        Raises ParameterError for profile `paper` without a corpus, or where the text would repeat.
        """
        if self._stated or self._evidence:
            raise ClaimError("evidence after a record. Give it first, once: scales follow from it.")
        if unknown := sorted(facts.keys() - set(FACTS)):
            fix = "Parameters count by themselves."
            raise ClaimError(message("evidence", unknown, ", ".join(FACTS), fix))
        if self._parameters.profile == "paper" and "lm" in facts:
            if not facts.get("corpus"):
                allowed = "a text as long as the paper's for profile paper"
                raise ParameterError(message("corpus", "", allowed, "Name one, or take laptop."))
            if read > available:
                seen, allowed = f"{available:,} tokens", f"the {read:,} that a run reads, once each"
                fix = "Bring more text, or lower the number of updates."
                raise ParameterError(message("corpus", seen, allowed, fix))
        self._evidence = {**facts, "tokens": min(read, available)} if facts else {}

    def require(self, what: str, values: Series, above: float) -> None:
        """Stop the study by name where a model fails a check that everything later rests on.

            ledger.require("gain over the unigram's loss", unigram - losses, above=0)

        A smoke run, which gives no verdict, goes on. Raises SuiteError naming the failing ones.
        """
        failing = values[~(values > above)]  # NaN fails
        if len(failing) and self._parameters.profile != "smoke":
            names = ", ".join(f"{at}: {value:.4g}" for at, value in failing.items())
            allowed, fix = f"above {above:.4g}", "Train it longer, or on more text."
            raise SuiteError(message(what, names, allowed, fix))

    def record(
        self,
        id: str,
        *parts: object,
        by: str | Sequence[str] | None = None,
        unit: str | None = None,
        cluster: str | None = None,
        within: str | None = None,
    ) -> None:
        """Store the measurement of a claim: the value of every unit under each label.

        parts, by, unit, cluster, within: see `srclib.suite.labels.labelled`. Shown are the median
        over units and [min, max], which covers the population median with probability
        1 - 2**(1 - n) whatever the distribution; or the interval that fits a share or people.
        """
        from .labels import labelled

        claim = self._new(id)
        if not claim.rule:
            raise ClaimError(f"{id}: the ledger has no rule for it. Write the rule first.")
        found = labelled(id, *parts, by=by, unit=unit or self._unit, cluster=cluster, within=within)
        strict = self._must_deliver(claim)
        if not found.values and not strict:
            return self.not_assessed(id, "the settings that it compares were not run")
        stated: Record = {
            "values": {
                label: [v if math.isfinite(v) else None for v in row]
                for label, row in found.values.items()
            },
            "n_seeds": found.n_units,
            "measured": {label: given[0] for label, given in found.given.items()},
            "interval": {label: list(given[1:]) for label, given in found.given.items()},
        }
        stated |= {"interval_kinds": found.kinds} if found.kinds else {}
        try:
            self._derived(claim, stated, strict)
        except Unrecorded as lack:
            raise ClaimError(
                f"{id} (data/claims/{self._parameters.study}.toml): {lack}; recorded are "
                f"{', '.join(found.values) or 'none'}. Correct the rule or the labels."
            ) from None
        self._stated[id] = stated

    def not_assessed(self, id: str, reason: str) -> None:
        """State why this run does not measure a claim."""
        self._new(id)
        if not reason.strip():
            raise ClaimError(f"{id}: a reason is needed. Say what would assess the claim.")
        self._stated[id] = {"reason": reason}

    def verdicts(self) -> Verdicts:
        """The record of this run, shown as a table and kept as the cell's JSON output."""
        from ..store import fingerprint

        P, default = self._parameters, "no measurement was recorded in this run"
        rows = [
            self._derived(claim, self._stated.get(id) or {"reason": claim.unless_run or default})
            for id, claim in self._claims.items()
        ]
        source = fingerprint.provenance()
        return Verdicts(new_record(P.values, P.study, self._evidence, rows, source))

    def _must_deliver(self, claim: Claim) -> bool:
        """A profile as written must deliver each label of the rule.

        Other runs need not, nor does a named model, which lacks what only a model of ours knows.
        """
        P, named = self._parameters, "lm" in self._evidence
        as_written = not set(P.overridden) - {"seed"}
        return as_written and not named and not below(P.profile, claim.decides)

    def _new(self, id: str) -> Claim:
        if id not in self._claims:
            hint = nearest(id, self._claims)
            raise ClaimError(f"{id!r} is not in data/claims/{self._parameters.study}.toml. {hint}")
        if id in self._stated:
            raise ClaimError(f"{id}: recorded twice. Keep the record beside the deciding figure.")
        return self._claims[id]

    def _derived(self, claim: Claim, stated: Record, strict: bool = False) -> Record:
        P = self._parameters
        return derive(claim, stated, P.profile, self._evidence | P.values, strict)


ledger = Ledger  # as notebooks call it: `srclib.ledger("l0", P)`
