"""The swap table: what a model answers when one slot is raised in place of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import DataError, ParameterError, message
from .fragment import check_name, escape, fragment, select, size

SCRIPT = """
const [question, slot, strength] = root.querySelectorAll("select");
const sweeps = [...root.querySelectorAll("tbody")], answer = root.querySelector(".x-answer");
const sweepOf = (q, s) => sweeps.find(each => each.dataset.q === q && each.dataset.s === s);

function restrict(list, exists) {  // to what was asked; the choice moves there if it must
  for (const option of list.options) option.disabled = !exists(option.value);
  if (list.selectedOptions[0].disabled)
    list.value = [...list.options].find(option => !option.disabled).value;
}

function update() {
  restrict(slot, value => sweepOf(question.value, value));
  const sweep = sweepOf(question.value, slot.value), rows = [...sweep.rows].slice(1);
  restrict(strength, value => rows.some(row => row.dataset.a === value));
  sweeps.forEach(each => { each.hidden = each !== sweep; });
  const chosen = rows.find(row => row.dataset.a === strength.value);
  root.querySelector("[aria-current]")?.removeAttribute("aria-current");
  chosen.setAttribute("aria-current", "true");
  const [, said, wanted, verdict] = [...chosen.cells].map(cell => cell.textContent);
  const strong = document.createElement("strong");
  strong.textContent = said;
  const rest = `. The slot asks for ${wanted}: ${verdict}.`;
  answer.replaceChildren("The model answers ", strong, rest);
}

root.querySelector(".x-bar").hidden = answer.hidden = false;
root.addEventListener("change", update);
update();
"""


class Swap(NamedTuple):
    """One question asked with one slot raised."""

    question: str
    slot: str  # the relation whose slot is raised
    alpha: float  # its value, in the unit that the table's caption names
    answer: str  # what the model says
    expected: str  # what the raised slot should make it say
    verdict: str  # such as "swapped", "unchanged" or "another value of this kind"


def swap_table(
    rows: Sequence[Swap],
    *,
    name: str = "swaps",
    unit: str = "times the slot's natural value",
    max_bytes: int = 1_000_000,
) -> str:
    """Choose question, slot and strength; read the model's answer, and the whole sweep below it.

    name: the fragment's id, unique on its page. unit: what `alpha` is counted in.

    Raises DataError for no row, one given twice, an alpha that is no number; ParameterError for a
    name that is no id and for more than `max_bytes`: which questions to drop is not ours to say.
    """
    check_name(name)
    _check(rows)
    questions = list(dict.fromkeys(row.question for row in rows))
    slots = list(dict.fromkeys(row.slot for row in rows))
    alphas = sorted({row.alpha for row in rows})
    sweeps: dict[tuple[str, str], list[Swap]] = {}
    for row in rows:
        sweeps.setdefault((row.question, row.slot), []).append(row)
    bodies = "\n".join(
        _sweep(sweep, questions.index(question), slots.index(slot), alphas)
        for (question, slot), sweep in sweeps.items()
    )
    controls = (
        select("Question", "q", questions)
        + select("Slot that is raised", "s", slots)
        + select("Strength", "a", [f"{alpha:g}" for alpha in alphas])
    )
    columns = ("Strength", "Answer", "Slot asks for", "Outcome")
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = (
        f'<p class="x-note">{len(rows)} answers to {len(questions)} questions. '
        f"Strength: {escape(unit)}.</p>\n"
        f'<div class="x-bar" role="group" aria-label="Choose a swap" hidden>{controls}</div>\n'
        '<output class="x-answer" aria-live="polite" hidden></output>\n'
        '<div class="x-scroll" role="region" aria-label="Answers" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead>\n{bodies}\n</table></div>"
    )
    page = fragment(name, body, SCRIPT)
    if size(page) > max_bytes:
        fix = "Give fewer questions, or raise it."
        raise ParameterError(message("max_bytes", max_bytes, f"at least {size(page)}", fix))
    return page


def _check(rows: Sequence[Swap]) -> None:
    if not rows:
        raise DataError(message("rows", [], "at least one", "Give the swaps to show."))
    seen = set()
    for i, row in enumerate(rows):
        if not math.isfinite(row.alpha):
            fix = "Leave the row out."
            raise DataError(message(f"rows[{i}].alpha", row.alpha, "a finite number", fix))
        key = (row.question, row.slot, row.alpha)
        if key in seen:
            raise DataError(message(f"rows[{i}]", key, "each swap once", "Leave the copy out."))
        seen.add(key)


def _sweep(sweep: Sequence[Swap], question: int, slot: int, alphas: Sequence[float]) -> str:
    """All strengths of one question and one slot, as a group of rows."""
    title = f"{escape(sweep[0].question)} → {escape(sweep[0].slot)}"
    lines = "".join(
        f'<tr data-a="{alphas.index(row.alpha)}"><td>{row.alpha:g}</td>'
        + "".join(f"<td>{escape(x)}</td>" for x in (row.answer, row.expected, row.verdict))
        + "</tr>"
        for row in sorted(sweep, key=lambda row: row.alpha)
    )
    return (
        f'<tbody data-q="{question}" data-s="{slot}"><tr><th colspan="4" scope="rowgroup">'
        f"{title}</th></tr>{lines}</tbody>"
    )
