"""Verdicts for readers: the table of a record, counts per scale, and the notebook output."""

from __future__ import annotations

from html import escape
from typing import Any, Literal, get_args

from .points import as_table

Record = dict[str, Any]

Verdict = Literal["replicated", "partly", "not replicated", "not assessed"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
CONSTRUCTED = "by construction"
_SYMBOLS = dict(zip(VERDICTS, "✓◐✗–", strict=True))  # colour is never the only cue
_JAPANESE = dict(zip(VERDICTS, ("再現", "一部再現", "再現せず", "未評価"), strict=True))
_SCALES_JA = {"paper": "論文規模", "reduced": "縮小規模", "stand-in": "代替"}
_HEADS = {
    "en": ("Claim", "Paper", "Measured", "Seeds", "Scale", "Verdict", "Reason"),
    "ja": ("主張", "論文の値", "測定値", "シード数", "規模", "判定 (Verdict)", "理由"),
}
_ROWS_SHOWN = 6  # a longer table of labels is folded


class Verdicts:
    """The record of a run; as a cell's last value it becomes the notebook's JSON output."""

    def __init__(self, record: Record):
        self.record = record

    def __repr__(self) -> str:
        return f"{self.record['study']} at {self.record['profile']}. {told(self.record)}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "application/json": self.record,
            "text/html": verdict_table(self.record),
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


def verdict_table(record: Record, lang: str = "en") -> str:
    """The claims of a record as an HTML table, everything escaped; lang is "en" or "ja"."""
    heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS[lang])
    rows = "\n".join(_row(claim, lang) for claim in record["claims"])
    return (
        f'<table class="verdicts" lang="{lang}">\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _row(claim: Record, lang: str) -> str:
    says = claim["says_ja"] if lang == "ja" else claim["says"]
    where = f"<br><small>{escape(claim['where'])}</small>"
    scale = _SCALES_JA[claim["scale"]] if lang == "ja" else claim["scale"]
    cells = (
        f"{escape(says)}<br><code>{escape(claim['id'])}</code>",
        escape(claim["paper_value"]) + where,
        measured_html(claim),
        _units(claim),
        scale,
        verdict_html(claim["verdict"], lang)
        + "".join(f"<br><small>{mark}</small>" for mark in marks(claim, lang)),
        f'<span lang="en">{escape(claim["reason"])}</span>{_history_html(claim)}',
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _units(claim: Record) -> str:
    """How many units, and how sure the range of few of them is to hold a median."""
    n = claim["n_seeds"]
    few = 1 < n < 6 and not claim.get("interval_kinds")
    return (f"{n}<br><small>({1 - 2.0 ** (1 - n):.0%})</small>" if few else str(n)) if n else "–"


def verdict_html(verdict: str, lang: str = "en") -> str:
    """A verdict as a coloured word with its symbol."""
    word = f"{verdict}（{_JAPANESE[verdict]}）" if lang == "ja" else verdict
    name = verdict.replace(" ", "-")
    return f'<span class="verdict verdict-{name}">{_SYMBOLS[verdict]} {word}</span>'


def marks(claim: Record, lang: str = "en") -> list[str]:
    """That a verdict follows from what was typed in, or could still be our own fault."""
    words = {"en": (CONSTRUCTED, "could be us"), "ja": ("構成による", "当方の不備の可能性")}[lang]
    held = (claim.get("basis") == CONSTRUCTED, claim.get("could_be_us"))
    return [word for word, holds in zip(words, held, strict=True) if holds]


def _history_html(claim: Record) -> str:
    """Earlier rules of a claim and the verdicts under them."""
    return "".join(
        f'<br><small lang="en">Earlier rule ({escape(each["change"])} since): '
        f"{escape(each['rule'])} At {escape(each['profile'])}: {escape(each['verdict'])}.</small>"
        for each in claim.get("history", ())
    )


def points(claim: Record) -> dict[str, str]:
    """{label: "0.93 [0.9, 0.95]"} of a claim's measurement; nothing where there is none."""
    if claim["measured"] is None:
        return {}
    table = as_table(claim["measured"], claim["interval"])
    return {label: "–" if point is None else str(point) for label, point in table.items()}


def measured_html(claim: Record) -> str:
    """What a claim measured, with intervals; many labels are folded."""
    if not isinstance(claim["measured"], dict):
        return points(claim).get("value", "–")
    lines = [f"{escape(label)}: {text}" for label, text in points(claim).items()]
    folded = f"<details><summary>{len(lines)} values</summary>{'<br>'.join(lines)}</details>"
    return folded if len(lines) > _ROWS_SHOWN else "<br>".join(lines)
