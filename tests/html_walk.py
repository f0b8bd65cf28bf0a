"""Walk the built book as a careful reader would: `python tests/html_walk.py book/_build/html`.

With a second folder, another build of the same inputs: which files are not the same bytes.

Standard library only, so that it runs on any Python, with no browser and no environment. It
finds links that lead nowhere, anything that would be fetched from another host, images without
a description, ids used twice, and study pages without claims or the command behind them.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

VERDICTS = {"replicated", "partly", "not replicated", "not assessed"}
# A reader follows <a href>; everything else here is fetched without being asked for.
ADDRESSES = {"a": "href", "form": "action", "link": "href", "img": "src", "script": "src"}
ADDRESSES |= {"iframe": "src", "source": "src", "video": "src", "audio": "src", "object": "data"}

# Browsers mend crossed tags in their own way, and the page's columns fall apart.
NESTED = {"div", "section", "article", "main", "aside", "table", "details"}
THEME_TWICE = {"search-input"}  # pydata-sphinx-theme 0.15 draws two search fields on search.html


class Page(HTMLParser):
    """What one page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []  # (tag, address)
        self.bare_images: list[str] = []
        self.claims = 0
        self.chips: list[str] = []
        self.text: list[str] = []
        self.crossed: list[str] = []
        self._open: list[str] = []
        self._inside: list[str] | None = None  # the list that the next text belongs to
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attributes}
        if tag in NESTED:
            self._open.append(tag)
        self.ids += [have[name] for name in ("id", "name") if name in have and _anchors(tag, name)]
        if ADDRESSES.get(tag) in have:
            self.links.append((tag, have[ADDRESSES[tag]]))
        if tag == "img" and have.get("alt", "").strip() in ("", have.get("src")):
            self.bare_images.append(have.get("src", "")[:60])  # docutils puts the path into alt
        self.claims += tag == "details" and "claim" in have.get("class", "").split()
        if "verdict" in have.get("class", "").split():
            self._inside = self.chips
            self.chips.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        if tag in NESTED and (not self._open or self._open.pop() != tag):
            self.crossed.append(tag)
        if tag == "span":
            self._inside = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._inside is not None:
            self._inside[-1] += data


def walk(folder: Path) -> list[str]:
    """Every problem of the pages below `folder`, one sentence each; empty when all is well."""
    folder = folder.resolve()
    files = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    problems = [] if pages else [f"{folder}: no page at all"]
    for path, page in pages.items():
        where = path.relative_to(folder).as_posix()
        problems += [f"{where}: {problem}" for problem in _page_problems(path, page, pages)]
    for path in sorted(folder.rglob("*.css")):
        if found := re.search(
            r"(?:url\(\s*['\"]?|@import\s+['\"])(https?:)?//[^)'\"]+", _css(path)
        ):
            problems.append(f"{path.relative_to(folder)}: fetches {found.group()}")
    studies = {path.name.split(".")[0] for path in folder.glob("_static/results/*.json")}
    if not studies:
        problems.append("_static/results: no result of any study")
    for study in sorted(studies):
        page = pages.get(folder / f"{study}.html")
        problems += [f"{study}.html: {problem}" for problem in _study_problems(study, page)]
    return problems


def differences(one: Path, other: Path) -> list[str]:
    """Files of two builds that are not the same bytes; of the same inputs there is none."""
    builds = [
        {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        for root in (one, other)
    ]
    lacking = sorted(builds[0].keys() ^ builds[1].keys())
    both = sorted(builds[0].keys() & builds[1].keys())
    changed = [name for name in both if len({each[name].read_bytes() for each in builds}) > 1]
    return [f"{name}: in one of the two builds" for name in lacking] + [
        f"{name}: differs between two builds of the same inputs" for name in changed
    ]


def _page_problems(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    twice = sorted({id for id in page.ids if page.ids.count(id) > 1} - THEME_TWICE)
    problems = [f"the id {id!r} occurs twice" for id in twice]
    problems += [f"image without alt: {source!r}" for source in page.bare_images]
    if page.crossed:
        problems.append(f"</{page.crossed[0]}> closes another element: tags must nest")
    for tag, address in page.links:
        if problem := _link_problem(path, tag, address, pages):
            problems.append(f"<{tag}> {address[:100]!r}: {problem}")
    return problems


def _link_problem(path: Path, tag: str, address: str, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return None
    if parts.scheme or parts.netloc:
        allowed = tag == "a" and parts.scheme in ("http", "https", "mailto")
        return None if allowed else "must be a file of this book"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "no such file"
    fragment = unquote(parts.fragment)
    if fragment and target in pages and fragment not in pages[target].ids:
        return "no such place in that page"
    return None


def _study_problems(study: str, page: Page | None) -> list[str]:
    if page is None:
        return ["no such page, although there is a result of this study"]
    problems = []
    if not page.claims:
        problems.append("no list of claims")
    words = {chip.strip(" ✓◐✗–").partition("（")[0] for chip in page.chips}
    if not words:
        problems.append("no verdict")
    problems += [f"unknown verdict {word!r}" for word in sorted(words - VERDICTS)]
    if f"python -m srclib run {study}" not in "".join(page.text):
        problems.append("the command that makes the page is missing")
    return problems


def _anchors(tag: str, attribute: str) -> bool:
    return attribute == "id" or tag == "a"


def _css(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:]]
    found = differences(*folders) if len(folders) == 2 else walk(folders[0])
    good = "the same bytes" if len(folders) == 2 else "every link, image and study page is in order"
    print("\n".join(found) or f"{sys.argv[1]}: {good}")
    sys.exit(bool(found))
