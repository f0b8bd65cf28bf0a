"""Strict reading of `data/claims/<study>.toml`: what a paper claims and how it is judged.

The scale of a verdict is not typed in: a claim says what a run must have had to stand at the
paper's scale, and `scale_of` compares that with the run's parameters and evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ClaimError, message, whole
from ..store import files
from . import rules, schema

_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")  # as "l0.toy.mse_low"


Scale = Literal["paper", "reduced", "stand-in"]
SCALES: tuple[str, ...] = get_args(Scale)
FACTS = ("lm", "corpus", "tokens")  # what a run may state as evidence
PUBLISHED = "published"


@dataclass(frozen=True)
class Earlier:
    """A verdict under an earlier rule, kept beside the claim: what the rule was, how it changed."""

    profile: str
    verdict: Literal["replicated", "partly", "not replicated", "not assessed"]
    rule: str
    change: Literal["stricter", "looser", "redefined", "corrected"]


@dataclass(frozen=True)
class PaperScale:
    """What a run must have had to stand at the paper's scale, by parameter or fact of evidence.

    A plain value must be equal; {min = 3}, {max = 3}, {any = [...]} (one of these) and
    {covers = [...]} (a list with at least these) say otherwise. kind: the entries without which
    the run is a stand-in, of another model or kind of data; for want of others it is reduced.
    """

    needs: Mapping[str, Any]
    kind: tuple[str, ...] = ()

    def of(self, seen: Mapping[str, Any]) -> Scale:
        lacks = [name for name, wanted in self.needs.items() if not _meets(seen.get(name), wanted)]
        if any(name in self.kind for name in lacks):
            return "stand-in"
        return "reduced" if lacks else "paper"


@dataclass(frozen=True)
class Claim:
    """One row of a claims ledger.

    test: a (paper scale on CPU), b (reduced scale on CPU) or c (named model and GPU).
    decides: smallest profile that can decide it (a smoke run decides nothing). seeds:
    fewest seeds that can. rule: the conditions that must hold; empty for a claim that this
    suite cannot assess yet. unless_run: the reason shown while there is no measurement.
    basis: whether a run could have come out otherwise; what only counts what we typed could not.
    exact: labels that are one number by nature, no draw. paper_scale: a table of the file's
    `paper_scale`, or "published" for numbers that the authors published; stand_in: why no run of
    ours is of the kind that the paper's is. instrument: floor and oracle of a score, without which
    it tells nothing. fault: our own likeliest fault; excluded_by: the conditions that exclude it.
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
    basis: Literal["measured", "by construction"] = "measured"
    exact: tuple[str, ...] = ()
    paper_scale: str = ""
    stand_in: str = ""
    instrument: tuple[rules.Condition, ...] = ()
    fault: str = ""
    excluded_by: tuple[rules.Condition, ...] = ()
    history: tuple[Earlier, ...] = ()
    needs: PaperScale | None = None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            allowed = "lower-case words joined by points"
            raise ValueError(message("id", self.id, allowed, "Take the specification's."))
        whole("seeds", self.seeds, low=1)
        if not self.rule and self.test != "c":
            raise ValueError(f"test {self.test} needs a rule. Add `rule = [...]`.")
        if not self.rule and not self.unless_run:
            raise ValueError("without a rule, unless_run must say what would assess it.")
        if not (self.constructed or self.test == "c" or self.stand_in or self.paper_scale):
            raise ValueError("its scale is open. Add `paper_scale`, `stand_in` or `basis`.")
        if self.excluded_by and not self.fault:
            raise ValueError("excluded_by needs the fault that it excludes. Add `fault`.")

    @property
    def constructed(self) -> bool:
        return self.basis == "by construction"

    def scale_of(self, seen: Mapping[str, Any]) -> Scale:
        """The scale at which a run with these parameters and facts of evidence decides it."""
        if self.constructed or self.paper_scale == PUBLISHED:
            return "paper"
        return "stand-in" if self.stand_in or self.needs is None else self.needs.of(seen)


