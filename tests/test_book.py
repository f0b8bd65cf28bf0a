"""The book: built once for real from a toy checkout, and the walker that inspects it."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import html_walk
import nbformat
import pytest
from conftest import ROOT, Run

from srclib.errors import ClaimError, NotebookError
from srclib.store import files
from srclib.suite import book, book_pages, front, records, verdicts

TOC = """
format: jb-book
root: index
chapters:
  - file: ja
  - file: what-is-an-sae
  - file: how-to-read
  - file: together
  - file: trust
  - file: bench
  - file: toy
  - file: methods
  - file: metrics
  - file: glossary
  - file: api
  - file: references
  - file: changelog
"""


PAGE = """
[page]
question = "Is the mean what was put in?"
answer = ["It is {{toy.mean | range}}."]
question_ja = "平均は入力どおりか。"
answer_ja = ["{{toy.mean}} である。"]
shows = "toy.mean"
finding = "The mean is what was put in"
learned = ["The toy mean is {{toy.mean}}."]
learned_ja = ["The toy mean is {{toy.mean}}: 平均。"]

"""


def add_book(root: Path) -> None:
    """Give a toy checkout the pages of this book, with the toy study in its contents."""
    ignored = shutil.ignore_patterns("_build", "_executed", ".*")
    shutil.copytree(ROOT / "book", root / "book", ignore=ignored, dirs_exist_ok=True)
    shutil.copy(ROOT / "CHANGELOG.md", root)
    (root / "book" / "_toc.yml").write_text(TOC, encoding="utf-8")
    for page in ("together", "what-is-an-sae", "trust"):  # they tell of studies
        (root / "book" / f"{page}.md").write_text(f"# {page}\n", encoding="utf-8")
    for name in ("bench/targets.toml", "data/trust/bench.json"):  # the page of the benchmarks
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    claims = root / "data" / "claims" / "toy.toml"
    claims.write_text(PAGE + claims.read_text(encoding="utf-8"), encoding="utf-8")


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


def test_a_study_page_holds_the_finding_all_claims_and_its_origin(built: Path) -> None:
    page = (built / "toy.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    assert "python -m srclib run toy --profile laptop" in text
    assert "Judged at profile full" in text, "the largest published record leads"
    assert "The same claims at profile laptop" in text
    assert page.count('class="claims"') == 2
    assert page.count('id="toy.mean"') == 1, "links lead to the leading record"
    assert "Is the mean what was put in?" in text
    assert '<a class="quoted" href="#toy.mean">' in page
    assert page.index("Is the mean") < page.index("python -m srclib run toy")
    assert "numbers: list = None" in text.replace("\xa0", " "), "parameters must be visible"
    assert 'profile = "laptop"' in text.replace("&quot;", '"'), "injected ones too"


def test_the_landing_page_has_a_mark_for_every_claim(built: Path, checkout: Path) -> None:
    record = json.loads((checkout / "data/results/toy.full.json").read_text("utf-8"))
    for name in ("index.html", "ja.html"):
        page = (built / name).read_text("utf-8")
        marks = re.findall(r'<a class="mark [^>]*href="toy.html#([\w.]+)"', page)
        assert sorted(marks) == sorted(row["id"] for row in record["claims"])
        assert "mark mark-replicated" in page and "mark mark-not-assessed" in page
        assert "The toy mean is" in page, "what was learned"


def test_a_page_raises_no_error_in_a_browser(built: Path) -> None:
    for path in built.glob("*.html"):
        page = path.read_text("utf-8")
        assert "THEBE" not in page and "fontawesome/6.5.2/webfonts" not in page
        assert page.count("mathjax/tex-svg.js") <= 1


@pytest.mark.parametrize(
    ("sentence", "named"),
    [
        ("It is 3.2 wide.", "'3.2': allowed is no number outside of braces"),
        ("It is {{toy.meen}}.", "'toy.meen': allowed is a claim of a record"),
        ("It is {{toy.mean width}}.", "'width': allowed is one of value"),
        ("It is {{toy.mean | percent}}.", "'percent': allowed is %, range, paper, verdict"),
        ("It is {{toy.mean.", "allowed is {{claim label | form}}"),
        ("It is {{toy.named}}.", "allowed is one of none"),
    ],
)
def test_a_sentence_cannot_say_what_was_not_measured(
    checkout: Path, sentence: str, named: str
) -> None:
    record = json.loads((checkout / "data/results/toy.full.json").read_text("utf-8"))
    with pytest.raises(ClaimError, match=re.escape(named)):
        front.told(sentence, {"toy": record}, "here")


def test_a_sentence_is_filled_from_the_record(checkout: Path) -> None:
    record = json.loads((checkout / "data/results/toy.full.json").read_text("utf-8"))
    row = record["claims"][0]
    row |= {"measured": {"a < b": 0.4567, "c": 2}, "interval": {"a < b": [0.1, 0.9], "c": [2, 2]}}
    row["values"] = {"a < b": [0.4567], "c": [2]}
    told = front.told(
        "*Of* <b> {{toy.mean a < b | %}}, {{toy.mean a < b | range}}, {{toy.mean c}}, "
        "{{toy.mean | verdict}}, L0 and GPT-2.", {"toy": record}, "here", "toy",
    )  # fmt: skip
    text = re.sub(r"</?a[^>]*>", "", told)
    assert text == ("<em>Of</em> &lt;b&gt; 46 %, 0.4567 [0.1, 0.9], 2, replicated, L0 and GPT-2.")


def figure_words(caption: str) -> dict[str, dict[str, str]]:
    """What the metadata of a figure cell holds."""
    return {"figure": {"caption": caption, "name": "fig-toy"}, "image": {"alt": "A dot."}}


def ran(checkout: Path) -> dict[str, Any]:
    """The record of the toy checkout's own run."""
    return json.loads((checkout / "build/toy/laptop/result.json").read_text("utf-8"))


