"""Strict reading of `data/claims/<study>.toml`: what a paper claims and how it is judged."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from .. import files
from ..errors import ClaimError, message, whole
from . import rules, schema

_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")  # as "l0.toy.mse_low"


@dataclass(frozen=True)
class Claim:
    """One row of a claims ledger.

    test: a (paper scale on CPU), b (reduced scale on CPU) or c (named model and GPU).
    decides: smallest profile that can decide it (a smoke run decides nothing). seeds:
    fewest seeds that can. rule: the conditions that must hold; empty for a claim that this
    suite cannot assess yet. unless_run: the reason shown while there is no measurement.
    """

    id: str
    says: str
    says_ja: str
    where: str
    paper_value: str
    kind: Literal["value", "interval", "ordering", "trend", "qualitative"]
    test: Literal["a", "b", "c"]
    decides: Literal["laptop", "full", "paper"]
    rule: tuple[rules.Condition, ...]
    seeds: int = 1
    unless_run: str = ""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            allowed = "lower-case words joined by points"
            raise ValueError(message("id", self.id, allowed, "Take the specification's."))
        whole("seeds", self.seeds, low=1)
        if not self.rule and self.test != "c":
            raise ValueError(f"test {self.test} needs a rule. Add `rule = [...]`.")
        if not self.rule and not self.unless_run:
            raise ValueError("without a rule, unless_run must say what would assess it.")


def load_claims(study: str) -> list[Claim]:
    """The ledger of a study in file order; raises ClaimError naming the claim and the file."""
    folder = files.root() / "data" / "claims"
    known = sorted(file.stem for file in folder.glob("*.toml"))
    schema.one_of("study", study, known, ClaimError)
    where = f"data/claims/{study}.toml"
    try:
        data = tomllib.loads((folder / f"{study}.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{where}: {error}. Mend the file.") from None
    rows = data.pop("claim", None)
    if data or not isinstance(rows, list):
        raise ClaimError(f"{where}: it may hold [[claim]] rows only. Remove {sorted(data)}.")
    claims: dict[str, Claim] = {}
    for i, row in enumerate(rows):
        row = schema.table(row, f"{where}, row {i + 1}", ClaimError)
        claim = _read(row, f"{where}, {row.get('id', f'row {i + 1}')}")
        if claim.id in claims:
            raise ClaimError(f"{where}, {claim.id}: the id occurs twice. Rename one row.")
        claims[claim.id] = claim
    return list(claims.values())


def _read(row: dict[str, Any], where: str) -> Claim:
    conditions = row.pop("rule", [])
    if not isinstance(conditions, list):
        raise ClaimError(f"{where}: rule must be a list of conditions. Write [{{op = ...}}].")
    rule = tuple(rules.parse(condition, where) for condition in conditions)
    return schema.read(Claim, row, where, ClaimError, rule=rule)
