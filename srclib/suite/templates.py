"""Templates of pages and their parts, which stand in pages/: data in, text out.

Every value is escaped, unless it is Markup, and no character of it can steer the page.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..errors import ParameterError, message

PAGES = Path(__file__).parent / "pages"
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, text direction, halves of characters
SPELLED = {"\n": "↵", "\r": "↵", "\t": "⇥"}


def macros(name: str, **functions: Any) -> Any:
    """The macros of a template as functions, which may call these functions."""
    return ENGINE.get_template(name).make_module(functions)


def fragment(name: str, body: str, program: str) -> str:
    """One element with its style and its script, which holds no data.

    name: its id, which begins all ids inside. Raises ParameterError for what is no id.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        allowed = "lower-case letters, digits and hyphens, a letter first"
        raise ParameterError(message("name", name, allowed, "Like a figure: explorer-final."))
    return (
        f'<div class="srclib-x" id="{name}">\n<style>{_read("fragment.css")}</style>\n{body}\n'
        f'<script>(root=>{{{_read(program)}}})(document.getElementById("{name}"))</script>\n</div>'
    )


def _read(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _visible(value: object) -> object:
    """Characters that would steer instead of showing become visible ones."""
    if isinstance(value, Markup):
        return value
    steering = {c for c in str(value) if unicodedata.category(c) in STEERING}
    return str(value).translate({ord(c): SPELLED.get(c, "�") for c in steering})


ENGINE = Environment(
    loader=FileSystemLoader(PAGES),
    autoescape=True,
    finalize=_visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENGINE.filters["g"] = "{:g}".format
