"""The book: stage pages and gated notebooks, render them with warnings as errors.

book/ + book/_executed/ --stage--> book/_build/source --Sphinx--> book/_build/html

Papermill is the only executor; Sphinx renders what has passed the gate. Staging writes only
what changed, so that Sphinx stays incremental, and the finished pages take the place of the
old ones only when everything succeeded.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml

from .. import files
from ..errors import NotebookError
from ..files import short
from . import book_pages, gate, params, records, verify
from .params import Spec

Record = dict[str, Any]


def build() -> Path:
    """Build the book from the gated notebooks; prints and returns the path of `index.html`.

    A study that was not run gets a short page that says how to run it. Raises NotebookError
    for a notebook that is stale or was changed after the gate, for a study that is missing in
    the table of contents, and for any warning of Sphinx; the last good book then stays.
    """
    folder = files.root() / "book" / "_build"
    with files.lock(folder / ".lock", "the book"):
        _render(_stage(folder / "source"), folder)
    index = folder / "html" / "index.html"
    print(f"book: {short(index)}")
    return index


def _stage(folder: Path) -> Path:
    """Bring `folder` to what Sphinx shall read. Files that are right already stay untouched."""
    wanted = {**_pages(), **_generated()}
    for name, content in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            files.write_atomic(path, content)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
            # Sphinx would keep the rendered page of a source that is gone: it starts anew.
            shutil.rmtree(folder.parent / "_build", ignore_errors=True)
    return folder


def _pages() -> dict[str, bytes]:
    """The files of book/ as they are."""
    book = files.root() / "book"
    return {
        path.relative_to(book).as_posix(): path.read_bytes()
        for path in book.rglob("*")
        if path.is_file() and path.relative_to(book).parts[0] not in ("_build", "_executed")
    }


def _generated() -> dict[str, bytes]:
    """Study pages, downloads and the overview."""
    specs = [params.load_spec(study) for study in params.studies()]
    _check_contents(specs)
    _check_fresh()
    made: dict[str, bytes] = {}
    shown: list[tuple[Spec, list[Record]]] = []
    for spec in specs:
        name, page, record, larger = _study(spec)
        made[name] = page.encode()
        shown.append((spec, [record, *larger]))
        for each in (record, *larger):
            path = f"_static/results/{spec.study}.{each['profile']}.json"
            made[path] = files.pretty(each).encode()
        source = files.root() / "notebooks" / f"{spec.study}.ipynb"
        if source.is_file():
            made[f"_static/notebooks/{spec.study}.ipynb"] = source.read_bytes()
    made["overview.md"] = book_pages.overview(shown).encode()
    return made


def _study(spec: Spec) -> tuple[str, str, Record, list[Record]]:
    """A study's page: file name, content, its record, published records of other sizes."""
    larger = list(_published(spec, ("full", "paper")))
    executed = files.root() / verify.EXECUTED / f"{spec.study}.ipynb"
    if not executed.is_file():
        record = records.find(spec.study, "laptop")
        return f"{spec.study}.md", book_pages.missing_page(spec, record, larger), record, larger
    notebook = nbformat.read(executed, as_version=4)
    record = gate.gate(notebook, files.root())
    larger = [each for each in larger if each["profile"] != record["profile"]]
    page = book_pages.study_page(notebook, record, larger)
    return f"{spec.study}.ipynb", nbformat.writes(page), record, larger


def _published(spec: Spec, profiles: tuple[str, ...]) -> Iterator[Record]:
    for profile in profiles:
        path = records.published_path(spec.study, profile)
        if path.is_file():
            yield records.load(path)


def _check_contents(specs: list[Spec]) -> None:
    text = (files.root() / "book" / "_toc.yml").read_text(encoding="utf-8")
    named = set(_files(yaml.safe_load(text)))
    for spec in specs:
        if spec.study not in named:
            raise NotebookError(
                f"book/_toc.yml: no line for the study {spec.study!r}. Every study has a page: "
                f"add `- file: {spec.study}` under Studies."
            )


def _files(contents: Any) -> Iterator[str]:
    """Every `file:` of a table of contents, however deep."""
    if isinstance(contents, dict):
        if "file" in contents:
            yield contents["file"]
        for value in contents.values():
            yield from _files(value)
    elif isinstance(contents, list):
        for value in contents:
            yield from _files(value)


def _check_fresh() -> None:
    """Refuse executed notebooks that the code, or somebody's hand, has left behind."""
    for finding in verify.verify():
        if finding.failed and finding.where.startswith(verify.EXECUTED.as_posix()):
            raise NotebookError(f"{finding.where} {finding.what}, then build the book again.")


def _render(source: Path, folder: Path) -> None:
    """Sphinx works in folder/_build; folder/html is replaced when it succeeded."""
    work = folder / "_build"
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build"]
    command += ["-W", "-n", "--keep-going", "--path-output", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        # Sphinx reports a page's warning only when it reads the page: a second, incremental
        # build of the same fault would succeed. So it starts from nothing next time.
        shutil.rmtree(work, ignore_errors=True)
        raise NotebookError(f"the book did not build. {_warnings(done.stderr + done.stdout)}")
    with files.folder_atomic(folder / "html") as fresh:
        shutil.copytree(work / "html", fresh, dirs_exist_ok=True)
        # Sphinx copies no static file while all pages are up to date, however it was edited.
        shutil.copytree(source / "_static", fresh / "_static", dirs_exist_ok=True)


def _warnings(output: str) -> str:
    """The last few warnings, which name file and line; without any, the last lines."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)  # Sphinx colours its lines even in a pipe
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    faults = [line for line in lines if re.search(r"WARNING|ERROR|Error", line)]
    return "Mend these and build again:\n" + "\n".join((faults or lines)[-8:])
