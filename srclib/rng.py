"""Named random streams: one root seed, independent generators by name.

    stream(seed, "toy", "batch", 17)

depends on its arguments alone. No global generator is read or advanced anywhere in
the suite, so drawing an evaluation batch cannot move the training data.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import torch
from torch import Tensor

from .errors import ParameterError, message


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed from a root seed and a path of names."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ParameterError(message("seed", seed, "an integer with 0 <= seed < 2**63", "Use 0."))
    path = json.dumps([seed, *names])  # JSON, so that ("a", "b") and ("a/b",) differ
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of its own for `names` under `seed`."""
    return torch.Generator().manual_seed(derive(seed, *names))


def normals(seed: int, *names: str | int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, float32, from the stream of `names` under `seed`.

    Random bits (SFC64) as signed integers, scaled into (-1, 1), through the inverse error
    function: nearly twice as fast as `torch.randn`, whose Mersenne twister is scalar. The
    largest number possible is 5.3.
    """
    n = math.prod(shape)
    bits = np.random.SFC64(derive(seed, *names)).random_raw(-(-n // 2)).view(np.int32)[:n]
    inside = 2.0**-31 * (1 - 2.0**-23)  # never exactly 1, where erfinv is infinite
    u = torch.from_numpy(bits).to(torch.float32).mul_(inside)
    return u.erfinv_().mul_(math.sqrt(2)).view(shape)
