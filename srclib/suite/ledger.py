"""Claims ledger: measurements in, verdicts out. A verdict is computed, never typed in.

ledger = srclib.ledger("l0", P)
ledger.record("l0.toy.mse_low", mse_per_seed)
ledger.verdicts()                  # last line of a cell: the table and the record
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ClaimError, message, whole
from . import schema
from .claims import Claim, load_claims
from .judging import bare, below, derive, new_record
from .params import SCALES, Parameters
from .rules import Unrecorded
from .verdicts import Record, Verdicts

Series = dict[str, list[float]]  # per label, one number for each outermost unit


class Ledger:
    """Collects the measurements of one run; every claim is recorded once or not at all."""

    def __init__(self, study: str, P: Parameters):
        if P.study != study:
            raise ClaimError(message("study", study, repr(P.study), "Use one study's parameters."))
        self._claims = {claim.id: claim for claim in load_claims(study)}
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
        label (a bare number has the label "value"). What was not run is left out or empty.
        Stored are the value of every seed, their median and [min, max], which covers the
        population median with probability 1 - 2**(1 - n) whatever the distribution; no
        interval for one seed.
        interval: given instead, as [low, high] or a table of these (Wilson and the like).
        n_seeds: where it is not the number of values, as for counts over seeds.
        scale: "paper", "reduced" or "stand-in"; the profile's own by default.
        """
        series, n_units = _by_label(id, values)
        given = None if interval is None else _by_label(f"{id}, interval", interval)[0]
        self._store(id, series, given, n_units if n_seeds is None else n_seeds, scale, note)

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

    def _store(
        self,
        id: str,
        values: Series,
        interval: Series | None,
        n_units: int,
        scale: str | None,
        note: str,
    ) -> None:
        """Judge what was measured; without an `interval` it is the range over units."""
        claim = self._new(id)
        if not claim.rule:
            raise ClaimError(f"{id}: the ledger has no rule for it. Write the rule first.")
        # A profile as written must deliver each label of the rule; other runs need not.
        custom = set(self._parameters.overridden) - {"seed"}
        strict = not custom and not below(self._parameters.profile, claim.decides)
        if not values and strict:
            fix = "Record a number, or one per seed."
            raise ClaimError(message(f"{id}: labels", list(values), "at least one", fix))
        if not values:
            return self.not_assessed(id, "the settings that it compares were not run", scale=scale)
        finite = {label: list(map(_finite, row)) for label, row in values.items()}
        stated: Record = {"values": finite, "n_seeds": whole(f"{id}: n_seeds", n_units, low=1)}
        if interval is not None:
            _check_intervals(id, interval, values)
            stated |= {"interval": bare(interval), "interval_kind": "given"}
        try:
            self._rows[id] = self._derived(claim, scale, strict, note=note, **stated)
        except Unrecorded as lack:
            raise ClaimError(
                f"{id} (data/claims/{self._parameters.study}.toml): {lack}; recorded are "
                f"{', '.join(values)}. Correct the rule or the labels."
            ) from None

    def _new(self, id: str) -> Claim:
        if id not in self._claims:
            hint = schema.nearest(id, self._claims)
            raise ClaimError(f"{id!r} is not in data/claims/{self._parameters.study}.toml. {hint}")
        if id in self._rows:
            raise ClaimError(f"{id}: recorded twice. Keep the record beside the deciding figure.")
        return self._claims[id]

    def _derived(
        self, claim: Claim, scale: str | None = None, strict: bool = False, **stated: Any
    ) -> Record:
        scale = self._parameters.scale if scale is None else scale
        stated["scale"] = schema.one_of(f"{claim.id}: scale", scale, SCALES, ClaimError)
        return derive(claim, stated, self._parameters.profile, strict)


def ledger(study: str, P: Parameters) -> Ledger:
    """A fresh ledger for one run of a study with the parameters `P`."""
    return Ledger(study, P)


def _by_label(id: str, values: object) -> tuple[Series, int]:
    """{label: one number per seed} and the number of seeds; numbers may stand beside series."""
    table = values if isinstance(values, Mapping) else {"value": values}
    if not all(isinstance(label, str) and label for label in table):
        raise ClaimError(f"{id}: labels {list(table)!r}: allowed are texts. Give each a label.")
    found = {label: _numbers(f"{id}, label {label!r}", value) for label, value in table.items()}
    lengths = {len(numbers) for numbers, per_seed in found.values() if per_seed and numbers}
    if len(lengths) > 1:
        raise ClaimError(f"{id}: labels have {sorted(lengths)} seeds. Record the same for each.")
    return {label: n for label, (n, _) in found.items() if n}, max(lengths, default=1)


def _numbers(where: str, value: Any) -> tuple[list[float], bool]:
    """The numbers, and whether they are one per seed; tensors and arrays are taken as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    per_seed = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = [n.item() if hasattr(n, "item") else n for n in (value if per_seed else [value])]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise ClaimError(message(where, value, "a number or one per seed", "Record numbers."))
    return [float(n) for n in numbers], per_seed


def _check_intervals(id: str, interval: Series, values: Series) -> None:
    if interval.keys() != values.keys():
        raise ClaimError(f"{id}: interval must have the labels {list(values)}. Give one for each.")
    for label, pair in interval.items():
        low, high = pair if len(pair) == 2 else (math.nan, math.nan)
        median = statistics.median(values[label])
        inside = low <= median <= high or not math.isfinite(median)
        if not (inside and -math.inf < low <= high < math.inf):
            where = f"{id}, interval of {label!r}"
            raise ClaimError(message(where, pair, "[low, high] around the value", "Correct it."))


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
