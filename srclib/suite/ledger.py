"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.further_is_worse", table.mcc, by="k")
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ClaimError, nearest
from . import schema
from .claims import Claim, load_claims
from .judging import below, derive, new_record
from .params import SCALES, Parameters
from .rules import Unrecorded
from .verdicts import Record, Verdicts


class Ledger:
    """Collects the measurements of one run of `study` with the parameters `P`.

    Every claim is recorded once or not at all. unit: the default of `record`.
    """

    def __init__(self, study: str, P: Parameters, *, unit: str = "seed", scale: str | None = None):
        self._claims = {claim.id: claim for claim in load_claims(study)}
        self._parameters, self._unit, self._scale = P, unit, scale
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
    ) -> None:
        """Store the measurement of a claim: the value of every unit under each label.

        parts, by, unit, cluster, within: see `srclib.suite.labels.labelled`. Shown are the median
        over units and [min, max], which covers the population median with probability
        1 - 2**(1 - n) whatever the distribution; or the interval that fits a share or people.
        scale: "paper", "reduced" or "stand-in"; by default the ledger's, or the profile's own.
        """
        from .labels import labelled

        claim = self._new(id)
        if not claim.rule:
            raise ClaimError(f"{id}: the ledger has no rule for it. Write the rule first.")
        found = labelled(id, *parts, by=by, unit=unit or self._unit, cluster=cluster, within=within)
        strict = self._must_deliver(claim)
        if not found.values and not strict:
            return self.not_assessed(id, "the settings that it compares were not run", scale=scale)
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
            self._rows[id] = self._derived(claim, scale, strict, **stated)
        except Unrecorded as lack:
            raise ClaimError(
                f"{id} (data/claims/{self._parameters.study}.toml): {lack}; recorded are "
                f"{', '.join(found.values) or 'none'}. Correct the rule or the labels."
            ) from None

    def not_assessed(self, id: str, reason: str, *, scale: str | None = None) -> None:
        """State why this run does not measure a claim, and at which scale it would have."""
        claim = self._new(id)
        if not reason.strip():
            raise ClaimError(f"{id}: a reason is needed. Say what would assess the claim.")
        self._rows[id] = self._derived(claim, scale, reason=reason)

    def verdicts(self) -> Verdicts:
        """The record of this run, shown as a table and kept as the cell's JSON output."""
        from .. import fingerprint

        P, default = self._parameters, "no measurement was recorded in this run"
        rows = [
            self._rows.get(id) or self._derived(claim, reason=claim.unless_run or default)
            for id, claim in self._claims.items()
        ]
        return Verdicts(new_record(P.study, P.profile, P.values, rows, fingerprint.provenance()))

    def _must_deliver(self, claim: Claim) -> bool:
        """A profile as written must deliver each label of the rule.

        Other runs need not, nor does a named model, which lacks what only a model of ours knows.
        """
        P = self._parameters
        named = any(P.values.get(name) for name in ("model_name", "model"))
        as_written = not set(P.overridden) - {"seed"}
        return as_written and not named and not below(P.profile, claim.decides)

    def _new(self, id: str) -> Claim:
        if id not in self._claims:
            hint = nearest(id, self._claims)
            raise ClaimError(f"{id!r} is not in data/claims/{self._parameters.study}.toml. {hint}")
        if id in self._rows:
            raise ClaimError(f"{id}: recorded twice. Keep the record beside the deciding figure.")
        return self._claims[id]

    def _derived(
        self, claim: Claim, scale: str | None = None, strict: bool = False, **stated: Any
    ) -> Record:
        scale = scale or self._scale or self._parameters.scale
        stated["scale"] = schema.one_of(f"{claim.id}: scale", scale, SCALES, ClaimError)
        return derive(claim, stated, self._parameters.profile, strict)


ledger = Ledger  # as notebooks call it: `srclib.ledger("l0", P)`
