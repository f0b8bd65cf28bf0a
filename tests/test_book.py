"""The book: built once for real from a toy checkout, and the walker that inspects it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import html_walk
import nbformat
import pytest
from conftest import ROOT, Run

from srclib import files
from srclib.errors import NotebookError
from srclib.suite import book, book_pages, records, verdicts

TOC = """
format: jb-book
root: index
chapters:
  - file: how-to-read
  - file: toy
  - file: methods
  - file: references
  - file: changelog
"""


def add_book(root: Path) -> None:
    """Give a toy checkout the pages of this book, with the toy study in its contents."""
    ignored = shutil.ignore_patterns("_build", "_executed", ".*")
    shutil.copytree(ROOT / "book", root / "book", ignore=ignored, dirs_exist_ok=True)
    shutil.copy(ROOT / "CHANGELOG.md", root)
    (root / "book" / "_toc.yml").write_text(TOC, encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(toy_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy checkout with a book and a published `full` record."""
    root = tmp_path_factory.mktemp("book") / toy_ran.name
    shutil.copytree(toy_ran, root)
    add_book(root)
    local = json.loads((root / "build/toy/laptop/result.json").read_text("utf-8"))
    full = records.seal({**local, "profile": "full"})
    (root / "data" / "results").mkdir()
    (root / "data" / "results" / "toy.full.json").write_text(files.pretty(full), "utf-8")
    return root


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """The HTML folder of the toy checkout's book."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "root", lambda: checkout)
        index = book.build()
    assert index == checkout / "book" / "_build" / "html" / "index.html"
    return index.parent


@pytest.fixture
def staged(toy_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy checkout with a book, in place of this checkout; nothing is rendered."""
    add_book(toy_checkout)
    monkeypatch.setattr(files, "root", lambda: toy_checkout)
    monkeypatch.setattr(book, "_render", lambda source, folder: None)
    return toy_checkout


def test_the_built_book_passes_the_walk(built: Path) -> None:
    assert html_walk.walk(built) == []


