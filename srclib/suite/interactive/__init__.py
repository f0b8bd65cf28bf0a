"""Parts of a page that a reader can operate: data in, one string of static HTML out.

    display.HTML(feature_explorer(latents))     what each latent of an SAE fires on
    display.HTML(swap_table(rows))              what a model answers when a slot is swapped

A fragment needs no server and fetches nothing: style, script and the Japanese glyphs it shows are
inside. Everything is in the HTML itself, so without JavaScript all of it can still be read; the
script only searches, filters and moves the focus.
"""

from .explorer import feature_explorer
from .latent import Example, Latent, Neighbour, shades
from .swaps import Swap, swap_table

__all__ = ["Example", "Latent", "Neighbour", "Swap", "feature_explorer", "shades", "swap_table"]
