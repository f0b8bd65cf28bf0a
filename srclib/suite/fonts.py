"""Japanese text on machines without a Japanese font: in figures and in HTML fragments.

The font is IPAex Gothic, which the package matplotlib-fontja carries. That package is never
imported: importing it makes this font the first one of every figure, Latin text included.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from ..errors import DataError

FAMILY = "IPAexGothic"
FIRST = 0x2E80  # the first CJK code point: below it, the reader's own fonts suffice


def path() -> Path:
    """The font file. Raises DataError where matplotlib-fontja is not installed."""
    spec = find_spec("matplotlib_fontja")
    if spec is None or spec.origin is None:
        raise DataError(
            "matplotlib-fontja: not installed, so there is no Japanese font. Install the suite "
            "with `python3 -m nox -s install`, or `pip install matplotlib-fontja`."
        )
    return Path(spec.origin).parent / "fonts" / "ipaexg.ttf"


def japanese() -> None:
    """From now on figures show kana and kanji; call it after `figures.use_style()`."""
    font_manager.fontManager.addfont(path())
    families = [name for name in mpl.rcParams["font.family"] if name != FAMILY]
    mpl.rcParams["font.family"] = [*families, FAMILY]  # matplotlib looks glyph by glyph


def woff(text: str) -> bytes:
    """A WOFF font with just the Japanese characters of `text`; b"" where it has none.

    About 75 bytes a kanji; the same text gives the same bytes. The font's licence allows such a
    subset inside the one document that shows it (IPA Font License 1.0, article 2.5).
    """
    wanted = {ord(character) for character in text if ord(character) >= FIRST}
    if not wanted:
        return b""
    # no hints, no vertical setting, no name: nothing of these shows on a screen
    options = subset.Options(hinting=False, layout_features=[], name_IDs=[], notdef_outline=True)
    options.drop_tables += ["vmtx", "vhea", "GSUB", "GPOS", "BASE", "gasp"]
    # recalcTimestamp would put the time of the run into the page
    with TTFont(path(), recalcTimestamp=False) as font:
        if not wanted & font.getBestCmap().keys():
            return b""
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=wanted)
        cutter.subset(font)
        font.flavor, file = "woff", io.BytesIO()
        font.save(file)
    return file.getvalue()