def test_a_study_page_holds_verdicts_origin_and_larger_runs(built: Path) -> None:
    page = (built / "toy.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    assert "python -m srclib run toy --profile laptop" in text
    assert "Published at larger scale: profile full" in text
    assert page.count('<table class="verdicts" lang="en">') == 2
    assert 'id="toy.mean"' in page
    assert "numbers: list = None" in text.replace("\xa0", " "), "parameters must be visible"
    assert 'profile = "laptop"' in text.replace("&quot;", '"'), "injected ones too"


def test_the_overview_links_every_claim_and_keeps_scales_apart(built: Path) -> None:
    page = (built / "index.html").read_text("utf-8")
    for id in ("toy.mean", "toy.named"):
        assert f'href="toy.html#{id}"' in page
    rows = re.findall(r"<tr><td><a href=\"toy.html\">.*?</tr>", page)
    cells = [re.findall(r"<td>([^<]*)</td>", row) for row in rows]
    reduced, named = ["reduced", "1", "0", "0", "0"], ["paper", "0", "0", "0", "1"]
    assert cells == [[p, *row] for p in ("laptop", "full") for row in (reduced, named)]


def test_runs_stand_side_by_side_where_they_have_a_claim(checkout: Path) -> None:
    laptop = json.loads((checkout / "build/toy/laptop/result.json").read_text("utf-8"))
    first = {**laptop["claims"][0], "says": "a < b & `c`", "n_seeds": 3}
    full = {**laptop, "profile": "full", "claims": laptop["claims"][1:]}
    text = book_pages._beside([{**laptop, "claims": [first]}, full])
    assert "a &lt; b &amp; `c`" in text and text.count("<tr>") == 2
    assert text.count("<td></td>") == 1, "the full run lacks the claim"
    assert book_pages._beside([laptop]) == ""


def test_pages_need_no_network(built: Path) -> None:
    page = (built / "methods.html").read_text("utf-8")
    assert 'src="_static/mathjax/tex-svg.js' in page
    assert (built / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 2_000_000
    assert "class SAE" in re.sub(r"<[^>]+>", "", page), "code is quoted beside the formulas"


def test_downloads_are_the_sources(built: Path, checkout: Path) -> None:
    source = checkout / "notebooks" / "toy.ipynb"
    assert (built / "_static/notebooks/toy.ipynb").read_bytes() == source.read_bytes()
    record = json.loads((built / "_static/results/toy.laptop.json").read_text("utf-8"))
    local = json.loads((checkout / "build/toy/laptop/result.json").read_text("utf-8"))
    assert record["claims"] == local["claims"]


def test_an_edited_stylesheet_arrives(
    built: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sphinx leaves static files that stand in its folder already."""
    monkeypatch.setattr(files, "root", lambda: checkout)
    style = checkout / "book" / "_static" / "custom.css"
    style.write_text(style.read_text("utf-8") + "\n/* new */\n", "utf-8")
    book.build()
    assert (built / "_static" / "custom.css").read_text("utf-8") == style.read_text("utf-8")


def test_wide_figures_keep_their_proportions() -> None:
    """Pages give figures a width and a height inline, which only !important overrides."""
    style = (ROOT / "book" / "_static" / "custom.css").read_text("utf-8")
    assert re.search(r"figure img \{\s*height: auto !important;\s*max-width: 100%;", style)


def test_a_warning_fails_the_build_each_time_and_keeps_the_last_book(
    built: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "root", lambda: checkout)
    before = (built / "how-to-read.html").read_bytes()
    page = checkout / "book" / "how-to-read.md"
    text = page.read_text("utf-8")
    page.write_text(text + "\n[nowhere](no-such-page.md)\n", "utf-8")
    for _ in range(2):  # an incremental build would forget the warning
        with pytest.raises(NotebookError, match=r"how-to-read\.md.*no-such-page"):
            book.build()
    assert (built / "how-to-read.html").read_bytes() == before
    page.write_text(text, "utf-8")


def test_staging_twice_writes_nothing(staged: Path) -> None:
    book.build()
    source = staged / "book" / "_build" / "source"
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.is_file()}
    assert {"index.md", "overview.md", "toy.ipynb"} <= {path.name for path in before}
    book.build()
    assert before == {p: p.stat().st_mtime_ns for p in source.rglob("*") if p.is_file()}


def test_the_executed_notebook_itself_is_not_touched(staged: Path) -> None:
    executed = staged / "book" / "_executed" / "toy.ipynb"
    before = executed.read_bytes()
    book.build()
    assert executed.read_bytes() == before
    page = nbformat.read(staged / "book/_build/source/toy.ipynb", as_version=4)
    nbformat.validate(page)
    assert len(page.cells) == len(nbformat.read(executed, as_version=4).cells) + 2


def test_a_study_that_was_not_run_says_how(staged: Path) -> None:
    book.build()
    (staged / "book" / "_executed" / "toy.ipynb").unlink()
    shutil.rmtree(staged / "build")
    book.build()
    source = staged / "book" / "_build" / "source"
    assert not (source / "toy.ipynb").exists()
    page = (source / "toy.md").read_text("utf-8")
    assert "python -m srclib run toy" in page
    assert page.count("verdict-not-assessed") == 4  # two claims, two languages
    assert "never run" in page


def test_a_stale_notebook_is_refused(staged: Path) -> None:
    module = staged / "srclib" / "suite" / "labels.py"
    module.write_text(module.read_text("utf-8") + "\nEDITED = 1\n", "utf-8")
    with pytest.raises(NotebookError, match=r"toy\.ipynb is stale: srclib\.suite\.labels changed"):
        book.build()


def test_a_notebook_edited_after_the_gate_is_refused(staged: Path) -> None:
    executed = staged / "book" / "_executed" / "toy.ipynb"
    text = executed.read_text("utf-8")
    executed.write_text(text.replace("The mean is near two", "The mean is exactly two"), "utf-8")
    with pytest.raises(NotebookError, match="changed after it passed the gate"):
        book.build()


def test_a_study_missing_in_the_contents_is_named(toy_checkout: Path, srclib: Run) -> None:
    add_book(toy_checkout)
    contents = toy_checkout / "book" / "_toc.yml"
    contents.write_text(TOC.replace("  - file: toy\n", ""), "utf-8")
    done = srclib(toy_checkout, "book")
    assert done.returncode == 1
    assert "add `- file: toy`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, as the accessibility guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_verdicts_can_be_read_in_light_and_dark() -> None:
    style = (ROOT / "book" / "_static" / "custom.css").read_text("utf-8")
    rule = r"\.verdict-([a-z-]+) \{ color: (#\w{6}); background: (#\w{6}); \}"
    chips = re.findall(rule, style)
    wanted = [verdict.replace(" ", "-") for verdict in verdicts.VERDICTS]
    assert [name for name, _, _ in chips] == wanted * 2, "one rule per verdict and theme"
    for name, colour, background in chips:
        dark, light = sorted((luminance(colour), luminance(background)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


HEAD = "<html lang='en'><body><h1 id='top'>T</h1>"
STUDY = (
    "<p>python -m srclib run toy</p><table><tr><th>Claim</th><th>Verdict</th></tr><tr><td>"
    "<span class='verdict verdict-partly'>◐ partly</span></td></tr></table>"
)


def write_site(folder: Path, index: str = "", study: str = STUDY) -> list[str]:
    """A two-page book; returns what the walk finds in it."""
    (folder / "_static" / "results").mkdir(parents=True)
    (folder / "_static" / "results" / "toy.laptop.json").write_text("{}")
    (folder / "_static" / "a b.png").write_text("")
    (folder / "index.html").write_text(HEAD + index, "utf-8")
    (folder / "toy.html").write_text(HEAD + study, "utf-8")
    return html_walk.walk(folder)


@pytest.mark.parametrize(
    "good",
    [
        "<a href='toy.html#top'>x</a><a href='#top'>x</a><a href='toy.html?q=1'>x</a>",
        "<a href='https://arxiv.org/abs/2508.16560#S1'>x</a><a href='mailto:a@b.c'>x</a>",
        "<img alt='a line' src='_static/a%20b.png'/><img alt='dot' src='data:image/png;base64,AA'>",
    ],
)
def test_the_walk_accepts_what_is_right(tmp_path: Path, good: str) -> None:
    assert write_site(tmp_path, good) == []


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("<a href='nope.html'>x</a>", "no such file"),
        ("<a href='toy.html#nope'>x</a>", "no such place"),
        ("<a href='#nope'>x</a>", "no such place"),
        ("<img src='_static/a%20b.png'>", "image without alt"),
        ("<img alt=' ' src='_static/a%20b.png'>", "image without alt"),
        ("<img alt='_static/a%20b.png' src='_static/a%20b.png'>", "image without alt"),
        ("<img alt='x' src='_static/nope.png'>", "no such file"),
        ("<script src='https://cdn.example/x.js'></script>", "must be a file of this book"),
        ("<script src='//cdn.example/x.js'></script>", "must be a file of this book"),
        ("<link rel='stylesheet' href='http://fonts.example/x.css'>", "must be a file"),
        ("<a href='file:///etc/hostname'>x</a>", "must be a file of this book"),
        ("<h2 id='top'>again</h2>", "occurs twice"),
        ("<section><div></section></div>", "tags must nest"),
    ],
)
def test_the_walk_finds_a_planted_fault(tmp_path: Path, fault: str, named: str) -> None:
    (problem,) = write_site(tmp_path, fault)
    assert problem.startswith("index.html:")
    assert named in problem


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("<th>Verdict</th>", "", 'column "Verdict"'),
        ("◐ partly", "◐ mostly", "unknown verdict 'mostly'"),
        ("srclib run toy", "srclib run l0", "the command"),
    ],
)
def test_the_walk_holds_study_pages_to_their_form(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    (problem,) = write_site(tmp_path, study=STUDY.replace(old, new))
    assert problem.startswith("toy.html:")
    assert named in problem


def test_the_walk_finds_styles_that_fetch(tmp_path: Path) -> None:
    write_site(tmp_path)
    (tmp_path / "_static" / "x.css").write_text("p {background: url('https://cdn.example/x.png')}")
    (problem,) = html_walk.walk(tmp_path)
    assert "https://cdn.example/x.png" in problem


def test_an_empty_folder_is_no_book(tmp_path: Path) -> None:
    assert any("no page at all" in problem for problem in html_walk.walk(tmp_path))
