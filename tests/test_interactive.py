"""Fragments of pages: whole, escaped, bounded, and readable without their script."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from srclib.errors import ParameterError
from srclib.suite import interactive
from srclib.suite.interactive import (
    Example,
    Latent,
    Neighbour,
    feature_explorer,
)

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><b>",
    "\"' onmouseover='alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "</details></div>",
    "`${alert(1)}`",
]
VOID = {"input", "path"}


class Parsed(HTMLParser):
    """Elements with their attributes and their texts; unbalanced tags are an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self._open.append((tag, self.elements[-1][2]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))  # type: ignore[arg-type]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for _, texts in self._open:
            texts.append(data)

    def all(self, tag: str, **have: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of each element of a kind."""
        return [
            (attributes, "".join(texts))
            for name, attributes, texts in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in have.items())
        ]


def latent(index: int = 0, checkpoint: str = "step 10", n: int = 2, **changes: Any) -> Latent:
    examples = [Example(["the", "cat", "eats"], [0, 10, 3])] * n
    return replace(Latent(checkpoint, index, "en", "token", examples), **changes)


def fragments(text: str, name: str = "here") -> list[str]:
    """The fragment with `text` in every place that shows text."""
    near = [Neighbour(text, 7, 0.5)]
    hard = Latent(text, 0, text, text, [Example([text, text], [10, 0])], [3], 1.0, near)
    return [feature_explorer([hard], name=name, separator=text)]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    for hostile, tame in zip(fragments(text), fragments("word"), strict=True):
        page, calm = Parsed(hostile), Parsed(tame)
        assert [tag for tag, _, _ in page.elements] == [tag for tag, _, _ in calm.elements]
        for (_, have, _), (_, expected, _) in zip(page.elements, calm.elements, strict=True):
            assert list(have) == list(expected), "no attribute was smuggled in"
        assert page.all("script") == calm.all("script"), "scripts hold no data"
        assert page.all("style") == calm.all("style")
    assert Parsed(fragments(text)[0]).all("mark", **{"class": "a10 pk"})[0][1] == text


@pytest.mark.parametrize(
    ("token", "shown"),
    [("a\nb", "a↵b"), ("\u202eabc", "�abc"), ("\x00", "�"), ("\ud800", "�"), ("▁cat", " cat")],
)
def test_tokens_that_steer_are_made_visible(token: str, shown: str) -> None:
    page = feature_explorer([latent(examples=[Example([token], [10])])])
    assert Parsed(page).all("li") == [({}, shown)]
    page.encode("utf-8")


def test_an_example_says_what_the_latent_reads() -> None:
    page = Parsed(feature_explorer([latent(n=1)], separator=" "))
    assert page.all("li") == [({}, "the cat eats")]
    inside = [mark for mark in page.all("mark") if mark[1].strip().isalpha()]
    assert inside == [({"class": "a10 pk"}, "cat"), ({"class": "a3"}, "eats")]
    ((_, summary),) = page.all("summary")
    for words in ("Latent 0", "step 10", "en", "token", "cat"):
        assert words in summary


def test_japanese_is_marked_and_set_without_spaces() -> None:
    example = Example(["猫", "は", "fish", "eats", "。"], [10, 0, 0, 0, 0])
    page = Parsed(feature_explorer([latent(examples=[example])], separator=" "))
    assert page.all("li") == [({"lang": "ja"}, "猫はfish eats 。")]


def test_nothing_is_fetched() -> None:
    for page in fragments("猫 http://a.example/x.js"):
        for _, attributes, _ in Parsed(page).elements:
            assert not {"src", "srcset", "action", "data", "poster"} & set(attributes)
            assert attributes.get("href", "#").startswith("#")
        (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.S)
        assert "url(" not in style and "@import" not in style


def test_style_and_ids_stay_inside() -> None:
    for page in fragments("猫", name="fig-a"):
        (style,) = re.findall(r"<style>(.*?)</style>", page, flags=re.S)
        selectors = re.findall(r"([^{}]+)\{", re.sub(r"@media[^{]*\{", "", style))
        assert len(selectors) > 30 and all(".srclib-x" in each for each in selectors)
        ids = [have["id"] for _, have, _ in Parsed(page).elements if "id" in have]
        assert ids[0] == "fig-a" and all(re.match(r"fig-a(-|$)", each) for each in ids)
        assert len(set(ids)) == len(ids)


def test_every_control_has_a_label_and_a_role() -> None:
    for page in map(Parsed, fragments("x")):
        controls = [tag for tag, _, _ in page.elements if tag in ("input", "select")]
        assert len(page.all("label")) == len(controls) >= 3
        assert all(text.strip() for _, text in page.all("label"))
        (scroll,) = page.all("div", role="region")
        assert scroll[0]["tabindex"] == "0" and scroll[0]["aria-label"]
        assert page.all("output")[0][0]["aria-live"] == "polite"
        assert all(have.get("aria-label") for have, _ in page.all("svg", role="img"))
        assert all(text.strip() for _, text in page.all("th"))


def test_it_can_be_read_without_the_script() -> None:
    (page,) = (Parsed(re.sub(r"<script>.*?</script>", "", p)) for p in fragments("word"))
    (bar,) = page.all("div", **{"class": "x-bar"})
    assert "hidden" in bar[0], "controls that would do nothing"
    assert [("open" in have, "hidden" in have) for have, _ in page.all("details")] == [
        (True, False)
    ]


def test_neighbours_are_links_where_the_index_has_them() -> None:
    near = [Neighbour("step 100", 4, 0.876), Neighbour("step 100", 5, -0.5)]
    page = Parsed(feature_explorer([latent(neighbours=near), latent(4, "step 100")]))
    assert [have["id"] for have, _ in page.all("details")] == ["explorer-0-0", "explorer-1-4"]
    link = ({"href": "#explorer-1-4"}, "step 100, latent 4 (cosine 0.88)")
    assert page.all("a") == [link]
    assert "step 100, latent 5 (cosine -0.50)" in page.all("p", **{"class": "x-near"})[0][1]


def test_the_histogram_is_to_scale() -> None:
    page = Parsed(feature_explorer([latent(histogram=[99, 0, 9], top=2.5)]))
    ((have, _),) = page.all("svg")
    assert "108 activations from 0 to 2.5" in have["aria-label"]
    bars = page.all("path")[0][0]["d"]
    found = [tuple(map(float, m)) for m in re.findall(r"M([\d.]+) 46v-([\d.]+)h", bars)]
    assert [x for x, _ in found] == [0, pytest.approx(106.7, abs=0.1)]
    assert found[1][1] / found[0][1] == pytest.approx(math.log(10) / math.log(100), abs=0.01)
    assert not Parsed(feature_explorer([latent(histogram=[0, 0])])).all("svg")


def test_the_cap_drops_latents_with_the_fewest_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = [latent(i, n=n) for i, n in enumerate([5, 1, 9, 1, 7])]
    whole = feature_explorer(latents)
    assert "5 of 5 latents." in whole and "left out" not in whole
    kept = [5]
    for cap in range(len(whole.encode()), len(feature_explorer(latents[2:3]).encode()) + 500, -50):
        monkeypatch.setattr(interactive, "MAX_BYTES", cap)
        page = feature_explorer(latents)
        assert len(page.encode()) <= cap
        shown = [int(have["id"].split("-")[2]) for have, _ in Parsed(page).all("details")]
        assert shown == sorted([2, 4, 0, 1, 3][: len(shown)])
        kept.append(len(shown))
        if len(shown) < 5:
            assert f"The {5 - len(shown)} latents with the fewest examples are left out" in page
    assert set(kept) >= {5, 4, 3, 2} and kept == sorted(kept, reverse=True)


def test_a_fragment_is_a_function_of_its_data() -> None:
    assert fragments("猫") == fragments("猫")


@pytest.mark.parametrize("name", ["", "Fig", "a b", "x'", "1a"])
def test_a_name_that_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="name="):
        feature_explorer([latent()], name=name)
