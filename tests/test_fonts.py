"""Japanese glyphs: in figures beside the Latin font, and cut down for a page."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fontTools.ttLib import TTFont

from srclib.suite import fonts


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    with mpl.rc_context():
        yield
    plt.close("all")


def drawn(text: str) -> np.ndarray:
    """The pixels of a text, [height, width]."""
    fig = plt.figure(figsize=(2, 0.5), dpi=100)
    fig.text(0.05, 0.3, text)
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., 0].copy()


def test_figures_show_kana_and_kanji_and_leave_latin_alone() -> None:
    latin = drawn("cat 12")
    with pytest.warns(UserWarning, match="Glyph .* missing"):
        boxes = drawn("猫")
    fonts.japanese()
    assert np.array_equal(drawn("cat 12"), latin)
    cat, dog = drawn("猫"), drawn("犬")  # a missing glyph would warn, which is an error here
    assert not np.array_equal(cat, boxes) and not np.array_equal(cat, dog)


def test_asking_twice_changes_nothing() -> None:
    before = list(mpl.rcParams["font.family"])
    for _ in range(2):
        fonts.japanese()
        assert mpl.rcParams["font.family"] == [*before, fonts.FAMILY]


def test_the_subset_has_the_glyphs_asked_for_and_no_others() -> None:
    text = "The 猫 eats ねこ、ネコ。"
    data = fonts.woff(text)
    with TTFont(io.BytesIO(data)) as cut, TTFont(fonts.path()) as whole:
        assert cut.flavor == "woff"
        assert set(cut.getBestCmap()) == {ord(c) for c in text if ord(c) >= fonts.FIRST}
        (name,) = {cut.getBestCmap()[ord("猫")]}
        original = whole.getBestCmap()[ord("猫")]
        assert cut["hmtx"][name] == whole["hmtx"][original]
        assert cut["glyf"][name].numberOfContours == whole["glyf"][original].numberOfContours > 0
    assert len(data) < 10_000


def test_the_subset_is_a_function_of_its_characters() -> None:
    assert fonts.woff("猫犬猫") == fonts.woff("犬猫") != fonts.woff("猫")


@pytest.mark.parametrize("text", ["", "cat, é, 12", "\U0010fffd"])
def test_no_font_where_it_has_no_glyph(text: str) -> None:
    assert fonts.woff(text) == b""


def test_the_package_is_not_imported() -> None:
    """Its import would put this font before the one of the style."""
    code = "import sys; from srclib.suite import fonts; fonts.japanese(); fonts.woff('猫'); "
    code += "sys.exit('matplotlib_fontja' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    with pytest.raises(fonts.DataError, match="matplotlib-fontja: not installed"):
        fonts.path()
