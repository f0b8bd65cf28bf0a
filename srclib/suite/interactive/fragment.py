"""What all fragments share: escaping, one style for both themes, embedded glyphs."""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterable

from ...errors import ParameterError, message
from .. import fonts

# Colours come from the book's theme where there is one. The shade of a token is translucent, so
# it works on any background; in the dark it stays weaker, or light text would vanish on it.
STYLE = """
.srclib-x{--x-line:var(--pst-color-border,#8886);--x-step:.08;line-height:1.5;
 font-family:var(--pst-font-family-base,system-ui,sans-serif),var(--x-ja,sans-serif);margin:1em 0;
 background:var(--pst-color-background,transparent);color:var(--pst-color-text-base,inherit)}
html[data-theme=dark] .srclib-x,body[data-jp-theme-light=false] .srclib-x{--x-step:.045}
@media (prefers-color-scheme:dark){html:not([data-theme]) body:not([data-jp-theme-light])
 .srclib-x{--x-step:.045}}
.text_html:has(>.srclib-x){background:none!important;padding:0!important}
.srclib-x [hidden]{display:none!important}
.srclib-x .x-bar{display:flex;flex-wrap:wrap;gap:.5em 1em;align-items:end;margin:.5em 0}
.srclib-x label{display:flex;flex-direction:column;font-size:.85em}
.srclib-x input,.srclib-x select{font:inherit;color:inherit;max-width:24em;padding:.2em .4em;
 background:var(--pst-color-surface,transparent);border:1px solid var(--x-line);border-radius:4px}
.srclib-x option{color:var(--pst-color-text-base,CanvasText);
 background:var(--pst-color-background,Canvas)}
.srclib-x .x-note{font-size:.85em;margin:.3em 0}
.srclib-x .x-scroll{max-height:36em;overflow:auto;border:1px solid var(--x-line);border-radius:4px}
.srclib-x :focus-visible{outline:3px solid var(--pst-color-accent,Highlight);outline-offset:-2px}
.srclib-x details{border-bottom:1px solid var(--x-line);margin:0;padding:0;scroll-margin-top:5em}
.srclib-x summary{cursor:pointer;padding:.3em .6em;overflow:hidden;text-overflow:ellipsis;
 white-space:nowrap}
.srclib-x details>:not(summary){margin:.4em 1.2em}
.srclib-x .x-chip{border:1px solid var(--x-line);border-radius:1em;padding:0 .6em;font-size:.8em;
 margin-left:.5em}
.srclib-x .x-peaks{margin-left:.8em;opacity:.85}
.srclib-x li{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:.15em 0}
.srclib-x mark{color:inherit;border-radius:2px;padding:.1em 0;
 background:rgb(230 159 0/calc(var(--n)*var(--x-step)))}
.srclib-x mark.pk{font-weight:700;text-decoration:underline}
SHADES
.srclib-x svg{width:16em;height:5.6em;display:block;fill:currentColor}
.srclib-x svg text{font-size:9px}
.srclib-x table{border-collapse:collapse;width:100%;margin:0;background:none;color:inherit}
.srclib-x th,.srclib-x td{text-align:left;padding:.25em .6em;border-bottom:1px solid var(--x-line);
 color:inherit;background:none}
.srclib-x tr[aria-current] td{background:rgb(230 159 0/calc(4*var(--x-step)));font-weight:700}
.srclib-x .x-answer{display:block;padding:.6em .8em;margin:.5em 0;border-left:4px solid #0072b2;
 background:var(--pst-color-surface,#8881)}
.srclib-x .x-answer strong{font-size:1.2em}
""".replace("SHADES", "".join(f".srclib-x .a{n}{{--n:{n}}}" for n in range(1, 11)))

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_SPELLED = {"\n": "↵", "\r": "↵", "\t": "⇥"}


def check_name(name: str) -> str:
    """The id of a fragment, which begins all ids inside. Raises ParameterError."""
    if not _NAME.fullmatch(name):
        allowed = "lower-case letters, digits and hyphens, a letter first"
        raise ParameterError(message("name", name, allowed, "Like a figure: explorer-final."))
    return name


def escape(text: object) -> str:
    """Text as HTML. Characters that steer instead of showing (controls, bidi) become visible."""
    return html.escape("".join(map(_shown, str(text))))


def _shown(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return _SPELLED.get(character, "�")
    return character


def select(label: str, key: str, options: Iterable[str], everything: str | None = None) -> str:
    """A labelled drop-down list whose values count from 0; `everything` has the empty value."""
    first = "" if everything is None else f'<option value="">{escape(everything)}</option>'
    rest = "".join(f'<option value="{i}">{escape(each)}</option>' for i, each in enumerate(options))
    return f'<label>{escape(label)}<select data-key="{key}">{first}{rest}</select></label>'


def fragment(name: str, body: str, script: str) -> str:
    """One element with its style, its Japanese glyphs and its script.

    script: the body of a function of `root`, the element. It holds no data of the caller.
    """
    glyphs = fonts.woff(html.unescape(body))
    own = ""  # each fragment has its own glyphs, while the rest of the style is every one's
    if glyphs:
        data = base64.b64encode(glyphs).decode("ascii")
        source = f"url(data:font/woff;base64,{data})"
        own = f'@font-face{{font-family:"srclib-{name}";src:{source} format("woff")}}'
        own += f'#{name}{{--x-ja:"srclib-{name}"}}'
    call = f'(root=>{{{script}}})(document.getElementById("{name}"))'
    return (
        f'<div class="srclib-x" id="{name}">\n<style>{own}{STYLE}</style>\n{body}\n'
        f"<script>{call}</script>\n</div>"
    )


def size(text: str) -> int:
    """Bytes that a fragment adds to a page."""
    return len(text.encode("utf-8"))
