"""Verdicts for readers: the table of a record, counts per scale, and the notebook output."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, Literal, get_args

from .rules import Point, number

Record = dict[str, Any]

Verdict = Literal["replicated", "partly", "not replicated", "not assessed"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
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
        return f"{self.record['study']} at {self.record['profile']}. {counts(self.record)}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {
            "application/json": self.record,
            "text/html": verdict_table(self.record),
            "text/plain": repr(self),
        }


def summary(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """{scale: {verdict: count}}; verdicts of different scales are never added together."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        for row in record["claims"]:
            counts.setdefault(row["scale"], dict.fromkeys(VERDICTS, 0))[row["verdict"]] += 1
    return counts


def counts(record: Record) -> str:
    """`reduced: 20 replicated, 3 partly; paper: 4 not assessed`, scale by scale."""
    return "; ".join(
        f"{scale}: " + ", ".join(f"{n} {verdict}" for verdict, n in row.items() if n)
        for scale, row in summary([record]).items()
    )


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
    note = f"<br><small>{escape(claim['note'])}</small>" if claim.get("note") else ""
    scale = _SCALES_JA[claim["scale"]] if lang == "ja" else claim["scale"]
    cells = (
        f"{escape(says)}<br><code>{escape(claim['id'])}</code>",
        escape(claim["paper_value"]) + where,
        measured_html(claim) + note,
        str(claim["n_seeds"] or "–"),
        scale,
        verdict_html(claim["verdict"], lang),
        f'<span lang="en">{escape(claim["reason"])}</span>',
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def verdict_html(verdict: str, lang: str = "en") -> str:
    """A verdict as a coloured word with its symbol."""
    word = f"{verdict}（{_JAPANESE[verdict]}）" if lang == "ja" else verdict
    name = verdict.replace(" ", "-")
    return f'<span class="verdict verdict-{name}">{_SYMBOLS[verdict]} {word}</span>'


def measured_html(claim: Record) -> str:
    """What a claim measured, with intervals; many labels are folded."""
    measured, interval = claim["measured"], claim["interval"]
    if not isinstance(measured, dict):
        return _point(measured, interval)
    lines = [
        f"{escape(label)}: {_point(value, (interval or {}).get(label))}"
        for label, value in measured.items()
    ]
    text = "<br>".join(lines)
    if len(lines) > _ROWS_SHOWN:
        return f"<details><summary>{len(lines)} values</summary>{text}</details>"
    return text


def _point(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return number(value)
    return str(Point(value, *interval))
