"""Japanese text in figures, on machines without a Japanese font.

The font is IPAex Gothic, which the package matplotlib-fontja carries. That package is never
imported: importing it makes this font the first one of every figure, Latin text included.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager

from ..errors import DataError

FAMILY = "IPAexGothic"


def japanese() -> None:
    """From now on figures show kana and kanji; call it after `figures.use_style()`.

    Raises DataError where matplotlib-fontja is not installed.
    """
    if (spec := find_spec("matplotlib_fontja")) is None or spec.origin is None:
        raise DataError(
            "matplotlib-fontja: not installed, so there is no Japanese font. Install the suite "
            "with `python3 -m nox -s install`, or `pip install matplotlib-fontja`."
        )
    font_manager.fontManager.addfont(Path(spec.origin).parent / "fonts" / "ipaexg.ttf")
    families = [name for name in mpl.rcParams["font.family"] if name != FAMILY]
    mpl.rcParams["font.family"] = [*families, FAMILY]  # matplotlib looks glyph by glyph
