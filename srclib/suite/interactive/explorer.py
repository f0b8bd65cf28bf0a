"""The feature explorer: an index of latents with the texts that activate them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral

from ...errors import DataError, ParameterError, message
from .fragment import check_name, fragment, select, size
from .latent import Latent, block, key_of

SCRIPT = """
const rows = [...root.querySelectorAll("details")];
const bar = root.querySelector(".x-bar"), field = bar.querySelector("input");
const lists = [...bar.querySelectorAll("select")];
const plain = text => text.normalize("NFKC").toLowerCase();
const words = row => plain(
  [...row.querySelectorAll("summary, li, .x-near")].map(part => part.textContent).join(" "));
let texts;  // made at the first search

function filter() {
  const wanted = plain(field.value.trim());
  if (wanted) texts ??= rows.map(words);
  let n = 0;
  rows.forEach((row, i) => {
    const fits = (!wanted || texts[i].includes(wanted))
      && lists.every(list => !list.value || row.dataset[list.dataset.key] === list.value);
    row.hidden = !fits;
    n += fits;
  });
  bar.querySelector("output").textContent = `${n} of ${rows.length} latents shown`;
}

function show(hash) {  // a link to a closed or filtered latent opens it
  const row = rows.find(row => "#" + row.id === hash);
  if (!row) return;
  row.hidden = false;
  row.open = true;
  row.firstElementChild.focus({preventScroll: true});
  row.scrollIntoView({block: "nearest"});
}

bar.hidden = false;
bar.addEventListener("input", filter);
filter();
addEventListener("hashchange", () => show(location.hash));
root.addEventListener("click", event => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();  // the browser's own jump would take the focus away again
  history.pushState(null, "", link.hash);
  show(link.hash);
});
root.addEventListener("keydown", event => {
  if (event.target.tagName !== "SUMMARY") return;
  const shown = rows.filter(row => !row.hidden), here = shown.indexOf(event.target.parentElement);
  const moves = {ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: shown.length - 1};
  const next = shown[moves[event.key]];
  if (!next) return;
  event.preventDefault();
  next.firstElementChild.focus();
});
show(location.hash);
"""


def feature_explorer(
    latents: Sequence[Latent],
    *,
    name: str = "explorer",
    separator: str = "",
    max_bytes: int = 2_000_000,
) -> str:
    """A searchable index of latents as one HTML fragment, in the order given.

    Each opens to its examples (the shade of a token is its activation), a histogram of its
    activations and links to its neighbours, where these are in the index too.

    name: the fragment's id, unique on its page. separator: goes between tokens that are whole
    words, except beside Japanese; tokens of a subword tokeniser bring their own spaces.
    max_bytes: latents with the fewest examples are left out until the fragment fits, among
    equals the last ones first; the page says how many.

    Raises DataError for no latent, one given twice, activations that do not fit their tokens;
    ParameterError for a name that is no id and a size that holds no latent.
    """
    check_name(name)
    _check(latents)
    ids = _ids(latents, name)
    facets = {
        "checkpoint": list(dict.fromkeys(latent.checkpoint for latent in latents)),
        "language": list(dict.fromkeys(latent.language for latent in latents)),
        "granularity": list(dict.fromkeys(latent.granularity for latent in latents)),
    }

    def page(n_kept: int) -> str:
        rank = sorted(range(len(latents)), key=lambda i: -len(latents[i].examples))
        kept = [latents[i] for i in sorted(rank[:n_kept])]
        shown = {key: ids[key] for key in map(key_of, kept)}
        blocks = [block(latent, i == 0, shown, facets, separator) for i, latent in enumerate(kept)]
        return fragment(name, _body(blocks, len(latents), facets, max_bytes), SCRIPT)

    whole = page(len(latents))
    if size(whole) <= max_bytes:
        return whole
    low, high = 0, len(latents)  # page(low) fits or low is 0, page(high) does not fit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(page(middle)) <= max_bytes else (low, middle)
    if not low:
        allowed = f"at least {size(page(1))}, the size with one latent"
        fix = "Raise it, or give fewer and shorter examples."
        raise ParameterError(message("max_bytes", max_bytes, allowed, fix))
    return page(low)


def _check(latents: Sequence[Latent]) -> None:
    if not latents:
        raise DataError(message("latents", [], "at least one", "Lower the number of texts asked."))
    for latent in latents:
        where = f"{latent.checkpoint}, latent {latent.index}"
        for i, (tokens, acts) in enumerate(latent.examples):
            if len(tokens) != len(acts) or not all(map(_is_shade, acts)):
                allowed = f"{len(tokens)} whole numbers from 0 to 10, one per token"
                fix = "Scale by the strongest activation of the latent's examples."
                raise DataError(message(f"{where}: acts of example {i}", list(acts), allowed, fix))
        if any(count < 0 for count in latent.histogram) or not math.isfinite(latent.top):
            seen = (list(latent.histogram), latent.top)
            allowed = "counts and a finite activation"
            raise DataError(message(f"{where}: histogram", seen, allowed, "Count the tokens."))
    twice = [key for key, n in Counter(map(key_of, latents)).items() if n > 1]
    if twice:
        raise DataError(message("latents", twice[0], "each once", "Leave the copy out."))


def _is_shade(act: object) -> bool:
    return isinstance(act, Integral) and 0 <= int(act) <= 10


def _ids(latents: Sequence[Latent], name: str) -> dict[tuple[str, int], str]:
    order = {each: i for i, each in enumerate(dict.fromkeys(x.checkpoint for x in latents))}
    return {key_of(x): f"{name}-{order[x.checkpoint]}-{x.index}" for x in latents}


def _body(blocks: list[str], n: int, facets: Mapping[str, list[str]], max_bytes: int) -> str:
    shades = "".join(f'<mark class="a{a}"> {a} </mark>' for a in range(1, 11))
    left_out = "" if len(blocks) == n else (
        f" The {n - len(blocks)} latents with the fewest examples are left out, to keep this part "
        f"of the page below {max_bytes / 1e6:.1f} MB."
    )  # fmt: skip
    bar = "".join(select(key.capitalize(), key, each, "all") for key, each in facets.items())
    search = '<label>Search tokens and labels<input type="search" autocomplete="off"></label>'
    return (
        f'<p class="x-note">{len(blocks)} of {n} latents.{left_out} Shade of a token: its '
        f"activation from {shades} to the latent's strongest. Underlined: the strongest of its "
        "text. Arrow keys move between latents, Enter opens one.</p>\n"
        f'<div class="x-bar" role="search" hidden>{search}{bar}'
        '<output aria-live="polite"></output></div>\n'
        '<div class="x-scroll" role="region" aria-label="Latents" tabindex="0">\n'
        + "\n".join(blocks)
        + "\n</div>"
    )