def load_claims(study: str) -> list[Claim]:
    """The ledger of a study in file order; raises ClaimError naming the claim and the file."""
    folder = files.root() / "data" / "claims"
    known = sorted(file.stem for file in folder.glob("*.toml"))
    schema.one_of("study", study, known, ClaimError)
    where = f"data/claims/{study}.toml"
    data = schema.read_toml(folder / f"{study}.toml", ClaimError)
    data.pop("page", None)  # what was found: `front` reads it
    rows, scales = data.pop("claim", None), _paper_scales(data.pop("paper_scale", {}), where)
    if data or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        allowed = "[page], [[claim]] rows and [paper_scale.NAME] tables only"
        raise ClaimError(f"{where}: it may hold {allowed}. Remove {sorted(data)}.")
    claims: dict[str, Claim] = {}
    for i, row in enumerate(rows):
        place = f"{where}, {row.get('id', f'row {i + 1}')}"
        parsed: dict[str, Any] = {
            name: tuple(
                rules.parse(condition, f"{place}: {name}")
                for condition in _listed(row, name, place)
            )
            for name in ("rule", "instrument", "excluded_by")
        }
        parsed["exact"] = tuple(_listed(row, "exact", place))
        parsed["history"] = tuple(
            schema.read(Earlier, each, f"{place}: history", ClaimError)
            for each in _listed(row, "history", place)
        )
        if (name := row.get("paper_scale")) and name != PUBLISHED:
            parsed["needs"] = scales[
                schema.one_of(f"{place}: paper_scale", name, scales, ClaimError)
            ]
        claim = schema.read(Claim, row, place, ClaimError, **parsed)
        if claim.id in claims:
            raise ClaimError(f"{place}: the id occurs twice. Rename one row.")
        claims[claim.id] = claim
    return list(claims.values())


def _listed(row: dict[str, Any], name: str, place: str) -> list[Any]:
    """A list that the row need not have. Text would do as one: that of its letters."""
    if not isinstance(found := row.pop(name, []), list):
        raise ClaimError(message(f"{place}: {name}", found, "a list", "Write it in [ ]."))
    return found


_OPERANDS = {"min": (int, float), "max": (int, float), "any": (list,), "covers": (list,)}


def _paper_scales(tables: Any, where: str) -> dict[str, PaperScale]:
    found = {}
    for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
        place = f"{where}: paper_scale.{name}"
        if not isinstance(table, dict):
            raise ClaimError(
                message(place, table or tables, "a table", "Write [paper_scale.NAME].")
            )
        kind = tuple(_listed(table, "kind", place))
        if not table or name == PUBLISHED:
            raise ClaimError(f"{place}: it needs an entry and another name than {PUBLISHED!r}.")
        for key in kind:
            schema.one_of(f"{place}.kind", key, table, ClaimError)
        for key, wanted in table.items():
            for op, bound in wanted.items() if isinstance(wanted, dict) else ():
                schema.one_of(f"{place}.{key}", op, _OPERANDS, ClaimError)
                if type(bound) not in _OPERANDS[op]:
                    allowed = " or ".join(each.__name__ for each in _OPERANDS[op])
                    raise ClaimError(message(f"{place}.{key}.{op}", bound, allowed, "Correct it."))
        found[name] = PaperScale(table, kind)
    return found


def _meets(seen: Any, wanted: Any) -> bool:
    """Whether a parameter or fact is as the paper's; what is unknown or of another type is not."""
    if not isinstance(wanted, dict):
        return bool(seen == wanted)
    held = {
        "min": lambda bound: seen >= bound,
        "max": lambda bound: seen <= bound,
        "any": lambda allowed: seen in allowed,
        "covers": lambda least: set(least) <= set(seen),
    }
    try:
        return bool(wanted) and all(held[op](bound) for op, bound in wanted.items())
    except TypeError:
        return False
