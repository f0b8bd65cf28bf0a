"""Named random streams: one root seed, independent generators by name.

    stream(seed, "toy", "batch", 17)

depends on its arguments alone. No global generator is read or advanced anywhere in
the suite, so drawing an evaluation batch cannot move the training data.
"""

from __future__ import annotations

import hashlib

import torch

from .errors import ParameterError, message


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed from a root seed and a path of names."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ParameterError(message("seed", seed, "an integer with 0 <= seed < 2**63", "Use 0."))
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of its own for `names` under `seed`."""
    return torch.Generator().manual_seed(derive(seed, *names))
