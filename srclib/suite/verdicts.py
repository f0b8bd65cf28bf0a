"""Verdicts for readers: the claims of a record as a list and as marks, counts, notebook output."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from markupsafe import Markup

from .claims import load_claims
from .points import as_table, number

Record = dict[str, Any]

Verdict = Literal["replicated", "partly", "not replicated", "not assessed"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
CONSTRUCTED = "by construction"
_NO_SEEDS: Mapping[str, Mapping[str, Any]] = {}
SYMBOLS = dict(zip(VERDICTS, "✓◐✗–", strict=True))  # colour is never the only cue


class Verdicts:
    """The record of a run; as a cell's last value it becomes the notebook's JSON output."""

    def __init__(self, record: Record):
        self.record = record

    def __repr__(self) -> str:
        return f"{self.record['study']} at {self.record['profile']}. {told(self.record)}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "application/json": self.record,
            "text/html": str(claim_list(self.record)),
            "text/plain": repr(self),
        }


def summary(record: Record) -> dict[str, dict[str, int]]:
    """{scale: {verdict: count}}; verdicts of different scales are never added together.

    What holds by construction is in no count.
    """
    counts: dict[str, dict[str, int]] = {}
    for row in record["claims"]:
        if row.get("basis") == CONSTRUCTED:
            continue
        counts.setdefault(row["scale"], dict.fromkeys(VERDICTS, 0))[row["verdict"]] += 1
    return counts


def told(record: Record) -> str:
    """`reduced: 20 replicated, 3 partly; paper: 4 not assessed`, scale by scale."""
    text = "; ".join(
        f"{scale}: " + ", ".join(f"{n} {verdict}" for verdict, n in row.items() if n)
        for scale, row in summary(record).items()
    )
    constructed = sum(row.get("basis") == CONSTRUCTED for row in record["claims"])
    parts = [text] * bool(text) + [f"{constructed} {CONSTRUCTED}"] * bool(constructed)
    return "; ".join(parts) + ("" if record.get("published", True) else " (not published)")


def claim_list(
    record: Record, anchors: bool = False, seeds: Mapping[str, Mapping[str, Any]] = _NO_SEEDS
) -> str:
    """The claims of a record as an HTML list: one line each, which opens to the rule and the why.

    It can be filtered by verdict and scale and read in either language without a script.
    anchors: give each claim its id as the place that links lead to. seeds: what became of them
    under fresh seeds, see `trust.under_seeds`.
    """
    return Markup(_macros().claim_list(record, anchors, load_rules(record["study"]), seeds))


def plot(claim: Record) -> Markup:
    """The labels of one claim as a dot plot with intervals."""
    return Markup(_macros().plot(claim))


def strip(record: Record, page: str = "") -> Markup:
    """The claims of a record as small marks, each a link to its line, grouped by scale."""
    return Markup(_macros().strip(record, page))


def load_rules(study: str) -> dict[str, list[str]]:
    """{claim id: the conditions of its rule in words}"""
    return {claim.id: [str(each) for each in claim.rule] for claim in load_claims(study)}


def verdict_html(verdict: str) -> str:
    """A verdict as a coloured word with its symbol."""
    return Markup(_macros().chip(verdict))


def headline(claim: Record, rule: Sequence[str] = ()) -> str:
    """What a claim is judged by first: a place, or the first label that its rule names."""
    found = points(claim)
    if not found:
        return ""
    more = f" (+{len(found) - 1})" if len(found) > 1 else ""
    if place := re.search(r"\barg(min|max) at (.+?), expected", claim["reason"]):
        return f"{'smallest' if place[1] == 'min' else 'largest'} at {place[2]}{more}"
    asked = [label for label in found if rule and label in rule[0]]
    label = max(asked, key=len, default=next(iter(found)))
    return (found[label] if label == "value" else f"{label}: {found[label]}") + more


def picture(claim: Record) -> dict[str, Any]:
    """The labels of a claim as places in a picture, from 0 to 100, with the ends of its axis.

    rows: value, interval and units of each label. curve: whether the labels are one name and a
    number that grows, so that they can stand beside each other instead of below.
    """
    table = {} if claim["measured"] is None else as_table(
        claim["measured"], claim["interval"], claim.get("values")
    )  # fmt: skip
    found = {label: point for label, point in table.items() if point is not None}
    ends = [end for point in found.values() for end in (point.low, point.high)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if 0 < low < 0.6 * (high - low):  # a scale that starts near 0 starts at 0
        low = 0.0

    def place(value: float, start: float = low, end: float = high) -> float:
        return round(100 * (value - start) / ((end - start) or 1), 2)

    names = [_NUMBERED.fullmatch(label) for label in found]
    numbers = [float(name[2]) for name in names if name]
    one_name = len({name and name[1] for name in names}) == 1 and len(numbers) == len(found)
    rows = [
        {
            "label": label,
            "text": str(point),
            "at": place(point.value),
            "low": place(point.low),
            "high": place(point.high),
            "units": [place(unit) for unit in point.units if len(point.units) <= 12],
        }
        for label, point in found.items()
    ]
    curve = one_name and len(numbers) > 5 and numbers == sorted(numbers)
    for row, x in zip(rows, numbers if curve else (), strict=False):
        row["x"] = place(x, numbers[0], numbers[-1])
    name = names[0][1].rstrip("= ") if curve and names[0] else ""
    axis = [number(float(f"{end:.3g}")) for end in (low, high)]
    return {"rows": rows, "curve": curve, "name": name, "ends": axis, "xs": numbers}


_NUMBERED = re.compile(r"(.*?)(-?[\d.]+)")


def points(claim: Record) -> dict[str, str]:
    """{label: "0.93 [0.9, 0.95]"} of a claim's measurement; nothing where there is none."""
    if claim["measured"] is None:
        return {}
    table = as_table(claim["measured"], claim["interval"])
    return {label: "–" if point is None else str(point) for label, point in table.items()}


def marks(claim: Record) -> list[str]:
    """That a verdict follows from what was typed in, or could still be our own fault."""
    held = {CONSTRUCTED: claim.get("basis") == CONSTRUCTED, "could be us": claim.get("could_be_us")}
    return [word for word, holds in held.items() if holds]


@functools.cache
def _macros() -> Any:
    from .templates import macros

    return macros(
        "claims.jinja", symbols=SYMBOLS, verdicts=VERDICTS, summary=summary,
        headline=headline, picture=picture, constructed=CONSTRUCTED,
    )  # fmt: skip
