"""Strict reading of `data/claims/<study>.toml`: what a paper claims and how it is judged."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from ... import files
from ...errors import ClaimError, message
from ..params.fields import nearest
from ..params.specfile import PROFILES
from . import rules

_CHOICES = {
    "kind": ("value", "interval", "ordering", "trend", "qualitative"),
    "test": ("a", "b", "c"),  # paper scale on CPU, reduced scale on CPU, named model and GPU
    "decides": PROFILES[1:],  # a smoke run shows that the code runs, and nothing else
}
_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")  # as "l0.toy.mse_low"
_REQUIRED = ("id", "says", "says_ja", "where", "paper_value", "kind", "test", "decides")
_OPTIONAL = ("seeds", "unless_run", "rule")


@dataclass(frozen=True)
class Claim:
    """One row of a claims ledger.

    test: a (paper scale on CPU), b (reduced scale on CPU) or c (named model and GPU).
    decides: smallest profile that can decide it. seeds: fewest seeds that can. rule: the
    conditions that must hold; empty for a claim that this suite cannot assess yet.
    unless_run: the reason shown while there is no measurement.
    """

    id: str
    says: str
    says_ja: str
    where: str
    paper_value: str
    kind: str
    test: str
    decides: str
    seeds: int
    rule: tuple[rules.Condition, ...]
    unless_run: str


def load_claims(study: str) -> list[Claim]:
    """The ledger of a study in file order; raises ClaimError naming the claim and the file."""
    folder = files.root() / "data" / "claims"
    path = folder / f"{study}.toml"
    known = sorted(file.stem for file in folder.glob("*.toml"))
    if study not in known:
        raise ClaimError(message("study", study, ", ".join(known), nearest(study, known)))
    where = f"data/claims/{path.name}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{where}: {error}. Mend the file.") from None
    rows = data.pop("claim", None)
    if data or not isinstance(rows, list):
        raise ClaimError(f"{where}: it may hold [[claim]] rows only. Remove {sorted(data)}.")
    claims: dict[str, Claim] = {}
    for i, row in enumerate(rows):
        claim = _read(row, f"{where}, {row.get('id', f'row {i + 1}')}")
        if not _ID.fullmatch(claim.id):
            allowed = "lower-case words joined by points"
            seen = message(f"{where}: id", claim.id, allowed, "Take the specification's.")
            raise ClaimError(seen)
        if claim.id in claims:
            raise ClaimError(f"{where}, {claim.id}: the id occurs twice. Rename one row.")
        claims[claim.id] = claim
    return list(claims.values())


def _read(row: dict[str, Any], where: str) -> Claim:
    for key in row:
        if key not in _REQUIRED + _OPTIONAL:
            hint = nearest(key, _REQUIRED + _OPTIONAL)
            raise ClaimError(f"{where}: unknown key {key!r}. {hint}")
    texts = {key: _text(row, key, where) for key in _REQUIRED}
    for key, choices in _CHOICES.items():
        if texts[key] not in choices:
            seen = message(f"{where}: {key}", texts[key], ", ".join(choices), "Choose one.")
            raise ClaimError(seen)
    seeds = row.get("seeds", 1)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        fix = "Give the fewest seeds that can decide it."
        raise ClaimError(message(f"{where}: seeds", seeds, "an int >= 1", fix))
    conditions = row.get("rule", [])
    if not isinstance(conditions, list):
        raise ClaimError(f"{where}: rule must be a list of conditions. Write [{{op = ...}}].")
    if not conditions and texts["test"] != "c":
        raise ClaimError(f"{where}: test {texts['test']} needs a rule. Add `rule = [...]`.")
    if not conditions and "unless_run" not in row:
        raise ClaimError(f"{where}: without a rule, unless_run must say what would assess it.")
    return Claim(
        **texts,
        seeds=seeds,
        rule=tuple(rules.parse(condition, where) for condition in conditions),
        unless_run=_text(row, "unless_run", where) if "unless_run" in row else "",
    )


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ClaimError(f"{where}: {key!r} must be a text that is not empty. Fill it in.")
    return value
