"""Automatic search of L0 in training (Sparse but Wrong, A.11; there is no official code)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..activations import BatchTopK
from ..metrics import nth_decoder_projection
from ..sae import SAE
from ..training.control import Control, refuse_notes


@dataclass
class AutoL0(Control):
    """Moves BatchTopK's k towards the minimum of s_n.

    Every `every` steps k moves by delta. With m the mean of s_n over the last `window` batches,
    the slope m'(k) is estimated as G = (m_now - m_before) / delta, clipped to [-1, 1] and biased
    against going low, G - bias |G|; Adam (defaults; its step size `lr` is our choice, the paper
    does not give one) turns it into the next delta, kept within [min_step, max_step] in size and
    k within [1, d_sae]. k rests for `begin` steps, since the first slopes would be those of
    training and not of k; the first move is down by `max_step`, as the paper starts high.
    """

    n: int
    begin: int = 0
    every: int = 100
    window: int = 10
    bias: float = 0.1
    lr: float = 0.5
    min_step: float = 0.0
    max_step: float = 1.0
    recent: list[float] = field(default_factory=list, repr=False)
    before: float | None = field(default=None, repr=False)
    delta: float = field(default=0.0, repr=False)
    moments: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)
    moves: int = field(default=0, repr=False)

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
        refuse_notes(step, bool(self.moves or self.recent or self.before is not None))
        if step < self.begin:
            return
        position = (step - self.begin) % self.every
        if position >= self.every - self.window:
            self.recent.append(nth_decoder_projection(x, sae.W_dec, sae.b_dec, self.n))
        if position != self.every - 1:
            return
        now = float(np.mean(self.recent))
        self.recent = []
        self.delta = self._next_delta(now)
        self.before = now
        assert isinstance(sae.activation, BatchTopK)
        k = float(np.clip(sae.activation.k + self.delta, 1.0, sae.d_sae))
        self.delta = k - sae.activation.k  # what was moved, not what was wished for
        sae.activation = BatchTopK(k)

    def _next_delta(self, now: float) -> float:
        if self.before is None:
            return -self.max_step
        moved = self.delta != 0
        slope = float(np.clip((now - self.before) / self.delta, -1.0, 1.0)) if moved else 0.0
        slope -= self.bias * abs(slope)
        self.moves += 1
        first, second = self.moments
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        self.moments = [first, second]
        first, second = first / (1 - 0.9**self.moves), second / (1 - 0.999**self.moves)
        move = -self.lr * first / (second**0.5 + 1e-8)
        size = float(np.clip(abs(move), self.min_step, self.max_step))
        return float(np.sign(move) or -1.0) * size

    def state(self) -> dict[str, Any]:
        names = ("recent", "before", "delta", "moments", "moves")
        return {name: getattr(self, name) for name in names}

    def load(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
