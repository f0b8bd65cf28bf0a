"""SAEBench "core": does the model still predict with the SAE in place?

How the SAE encodes stands in `metrics`: `fvu` (centred; release 0.6.0 computes a number of that
name without subtracting the mean), `l0`, `alive`.
"""

from __future__ import annotations

import math


def loss_recovered(ce_clean: float, ce_sae: float, ce_zero: float) -> float:
    """(CE_zero - CE_sae) / (CE_zero - CE_clean): 1 as without the SAE, 0 as with zeros.

    Mean cross entropies of one model on one text (any unit) with the residual left alone, replaced
    by decode(encode(x)), and replaced by zeros, at every position. Below 0 where the SAE is worse
    than zeros. NaN when zeros cost nothing.
    """
    gap = ce_zero - ce_clean
    return (ce_zero - ce_sae) / gap if gap != 0 else math.nan
