"""The examples on the pages do what stands beside them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from srclib.errors import NotebookError
from srclib.suite import book_pages, front, params, records


@pytest.mark.parametrize("page", ["book/metrics.md", "book/what-is-an-sae.md"])
def test_the_blocks_of_a_page_print_what_they_say(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    code = "\n".join(blocks)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {})
    expected = re.findall(r"#> (.*)", code)
    assert blocks and printed.getvalue().splitlines()[: len(expected)] == expected


PUBLISHED = sorted(ROOT.glob("data/results/*.json"))


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_figure_finds_what_the_record_of_its_run_bears(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    notebook = json.loads((ROOT / "notebooks" / f"{record['study']}.ipynb").read_text("utf-8"))
    words = [c["metadata"]["mystnb"] for c in notebook["cells"] if "mystnb" in c["metadata"]]
    for each in words:
        front.title(each, record)
        assert "{{" not in each["image"]["alt"], each["figure"]["name"]
    findings = [each["figure"]["caption"].split("** ")[0] for each in words]
    assert len(set(findings)) == len(findings)


def test_the_readmes_show_the_published_verdicts() -> None:
    specs = {study: params.load_spec(study) for study in params.studies()}
    known = {study: front.leading(study) for study in specs}
    for name, language in (("README.md", "en"), ("README.ja.md", "ja")):
        text = (ROOT / name).read_text("utf-8")
        for line in book_pages.readme(specs, known, language).splitlines():
            assert line in text, f"{name} is behind: run `python -m srclib book --readme`"


def test_a_notebook_opens_elsewhere_once_the_repository_has_an_address() -> None:
    assert book_pages.launch("", "l0") == []
    for address in ("https://github.com/owner/book", "https://github.com/owner/book.git/"):
        assert dict(book_pages.launch(address, "l0")) == {
            "Binder": "https://mybinder.org/v2/gh/owner/book/HEAD?labpath=notebooks/l0.ipynb",
            "Colab": "https://colab.research.google.com/github/owner/book/blob/HEAD/notebooks/l0.ipynb",
        }
    with pytest.raises(NotebookError, match="repository-code"):
        book_pages.launch("ssh://elsewhere/book", "l0")


def test_links_to_launch_stand_in_the_box_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    record = records.load(records.published_path("matrix", "laptop"))
    assert "Binder" not in book_pages.MACROS.made(record, [])
    monkeypatch.setattr(book_pages, "_repository", lambda: "https://github.com/owner/book")
    made = book_pages.MACROS.made(record, [])
    assert "[Binder](https://mybinder.org" in made and "git+https://github.com/owner/book" in made
