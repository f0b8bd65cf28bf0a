"""The generated parts of the book: data in, Markdown out, as pages/book.jinja lays it out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from ..errors import ClaimError, NotebookError, message
from ..store import files
from . import front, trust, verdicts
from .front import Front
from .params import Spec
from .templates import macros
from .verdicts import Record


def study_page(
    notebook: NotebookNode, record: Record, known: Mapping[str, Record], others: Sequence[Record]
) -> NotebookNode:
    """The executed notebook as an article: the finding below its title, all claims at its end.

    notebook: gated, changed in place and returned. record: its result. known: the leading record
    of every study; this one's bears the first screen. others: the study's other published ones.
    """
    # The code cell that shows the result; the gate has seen exactly one.
    index, outputs = next(
        (index, cell.outputs)
        for index, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if "claims" in output.get("data", {}).get("application/json", {})
    )
    outputs.clear()  # the list of claims says it, of all runs
    for cell in notebook.cells:
        kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
        if "figure" in cell.metadata.get("mystnb", {}) or any("image/" in kind for kind in kinds):
            words = cell.metadata.get("mystnb", {})
            said = front.title(words, record)
            if "hide-output" in cell.metadata.get("tags", []):  # what it finds stays in sight
                words |= dict.fromkeys(("code_prompt_show", "code_prompt_hide"), f"Figure: {said}")
                cell.metadata["tags"] = ["hide-output"]  # else its code wears the same words
    study, leading = record["study"], known[record["study"]]
    rest = [each for each in (record, *others) if each["profile"] != leading["profile"]]
    every = MACROS.claims(leading, rest)
    notebook.cells.insert(index + 1, new_markdown_cell(str(every), id="suite-claims"))
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    made = MACROS.made(record, _facts(record, seconds))
    first = _first_screen(study, known, made, record["profile"])
    title, _, text = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = title
    notebook.cells.insert(1, new_markdown_cell(first, id="suite-front"))
    notebook.cells.insert(2, new_markdown_cell(text.strip(), id="suite-text"))
    return notebook


def missing_page(spec: Spec, known: Mapping[str, Record], others: Sequence[Record]) -> str:
    """The page of a study without an executed notebook: what is published, and how to run it."""
    minutes = max(1, round(spec.profiles["laptop"].seconds / 60))
    leading = known[spec.study]
    rest = [each for each in others if each["profile"] != leading["profile"]]
    first = _first_screen(spec.study, known, MACROS.missing(spec, minutes))
    return f"# {spec.title}\n\n{first}\n{MACROS.claims(leading, rest)}"


def _first_screen(study: str, known: Mapping[str, Record], made: str, body: str = "") -> str:
    """Question, answer with its numbers, the picture that shows it, a mark for every claim.

    body: the profile that the rest of the page shows.
    """
    record, page = known[study], front.front(study, known[study])
    if page is None:
        return str(MACROS.bare(record, made))
    where = f"data/claims/{study}.toml: page"
    answers = {
        language: [front.told(text, known, where, study) for text in texts]
        for language, texts in (("en", page.answer), ("ja", page.answer_ja))
    }
    finding = front.told(page.finding, known, where, study)
    shown = next((row for row in record["claims"] if row["id"] == page.shows), None)
    if shown is None:
        raise ClaimError(
            message(f"{where}.shows", page.shows, "a claim of the record", "Name one.")
        )
    if page.labels:
        kept = {k: v for k, v in shown["measured"].items() if k.startswith(page.labels)}
        shown = {**shown, "measured": kept}
    return str(MACROS.front(record, page, answers, finding, shown, made, body))


def landing(specs: Mapping[str, Spec], known: Mapping[str, Record], language: str) -> str:
    """The picture of everything, and what was learned that the papers do not say."""
    learned = [
        front.told(text, known, f"data/claims/{study}.toml: page.learned")
        for study, page in _fronts(known)
        for text in (page.learned_ja if language == "ja" else page.learned)
    ]
    picture = [(specs[study], verdicts.strip(known[study], f"{study}.html")) for study in specs]
    return str(MACROS.landing(picture, learned, verdicts.VERDICTS, language))


def readme(specs: Mapping[str, Spec], known: Mapping[str, Record], language: str) -> str:
    """The picture of everything and the first finding of each study, for the top of a README."""
    rows = []
    for study, record in known.items():
        by_scale = {
            scale: "".join(
                verdicts.SYMBOLS[row["verdict"]]
                for row in record["claims"]
                if row["scale"] == scale and row.get("basis") != verdicts.CONSTRUCTED
            )
            for scale in verdicts.summary(record)
        }
        title = specs[study].title_ja if language == "ja" else specs[study].title
        marks = ", ".join(f"{scale} `{marks}`" for scale, marks in by_scale.items())
        rows.append(f"| {re.split('[:：]', title)[0]} | {marks} |")
    key = ", ".join(f"`{symbol}` {verdict}" for verdict, symbol in verdicts.SYMBOLS.items())
    found = [
        front.told(texts[0], known, study).striptags()
        for study, page in _fronts(known)
        if (texts := page.learned_ja if language == "ja" else page.learned)
    ]
    table = "\n".join(["| | " + key + " |", "|---|---|", *rows])
    table += README_SCALES[language]
    return "\n".join([table, "", *(f"- {text}" for text in found)])


def _fronts(known: Mapping[str, Record]) -> Iterator[tuple[str, Front]]:
    for study, record in known.items():
        if (page := front.front(study, record)) is not None:
            yield study, page


def launch(address: str, study: str) -> list[tuple[str, str]]:
    """Where a notebook opens without an installation: (name, link) of Binder and Colab.

    address: `repository-code` of CITATION.cff, the one place that names the repository; empty
    while it has no public address, and then there is no link. Both open the source notebook, whose
    profile is chosen in its first cell; Binder installs environment.yml, Colab its `%pip` line.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    if address and not found:
        fix = "Mend repository-code in CITATION.cff."
        raise NotebookError(message("repository", address, "https://github.com/OWNER/NAME", fix))
    if not found:
        return []
    path = f"notebooks/{study}.ipynb"
    return [
        ("Binder", f"https://mybinder.org/v2/gh/{found[1]}/HEAD?labpath={path}"),
        ("Colab", f"https://colab.research.google.com/github/{found[1]}/blob/HEAD/{path}"),
    ]


def _repository() -> str:
    file = files.root() / "CITATION.cff"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r"^repository-code: *\"?([^\s\"]+)", text, re.MULTILINE)
    return found[1] if found else ""


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


README_SCALES = {
    "en": "\n\nThe word before the marks says what our run was: `paper` (the paper's data and "
    "size), `reduced` (smaller), `stand-in` (another model or corpus).",
    "ja": "\n\n印の前の語は実行の規模：`paper`（論文と同じデータと大きさ）、`reduced`（縮小）、"
    "`stand-in`（別のモデルやコーパス）。",
}
MACROS = macros(
    "book.jinja",
    claim_list=lambda record, anchors: Markup(
        verdicts.claim_list(record, anchors, trust.under_seeds(record["study"]))
    ),
    plot=lambda row: Markup(verdicts.plot(row)),
    picture=verdicts.picture,
    strip=lambda record: verdicts.strip(record),
    verdict_html=lambda verdict: Markup(verdicts.verdict_html(verdict)),
    told=verdicts.told,
    when=_when,
    launch=lambda study: launch(_repository(), study),
    repository=lambda: _repository(),
)
