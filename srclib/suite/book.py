"""The book: stage pages and gated notebooks, render them with warnings as errors.

book/ + book/_executed/ --stage--> book/_build/source --Sphinx--> book/_build/html

Sphinx renders what has passed the gate, each time from nothing: an incremental build forgets
warnings and static files. The finished pages replace the old ones only if everything succeeded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from .. import files
from ..errors import NotebookError
from ..files import short
from . import book_pages, gate, params, records, verify
from .params import Spec
from .verdicts import Record


def build() -> Path:
    """Build the book from the gated notebooks; prints and returns the path of `index.html`.

    A study that was not run gets a short page that says how to run it. Raises NotebookError
    for a notebook that is stale or was changed after the gate, for a study that is missing in
    the table of contents, and for any warning of Sphinx; the last good book then stays.
    """
    folder = files.root() / "book" / "_build"
    with files.lock(folder / ".lock", "the book"):
        source = folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        ours = shutil.ignore_patterns("_build", "_executed")
        shutil.copytree(folder.parent, source, ignore=ours)
        for name, content in _generated().items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        _render(source, folder)
    index = folder / "html" / "index.html"
    print(f"book: {short(index)}")
    return index


def _generated() -> dict[str, bytes]:
    """Study pages, downloads and the overview."""
    specs = [params.load_spec(study) for study in params.studies()]
    _check_contents(specs)
    made: dict[str, bytes] = {}
    shown: list[tuple[Spec, list[Record]]] = []
    for spec in specs:
        name, page, found = _study(spec)
        made[name] = page.encode()
        shown.append((spec, found))
        for each in found:
            path = f"_static/results/{spec.study}.{each['profile']}.json"
            made[path] = files.pretty(each).encode()
        source = files.root() / "notebooks" / f"{spec.study}.ipynb"
        if source.is_file():
            made[f"_static/notebooks/{spec.study}.ipynb"] = source.read_bytes()
    made["overview.md"] = book_pages.overview(shown).encode()
    return made


def _study(spec: Spec) -> tuple[str, str, list[Record]]:
    """A study's page: file name, content, its record and the published ones of other sizes."""
    paths = (records.published_path(spec.study, profile) for profile in ("full", "paper"))
    larger = [records.load(path) for path in paths if path.is_file()]
    executed = files.root() / verify.EXECUTED / f"{spec.study}.ipynb"
    if not executed.is_file():
        record = records.find(spec.study, "laptop")
        page = book_pages.missing_page(spec, record, larger)
        return f"{spec.study}.md", page, [record, *larger]
    for finding in verify.findings(executed):
        if finding.failed:  # the code, or somebody's hand, has left it behind
            raise NotebookError(f"{finding.where} {finding.what}, then build the book again.")
    notebook = nbformat.read(executed, as_version=4)
    record = gate.gate(notebook, files.root())
    larger = [each for each in larger if each["profile"] != record["profile"]]
    page = nbformat.writes(book_pages.study_page(notebook, record, larger))
    return f"{spec.study}.ipynb", page, [record, *larger]


def _check_contents(specs: list[Spec]) -> None:
    text = (files.root() / "book" / "_toc.yml").read_text(encoding="utf-8")
    for spec in specs:
        if not re.search(rf"^[ -]*file: {spec.study}$", text, re.MULTILINE):
            raise NotebookError(
                f"book/_toc.yml: no line for the study {spec.study!r}. Every study has a page: "
                f"add `- file: {spec.study}` under Studies."
            )


def _render(source: Path, folder: Path) -> None:
    """Sphinx works in folder/_build; folder/html is replaced when it succeeded."""
    shutil.rmtree(folder / "_build", ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build"]
    command += ["-W", "-n", "--keep-going", "--path-output", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout)  # it colours even a pipe
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        faults = [line for line in lines if re.search(r"WARNING|ERROR|Error", line)] or lines
        told = "\n".join(faults[-8:])
        raise NotebookError(f"the book did not build. Mend these and build again:\n{told}")
    with files.folder_atomic(folder / "html") as fresh:
        shutil.copytree(folder / "_build" / "html", fresh, dirs_exist_ok=True)