def test_a_figure_says_first_what_its_own_run_found(checkout: Path) -> None:
    words, record = figure_words("**It is {{toy.mean}}.** A dot at $x_{1}$."), ran(checkout)
    small = copy.deepcopy(words)
    assert front.title(words, record) == "It is 2."
    quote = '<a class="quoted" href="#toy.mean">2</a>'
    assert words["figure"]["caption"] == f"**It is {quote}.** A dot at $x_{{1}}$."
    assert words["image"]["alt"] == "It is 2. A dot."
    assert front.title(small, record | {"profile": "smoke"}) == "A dot at $x_{1}$."
    assert small["figure"]["caption"] == "A dot at $x_{1}$." and small["image"]["alt"] == "A dot."


@pytest.mark.parametrize(
    "caption",
    [
        "A dot.",
        "A dot. **It is {{toy.mean}}.** A line.",
        "**It is {{toy.mean}}** A dot.",
        "**It is {{toy.mean}}.** A dot at {{toy.mean}}.",
        "**It is 2.** A dot.",
        "**It is {{toy.meen}}.** A dot.",
        "**It is {{toy.mean b}}.** A dot.",
    ],
)
def test_a_figure_without_a_finding_of_the_record_is_named(checkout: Path, caption: str) -> None:
    with pytest.raises(ClaimError, match=r"^toy: fig-toy"):
        front.title(figure_words(caption), ran(checkout))


@pytest.mark.parametrize("words", [{}, {"mystnb": figure_words("A dot.")}])
def test_the_build_fails_for_a_figure_without_a_finding(
    checkout: Path, words: dict[str, Any]
) -> None:
    notebook, record = nbformat.read(checkout / "book/_executed/toy.ipynb", 4), ran(checkout)
    bitmap = nbformat.v4.new_output("display_data", {"image/svg+xml": "<svg/>"})
    notebook.cells.append(nbformat.v4.new_code_cell("", outputs=[bitmap], metadata=words))
    with pytest.raises(ClaimError, match=r"^toy: .*A finding"):
        book_pages.study_page(notebook, record, {"toy": record}, [])


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


def test_the_executed_notebook_itself_is_not_touched(staged: Path) -> None:
    executed = staged / "book" / "_executed" / "toy.ipynb"
    before = executed.read_bytes()
    book.build()
    assert executed.read_bytes() == before
    page = nbformat.read(staged / "book/_build/source/toy.ipynb", as_version=4)
    nbformat.validate(page)
    assert len(page.cells) == len(nbformat.read(executed, as_version=4).cells) + 3


def test_a_study_that_was_not_run_says_how(staged: Path) -> None:
    book.build()
    (staged / "book" / "_executed" / "toy.ipynb").unlink()
    shutil.rmtree(staged / "build")
    book.build()
    source = staged / "book" / "_build" / "source"
    assert not (source / "toy.ipynb").exists()
    page = (source / "toy.md").read_text("utf-8")
    assert "python -m srclib run toy" in page
    assert page.count("mark mark-not-assessed") == 4  # two claims, as marks and as lines
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


def test_a_study_missing_in_the_contents_is_named(toy_checkout: Path, called: Run) -> None:
    add_book(toy_checkout)
    contents = toy_checkout / "book" / "_toc.yml"
    contents.write_text(TOC.replace("  - file: toy\n", ""), "utf-8")
    done = called(toy_checkout, "book")
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
    names = [verdict.replace(" ", "-") for verdict in verdicts.VERDICTS]
    rule = r"\.verdict-([a-z-]+) \{ color: (#\w{6}); background: (#\w{6}); \}"
    chips = re.findall(rule, style)
    assert [name for name, _, _ in chips] == names * 2, "one rule per verdict and theme"
    filled = re.findall(
        r"\.mark-([a-z-]+) \{ color: (#\w{6}) !important; background: (#\w{6});", style
    )
    assert [name for name, _, _ in filled] == names[:3] * 2, "one mark per verdict and theme"
    for name, colour, background in chips + filled:
        dark, light = sorted((luminance(colour), luminance(background)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


HEAD = "<html lang='en'><body><h1 id='top'>T</h1>"
STUDY = (
    "<p>python -m srclib run toy</p><details class='claim'>"
    "<span class='verdict verdict-partly'>◐ partly</span></details>"
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
        ("class='claim'", "", "no list of claims"),
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


def test_two_builds_are_compared_byte_by_byte(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_site(one)
    shutil.copytree(one, other)
    assert html_walk.differences(one, other) == []
    (other / "toy.html").write_text("another")
    (one / "_static" / "extra.css").write_text("")
    found = html_walk.differences(one, other)
    assert [each.partition(":")[0] for each in found] == ["_static/extra.css", "toy.html"]


def test_an_empty_folder_is_no_book(tmp_path: Path) -> None:
    assert any("no page at all" in problem for problem in html_walk.walk(tmp_path))
