"""What a study found, in sentences whose numbers are read from its record when the book is built.

    answer = "TopK recovers {{gba.toy.topk_sensitive d=96 K=20 | %}} of the features (paper: ...)."

`{{claim}}` is the value of a claim with one label, `{{claim label}}` that of a label. After `|`:
`range` adds the interval, `%` makes a percentage; `{{claim | paper}}` is what the paper says and
`{{claim | verdict}}` ours. A number typed outside such braces is an error, as is one that the
record does not have: no sentence can say what was not measured. The same holds for the finding of
a figure, the bold first sentence of its caption, which is filled from the record of its own run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from ..errors import ClaimError, message, nearest
from ..store import files
from . import records, schema, trust
from .points import as_table, number
from .verdicts import Record

LARGEST = ("paper", "full", "laptop")
_QUOTE = re.compile(r"\{\{(?P<id>[\w.]+)(?: (?P<label>[^|}]+?))?(?: *\| *(?P<form>[\w%]+))?\}\}")
_TYPED = re.compile(r"(?<![\w.-])\.?\d[\d.,]*(?![\w-])")
_BOLD = re.compile(r"\*(.+?)\*")
_FINDING = re.compile(r"\*\*(.+?[.?!])\*\* (?!.*\{\{)", re.DOTALL)


@dataclass(frozen=True)
class Front:
    """The table `[page]` of a claims file.

    question, answer: what the study asks, and paragraphs that answer it. shows, finding: a claim
    whose labels are the picture of the first screen, and its title; labels: only those that begin
    so. learned: what the paper does not say, a sentence each, for the landing page.
    """

    question: str
    answer: tuple[str, ...]
    shows: str
    finding: str
    question_ja: str
    answer_ja: tuple[str, ...]
    labels: str = ""
    learned: tuple[str, ...] = ()
    learned_ja: tuple[str, ...] = ()


def front(study: str, record: Record) -> Front | None:
    """The first screen of a study, None where its claims file has none or nothing was measured."""
    if all(row["measured"] is None for row in record["claims"]):
        return None
    where = f"data/claims/{study}.toml"
    data = tomllib.loads((files.root() / where).read_text(encoding="utf-8")).get("page")
    if data is None:
        return None
    lists = {name: tuple(data.pop(name)) for name in _LISTS if name in data}
    return schema.read(Front, data, f"{where}: page", ClaimError, **lists)


_LISTS = ("answer", "answer_ja", "learned", "learned_ja")


def leading(study: str) -> Record:
    """The record that a study's first screen speaks of: the largest one that is published."""
    paths: Iterable[Path] = (records.published_path(study, each) for each in LARGEST)
    found = next((path for path in paths if path.is_file()), None)
    return records.load(found) if found else records.find(study, "laptop")


def told(text: str, known: Mapping[str, Record], where: str, page: str | None = None) -> Markup:
    """A sentence as HTML with its numbers filled in, each a link to its claim.

    known: records by study. page: the study whose page the sentence stands on. Raises ClaimError
    naming `where` for a number that is typed and for one that no record has.
    """
    bare = _QUOTE.sub("", text)
    if typed := _TYPED.search(bare):
        fix = "Quote it from a record: {{claim label}}, or from the paper: {{claim | paper}}."
        raise ClaimError(message(where, typed.group(), "no number outside of braces", fix))
    if "{{" in bare:
        raise ClaimError(message(where, text, "{{claim label | form}}", "Mend the braces."))
    quotes = iter([_quoted(match, known, where, page) for match in _QUOTE.finditer(text)])
    parts = _QUOTE.sub("\0", text).split("\0")
    html = str(escape(parts[0])) + "".join(next(quotes) + str(escape(each)) for each in parts[1:])
    return Markup(_BOLD.sub(r"<em>\1</em>", html))


def fill(text: str, known: Mapping[str, Record], where: str) -> str:
    """A page of Markdown with its quotes filled in; what else it says is its author's."""

    def quoted(match: re.Match[str]) -> str:
        if match["id"].startswith(trust.PREFIX):
            return trust.quoted(match["id"], match["label"], match["form"] or "", where)
        return _quoted(match, known, where, None)

    return _QUOTE.sub(quoted, trust.measured(text, where))


def title(words: dict[str, Any], record: Record) -> str:
    """Put the finding of a figure, filled in, first in its caption and alt text; in place.

    Returns what a reader sees of the figure while it is folded: the finding, as plain text.

    words: `mystnb` of its cell, whose caption begins `**What is found.** What is shown.` record:
    of the run that drew it; one at `smoke` finds nothing. Raises ClaimError that names the figure.
    """
    figure, image, study = words.get("figure", {}), words.get("image", {}), record["study"]
    where, caption = f"{study}: {figure.get('name', 'a figure')}", figure.get("caption", "")
    if (said := _FINDING.match(caption)) is None:
        fix = "Begin with what the figure finds, which alone may quote, and run the study."
        raise ClaimError(message(where, caption[:60], "**A finding.** What is shown", fix))
    figure["caption"] = shown = caption[said.end() :]
    if record["profile"] == "smoke":
        return shown.partition(". ")[0]
    finding = told(said[1], {study: record}, where, study)
    figure["caption"] = f"**{finding}** {shown}"
    image["alt"] = f"{finding.striptags()} {image.get('alt', '')}"
    return finding.striptags()


def _quoted(match: re.Match[str], known: Mapping[str, Record], where: str, page: str | None) -> str:
    id = match["id"]
    rows = {row["id"]: (study, row) for study, each in known.items() for row in each["claims"]}
    if id not in rows:
        raise ClaimError(message(where, id, "a claim of a record", nearest(id, rows)))
    study, row = rows[id]
    address = f"#{id}" if study == page else f"{study}.html#{id}"
    value = _value(row, match["label"], match["form"] or "", where)
    return str(Markup('<a class="quoted" href="{}">{}</a>').format(address, value))


def _value(row: Record, label: str | None, form: str, where: str) -> str:
    place = f"{where}: {row['id']}"
    if form == "paper":
        return str(row["paper_value"])
    if form == "verdict":
        return str(row["verdict"])
    table: Any = {} if row["measured"] is None else as_table(row["measured"], row["interval"])
    if label is None and len(table) == 1:
        label = next(iter(table))
    point = table.get(label)
    if point is None:
        lacking = message(place, label, f"one of {', '.join(table) or 'none'}", "Quote another.")
        raise ClaimError(lacking)
    percent = form == "%"
    text = number(float(f"{100 * point.value:.2g}" if percent else f"{point.value:.3g}"))
    if form in ("", "%"):
        return text + " %" * percent
    if form == "range":
        return str(point)
    raise ClaimError(message(place, form, "%, range, paper, verdict", "Take one of these."))
