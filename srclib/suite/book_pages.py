"""The generated parts of the book: data in, Markdown out, as pages/book.jinja lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from . import verdicts
from .params import Spec
from .templates import macros
from .verdicts import Record


def study_page(notebook: NotebookNode, record: Record, larger: Sequence[Record]) -> NotebookNode:
    """The executed notebook with its origin below the title and larger runs after its verdicts.

    notebook: gated, changed in place and returned. record: its result. larger: published
    records of the same study at other profiles.
    """
    # The code cell that shows the result; the gate has seen exactly one.
    index, outputs = next(
        (index, cell.outputs)
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if "claims" in output.get("data", {}).get("application/json", {})
    )
    for output in outputs:
        data = output.get("data", {})
        if data.pop("application/json", None):  # Sphinx warns of it; the page links to it instead
            data["text/html"] = _anchored(data["text/html"], record)
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    counts = verdicts.summary(record)
    made = MACROS.made(record, _facts(record, seconds), counts)
    after = [MACROS.japanese(record), _beside([record, *larger]), *map(MACROS.larger, larger)]
    notebook.cells.insert(index + 1, new_markdown_cell("".join(after), id="suite-published"))
    notebook.cells.insert(1, new_markdown_cell(str(made), id="suite-made"))
    return notebook


def missing_page(spec: Spec, record: Record, larger: Sequence[Record]) -> str:
    """The page of a study without an executed notebook: how to run it, and what is published."""
    minutes = max(1, round(spec.profiles["laptop"].seconds / 60))
    page = MACROS.missing(spec, minutes, record)
    return "".join([page, MACROS.japanese(record), *map(MACROS.larger, larger)])


def overview(studies: Iterable[tuple[Spec, Sequence[Record]]]) -> str:
    """Verdict counts per study, profile and scale, and every claim with a link to its row."""
    studies = list(studies)
    counts = [
        (spec, record["profile"], scale, count)
        for spec, records in studies
        for record in records
        for scale, count in verdicts.summary(record).items()
    ]
    lists = [
        (spec, [r["profile"] for r in records], _aligned(records)) for spec, records in studies
    ]
    return str(MACROS.overview(counts, verdicts.VERDICTS, lists))


def _aligned(records: Sequence[Record]) -> list[tuple[Record, list[Record]]]:
    """Each claim of the first record with its row in every record; {} where it has none."""
    found = [{row["id"]: row for row in record["claims"]} for record in records]
    return [(row, [rows.get(row["id"], {}) for rows in found]) for row in records[0]["claims"]]


def _facts(record: Record, seconds: float | None) -> list[str]:
    source, units = record["provenance"], {"cpus": "CPUs", "threads": "threads"}
    return [
        f"profile `{record['profile']}`",
        *([] if seconds is None else [f"{seconds:.0f} s"]),
        *(f"{source[key]} {unit}" for key, unit in units.items() if source.get(key)),
        source.get("platform", "unknown platform"),
        f"Python {source.get('python', 'unknown')}",
        *(f"{name} {version}" for name, version in source.get("versions", {}).items()),
    ]


def _when(record: Record) -> str:
    """`on 2026-11-21, commit 1a2b3c4d5e6f`, with a word on changes that were not committed."""
    source = record["provenance"]
    day = str(source.get("date", "an unknown day")).partition("T")[0]
    commit = str(source.get("commit") or "none")[:12]
    changed = " with uncommitted changes" if source.get("dirty") else ""
    return f"on {day}, commit {commit}{changed}"


def _beside(records: Sequence[Record]) -> str:
    """What this page and the published larger runs measured, side by side."""
    rows = [(row, runs) for row, runs in _aligned(records) if any(r.get("n_seeds") for r in runs)]
    profiles = [record["profile"] for record in records]
    return MACROS.beside(profiles, rows) if len(records) > 1 else ""


def _anchored(table: str, record: Record) -> str:
    """The verdict table with an id on each claim, for the links of the overview."""
    for id in (Markup.escape(row["id"]) for row in record["claims"]):
        table = table.replace(f"<code>{id}</code>", f'<code id="{id}">{id}</code>', 1)
    return table


MACROS = macros(
    "book.jinja",
    anchored=lambda record: Markup(_anchored(verdicts.verdict_table(record), record)),
    measured_html=lambda row: Markup(verdicts.measured_html(row)),
    verdict_html=lambda verdict: Markup(verdicts.verdict_html(verdict)),
    verdict_table=lambda record, lang: Markup(verdicts.verdict_table(record, lang)),
    when=_when,
)
