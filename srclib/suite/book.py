"""The book: stage pages and gated notebooks, render them with warnings as errors.

book/ + book/_executed/ --stage--> book/_build/source --Sphinx--> book/_build/html

Sphinx renders what has passed the gate, each time from nothing: an incremental build forgets
warnings and static files. The finished pages replace the old ones only if everything succeeded.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat

from ..errors import NotebookError
from ..store import files, locks
from ..store.files import short
from . import api, book_pages, children, data_tables, front, gate, params, records, speed, verify
from .params import Spec
from .verdicts import Record


def build() -> Path:
    """Build the book from the gated notebooks; prints and returns the path of `index.html`.

    A study that was not run gets a short page that says how to run it. Raises NotebookError
    for a notebook that is stale or was changed after the gate, for a study that is missing in
    the table of contents, and for any warning of Sphinx; the last good book then stays.
    """
    folder = files.root() / "book" / "_build"
    with locks.lock(folder / ".lock", "the book"):
        source = folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        ours = shutil.ignore_patterns("_build", "_executed")
        shutil.copytree(folder.parent, source, ignore=ours)
        specs, known = _studies()
        for path in source.glob("*.md"):  # the author's pages; generated ones hold foreign text
            text = path.read_text(encoding="utf-8")
            path.write_text(front.fill(text, known, f"book/{path.name}"), encoding="utf-8")
        for name, content in _generated(specs, known).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        _render(source, folder)
    index = folder / "html" / "index.html"
    print(f"book: {short(index)}")
    return index


def renew_readmes() -> None:
    """Write the picture of everything into both READMEs, between its two marks."""
    specs, known = _studies()
    for name, language in (("README.md", "en"), ("README.ja.md", "ja")):
        path = files.root() / name
        head, start, rest = path.read_text(encoding="utf-8").partition("<!-- picture -->")
        _, end, tail = rest.partition("<!-- end of picture -->")
        if not end:
            raise NotebookError(f"{name}: no place for the picture. Add its two marks.")
        picture = book_pages.readme(specs, known, language)
        files.write_atomic(path, f"{head}{start}\n{picture}\n{end}{tail}")


def _studies() -> tuple[dict[str, Spec], dict[str, Record]]:
    """Every study in the order of the contents, and the record that it is known by."""
    specs = {study: params.load_spec(study) for study in _contents()}
    data_tables.check()
    for study in specs:
        paths = (records.published_path(study, profile) for profile in front.LARGEST)
        for path in filter(Path.is_file, [*paths, records.local_path(study, "laptop")]):
            _refuse_unsound(path)
    return specs, {study: front.leading(study) for study in specs}


def _generated(specs: dict[str, Spec], known: dict[str, Record]) -> dict[str, bytes]:
    """Study pages, downloads and the landing pages."""
    made: dict[str, bytes] = {}
    for study, spec in specs.items():
        name, page, records_shown = _study(spec, known)
        made[name] = page.encode()
        for each in records_shown:
            path = f"_static/results/{study}.{each['profile']}.json"
            made[path] = files.pretty(each).encode()
        source = files.root() / "notebooks" / f"{study}.ipynb"
        if source.is_file():
            made[f"_static/notebooks/{study}.ipynb"] = source.read_bytes()
    made["api.md"] = api.page().encode()
    made["speed.md"] = speed.page().encode()
    for language in ("en", "ja"):
        made[f"landing-{language}.md"] = book_pages.landing(specs, known, language).encode()
    return made


def _study(spec: Spec, known: dict[str, Record]) -> tuple[str, str, list[Record]]:
    """A study's page: file name, content, its record and the published ones of other sizes."""
    paths = (records.published_path(spec.study, profile) for profile in front.LARGEST)
    published = [records.load(path) for path in paths if path.is_file()]
    executed = files.root() / verify.EXECUTED / f"{spec.study}.ipynb"
    if not executed.is_file():
        shown = published or [known[spec.study]]
        return f"{spec.study}.md", book_pages.missing_page(spec, known, shown), shown
    _refuse_unsound(executed, aged=True)
    notebook = nbformat.read(executed, as_version=4)
    record = gate.judged(gate.gate(notebook, files.root()))
    if not published:
        known = known | {spec.study: record}
    others = [each for each in published if each["profile"] != record["profile"]]
    page = nbformat.writes(book_pages.study_page(notebook, record, known, others))
    return f"{spec.study}.ipynb", page, [record, *others]


def _refuse_unsound(path: Path, aged: bool = False) -> None:
    """The gate of everything that a page shows. aged: what the code has left behind is refused."""
    for finding in verify.findings(path, aged=aged):
        if finding.failed:
            raise NotebookError(f"{finding.where} {finding.what}, then build the book again.")


def _contents() -> list[str]:
    """The studies in the order of the table of contents, where each must have a line."""
    text = (files.root() / "book" / "_toc.yml").read_text(encoding="utf-8")
    places = {
        study: re.search(rf"^[ -]*file: {study}$", text, re.MULTILINE) for study in params.studies()
    }
    for study, place in places.items():
        if place is None:
            raise NotebookError(
                f"book/_toc.yml: no line for the study {study!r}. Every study has a page: "
                f"add `- file: {study}` under Studies."
            )
    return sorted(places, key=lambda study: places[study].start())  # type: ignore[union-attr]


def _render(source: Path, folder: Path) -> None:
    """Sphinx works in folder/_build; folder/html is replaced when it succeeded."""
    shutil.rmtree(folder / "_build", ignore_errors=True)
    strictly = ["build", "-W", "-n", "--keep-going", "--path-output", str(folder), str(source)]
    done = children.run("jupyter_book.cli.main:main", strictly)
    if done.returncode:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout)  # it colours even a pipe
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        faults = [line for line in lines if re.search(r"WARNING|ERROR|Error", line)] or lines
        told = "\n".join(faults[-8:])
        raise NotebookError(f"the book did not build. Mend these and build again:\n{told}")
    _take(folder)


def _take(folder: Path) -> None:
    """The rendered pages take the place of the old ones."""
    with files.folder_atomic(folder / "html") as fresh:
        shutil.copytree(folder / "_build" / "html", fresh, dirs_exist_ok=True)
        for page in fresh.glob("*.html"):
            html = _NEEDLESS.sub("", page.read_text(encoding="utf-8"))
            page.write_text(html, encoding="utf-8")


# What the theme adds and no page needs: constants of live code, declared twice; fonts that a page
# opened by double click may not load (a script draws the icons); MathJax a second time.
_NEEDLESS = re.compile(
    r"<script>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe[^>]*></script>"
    r"|<link[^>]*(?:fontawesome|sphinx-thebe)[^>]*>|<script src=\"_static/mathjax/[^>]*></script>"
)
