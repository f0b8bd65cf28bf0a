"""What was measured about the suite itself: data/trust/*.json, and quotes of it in pages.

`{{trust.faults flips.silent}}` in a page is the value at that place of data/trust/faults.json.
After `|`: `%` makes a percentage of a share, `list` a list of texts, `table` a table of rows.
What stands between `<!-- trust.faults flips -->` and `<!-- end -->` is about that part of the
file. Where the part was never run it is left out, and named, with how to run it, in the one list
that stands in the place of `<!-- trust: not run -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import escape

from ..errors import ClaimError, DataError, message
from ..store import files, seals
from .points import number

SEAL = "sha256"
PREFIX = "trust."


def path(name: str) -> Path:
    return files.root() / "data" / "trust" / f"{name}.json"


def write(name: str, content: Mapping[str, Any]) -> Path:
    """Seal a document and put it into data/trust/. Returns its path."""
    sealed = files.seal({**content, SEAL: ""}, SEAL)
    files.make(path(name).parent)
    return files.write_atomic(path(name), files.pretty(sealed))


def load(name: str) -> dict[str, Any]:
    """A document as its run left it. Raises DataError naming the file, also where it was edited."""
    where, fix = files.short(path(name)), f"Run `nox -s {name}`."
    content = seals.read_json(path(name), fix)
    try:
        sound = isinstance(content, dict) and content == files.seal(content, SEAL)
    except UnicodeEncodeError:  # half a character: no text that we wrote
        sound = False
    if not sound:
        raise DataError(f"{where}: was edited by hand. Restore it. {fix}")
    return dict(content)


def under_seeds(study: str) -> dict[str, dict[str, Any]]:
    """What became of a study's claims under seeds that nobody had looked at, by claim.

    Of those whose values moved and whose verdict is still that of the published record: `profile`,
    `told` in words, how many `units` met the whole rule alone, `varies` where a verdict differed.
    Nothing where `nox -s seeds` was not run for it. Raises DataError for an edited file.
    """
    found = load("seeds").get(study) if path("seeds").exists() else None
    if found is None:
        return {}
    from . import records  # which reads the ledgers

    changed = {row["claim"] for row in found["changed"]}
    now = {row["id"]: row["verdict"] for row in records.find(study, found["profile"])["claims"]}
    return {
        row["claim"]: {
            "profile": found["profile"],
            "told": row["under fresh seeds"],
            "units": row.get("units", ""),
            "varies": row["claim"] in changed,
        }
        for row in found["rows"]
        if row["moved"] and row["verdict"] == now.get(row["claim"])
    }


def measured(text: str, where: str = "the page") -> str:
    """A page without what is about parts that were never run; its list names each, once.

    Raises ClaimError for a page that would leave something out without a word.
    """
    missing: dict[str, list[str]] = {}

    def section(match: re.Match[str]) -> str:
        name, part = match["name"], match["part"]
        if path(name).exists() and part in (found := load(name)):
            return match["text"] + _origin(found[part])
        title = _TITLE.search(match["text"])
        missing.setdefault(name, []).append(title[1] if title else part.replace("_", " "))
        return ""

    text = _SECTION.sub(section, text)
    if missing and not _NOT_RUN.search(text):
        named = ", ".join(f"{name} {each}" for name, parts in missing.items() for each in parts)
        raise ClaimError(
            message(where, f"no {NOT_RUN}", "one, for the list of " + named, "Add it.")
        )
    lines = [f"- {', '.join(parts)}: `python3 -m nox -s {name}`" for name, parts in missing.items()]

    def listed(match: re.Match[str]) -> str:
        if not lines:
            return "" if match[1] else "Nothing: every part was run."
        return "\n".join([*([match[1], ""] if match[1] else []), *lines])

    return _NOT_RUN.sub(listed, text)


def _origin(part: Any) -> str:
    """Which command, day and code made a part, as the last line of its section."""
    if not isinstance(part, dict) or "provenance" not in part:
        return ""
    origin = part["provenance"]
    commit, changed = str(origin["commit"])[:9], str(origin["commit"]).endswith("+")
    told = f"`{origin['command']}`, {origin['date']}, at commit {commit}"
    return f"\n*{told}{' with changes' if changed else ''}*\n"


NOT_RUN = "<!-- trust: not run -->"
_NOT_RUN = re.compile(r"<!-- trust: not run(?:: (.+?))? -->")  # a head, shown above a list alone
_TITLE = re.compile(r"\*\*(.+?)\.\*\*")  # **Flipped bits.** at the head of a section
_SECTION = re.compile(
    r"<!-- trust\.(?P<name>\w+) (?P<part>\w+) -->(?P<text>.*?)<!-- end -->", re.DOTALL
)


def quoted(id: str, label: str | None, form: str, where: str) -> str:
    """The text of a quote. Raises ClaimError naming the page for what no run has measured."""
    name = id.removeprefix(PREFIX)
    value: Any = load(name)
    for step in (label or "").split("."):
        if not isinstance(value, dict) or step not in value:
            known = ", ".join(value) if isinstance(value, dict) else "nothing below it"
            raise ClaimError(message(f"{where}: {id}", label, known, "Run it, or quote another."))
        value = value[step]
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    if form == "list" and isinstance(value, list):
        return "\n".join(f"- {_cell(each)}" for each in value) or "- none"
    if form == "table" and isinstance(value, list):
        return _table(value)
    if form == "%" and plain and not isinstance(value, str):
        return f"{number(float(f'{100 * value:.3g}'))} %"
    if form or not plain:
        allowed = "nothing for a number or text, % for a share, list or table for a list"
        raise ClaimError(message(f"{where}: {id} {label}: form", form, allowed, "Take one."))
    return str(escape(value)) if isinstance(value, str) else number(value)


def _cell(value: Any) -> str:
    """Any value as text that stays in its cell: no markup, no line breaks."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]|{}$":
        text = text.replace(sign, f"&#{ord(sign)};")
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "none"
    names = list(rows[0])
    lines = [names, ["---"] * len(names)]
    lines += [[_cell(row.get(name, "")) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
