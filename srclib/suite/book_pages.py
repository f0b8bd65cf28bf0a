"""The generated parts of the book, as text: data in, Markdown out, no file touched.

Three things are generated: the box and the larger-scale tables on a study page, the page of a
study that was not run here, and the overview on the landing page. Tables come as raw HTML,
because a claim's wording may hold any character that Markdown would interpret.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from . import verdicts
from .params import Spec

Record = dict[str, Any]


def study_page(notebook: NotebookNode, record: Record, larger: Sequence[Record]) -> NotebookNode:
    """The executed notebook with its origin below the title and larger runs after its verdicts.

    notebook: gated, changed in place and returned. record: its result. larger: published
    records of the same study at other profiles.
    """
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    index = _verdict_cell(notebook)
    for output in notebook.cells[index].outputs:
        data = output.get("data", {})
        if data.pop("application/json", None):  # Sphinx warns of it; the page links to it instead
            data["text/html"] = _anchored(data["text/html"], record)
    after = _japanese(record) + _beside([record, *larger]) + "".join(map(_larger, larger))
    notebook.cells.insert(index + 1, new_markdown_cell(after, id="suite-published"))
    notebook.cells.insert(1, new_markdown_cell(_origin(record, seconds), id="suite-made"))
    return notebook


def missing_page(spec: Spec, record: Record, larger: Sequence[Record]) -> str:
    """The page of a study without an executed notebook: how to run it, and what is published."""
    minutes = max(1, round(spec.profiles["laptop"].seconds / 60))
    table = _anchored(verdicts.verdict_table(record), record)
    return (
        f"# {spec.title}\n\n{spec.title_ja}\n\n{spec.paper}\n\n"
        "This notebook was not run in this checkout. To run it "
        f"(about {minutes} min) and build the book again:\n\n"
        f"```bash\npython -m srclib run {spec.study}\npython -m srclib book\n```\n\n"
        f"## Verdicts\n\n{_scrolling(table)}{_japanese(record)}" + "".join(map(_larger, larger))
    )


def overview(studies: Iterable[tuple[Spec, Sequence[Record]]]) -> str:
    """Verdict counts per study, profile and scale, and every claim with a link to its row."""
    studies = list(studies)
    counts = "\n".join(
        row for spec, records in studies for record in records for row in _counts(spec, record)
    )
    names = ("Study", "Profile", "Scale", *map(verdicts.verdict_html, verdicts.VERDICTS))
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = (
        f'<table class="overview">\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{counts}\n</tbody></table>"
    )
    lists = "\n".join(_all_claims(spec, records) for spec, records in studies)
    note = "Verdicts of different scales stand in rows of their own and are never added together."
    return _scrolling(table) + f"\n{note}\n\n" + _raw(lists)


def _origin(record: Record, seconds: float | None) -> str:
    study, profile, source = record["study"], record["profile"], record["provenance"]
    facts = [
        f"profile `{profile}`",
        *([] if seconds is None else [f"{seconds:.0f} s"]),
        *([f"{source['cpus']} CPUs"] if source.get("cpus") else []),
        *([f"{source['threads']} threads"] if source.get("threads") else []),
        source.get("platform", "unknown platform"),
        f"Python {source.get('python', 'unknown')}",
        *(f"{name} {version}" for name, version in source.get("versions", {}).items()),
    ]
    links = (
        (f"_static/notebooks/{study}.ipynb", "source notebook"),
        (f"_sources/{study}.ipynb", "this page as an executed notebook"),
        (f"_static/results/{study}.{profile}.json", "result as JSON"),
    )
    downloads = ", ".join(f'<a href="{path}" download>{name}</a>' for path, name in links)
    return (
        ":::{admonition} How this page was made\n:class: made\n\n"
        f"```bash\npython -m srclib run {study} --profile {profile}\n```\n\n"
        f"Computed {_when(record)}: {', '.join(facts)}.\n\n"
        f"{_tally(record)}\n\n"
        f"Download: {downloads}\n:::\n"
    )


def _tally(record: Record) -> str:
    """Verdicts of the page in one line per scale."""
    return "<br>".join(
        f"Verdicts at scale <code>{scale}</code>: "
        + " ".join(f"{verdicts.verdict_html(verdict)} {n}" for verdict, n in counts.items() if n)
        for scale, counts in verdicts.summary([record]).items()
    )


def _when(record: Record) -> str:
    """`on 2026-11-21, commit 1a2b3c4d5e6f`, with a word on changes that were not committed."""
    source = record["provenance"]
    day = str(source.get("date", "an unknown day")).partition("T")[0]
    commit = str(source.get("commit") or "none")[:12]
    changed = " with uncommitted changes" if source.get("dirty") else ""
    return f"on {day}, commit {commit}{changed}"


def _larger(record: Record) -> str:
    return (
        f"## Published at larger scale: profile `{record['profile']}`\n\n"
        f"Computed {_when(record)} with "
        f"`python -m srclib run {record['study']} --profile {record['profile']} --publish`. "
        "These verdicts stand beside those above and are not added to them.\n\n"
        + _scrolling(verdicts.verdict_table(record))
    )


def _beside(records: Sequence[Record]) -> str:
    """What this page and the published larger runs measured, claim by claim, side by side."""
    if len(records) == 1:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(r["profile"])}</th>' for r in records)
    found = [{row["id"]: row for row in record["claims"]} for record in records]
    body = ""
    for row in records[0]["claims"]:
        runs = [by_id.get(row["id"]) for by_id in found]
        if any(run and run["n_seeds"] for run in runs):
            what = f"{html.escape(row['says'])}<br><code>{html.escape(row['id'])}</code>"
            cells = [what, html.escape(row["paper_value"]), *map(_outcome, runs)]
            body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    return (
        "## Side by side\n\nThe runs of this study, claim by claim. The scale stands below each "
        "verdict; verdicts of different scales are never added together.\n\n"
        + _scrolling(
            '<table class="verdicts"><thead><tr><th scope="col">Claim</th>'
            f'<th scope="col">Paper</th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        )
    )


def _japanese(record: Record) -> str:
    table = f'<div class="table-scroll">{verdicts.verdict_table(record, "ja")}</div>'
    summary = '<summary lang="ja">日本語の判定表</summary>'
    return _raw(f"<details>{summary}\n{table}\n</details>")


def _scrolling(table: str) -> str:
    return _raw(f'<div class="table-scroll">{table}</div>')


def _counts(spec: Spec, record: Record) -> Iterable[str]:
    for scale, counts in verdicts.summary([record]).items():
        cells = (
            f'<a href="{spec.study}.html">{html.escape(spec.title.partition(":")[0])}</a>',
            *(html.escape(text) for text in (record["profile"], scale)),
            *(str(counts[verdict]) for verdict in verdicts.VERDICTS),
        )
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _all_claims(spec: Spec, records: Sequence[Record]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(r["profile"])}</th>' for r in records)
    rows = records[0]["claims"]
    found = [{row["id"]: row for row in record["claims"]} for record in records]
    body = "\n".join(
        f"<tr><td>{_claim(spec.study, row)}</td>"
        + "".join(f"<td>{_chip(by_id.get(row['id']))}</td>" for by_id in found)
        + "</tr>"
        for row in rows
    )
    return (
        f"<details><summary>{html.escape(spec.title)}: {len(rows)} claims</summary>\n"
        '<div class="table-scroll"><table class="overview">\n'
        f'<thead><tr><th scope="col">Claim</th>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div></details>"
    )


def _claim(study: str, row: Record) -> str:
    says, says_ja, id = (html.escape(row[key]) for key in ("says", "says_ja", "id"))
    link = f'<a href="{study}.html#{id}"><code>{id}</code></a>'
    return f'{says}<br><small lang="ja">{says_ja}</small><br>{link}'


def _outcome(row: Record | None) -> str:
    return "" if row is None else f"{_chip(row)}<br>{verdicts.measured_html(row)}"


def _chip(row: Record | None) -> str:
    return (
        ""
        if row is None
        else f"{verdicts.verdict_html(row['verdict'])}<br><small>{row['scale']}</small>"
    )


def _verdict_cell(notebook: NotebookNode) -> int:
    """The index of the code cell that shows the result; the gate has seen exactly one."""
    return next(
        index
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if "claims" in output.get("data", {}).get("application/json", {})
    )


def _anchored(table: str, record: Record) -> str:
    """The verdict table with an id on each claim, for the links of the overview."""
    for id in (html.escape(row["id"]) for row in record["claims"]):
        table = table.replace(f"<code>{id}</code>", f'<code id="{id}">{id}</code>', 1)
    return table


def _raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```\n\n"
