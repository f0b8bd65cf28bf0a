"""Steering an SAE while it trains: the one legitimate way to change it from outside a step.

A control is called before every step with the step's batch. Its state is part of every
checkpoint, so a resumed run continues as the undisturbed one would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from . import files
from .activations import BatchTopK
from .errors import ParameterError, message
from .metrics import RECOVERED, decoder_pairwise_cosine, match_to_features, nth_decoder_projection
from .sae import SAE


class Control(Protocol):
    """Changes an SAE between steps; `state` is JSON-able and `load(state)` restores it."""

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None: ...

    def after_pass(self, step: int, sae: SAE, acts: Tensor) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


def refuse_notes(step: int, has_notes: bool) -> None:
    """Raises ParameterError for a control that brings the notes of another run to step 0."""
    if step == 0 and has_notes:
        raise ParameterError(
            "control: it holds the notes of another run: allowed is a control without notes "
            "at step 0. Make a new one."
        )


@dataclass(frozen=True)
class KSchedule:
    """BatchTopK's k as a piecewise linear function of the step.

    points: ((step, k), ...) in ascending order of step; k is constant before the first point and
    after the last. The paper's transitions round k down each step; here k stays fractional.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.points]
        if not steps or steps != sorted(steps) or not all(k > 0 for _, k in self.points):
            allowed = "(step, k) in ascending order of step, with k > 0"
            raise ParameterError(message("points", self.points, allowed, "Sort them."))

    def k(self, step: int) -> float:
        steps, ks = zip(*self.points, strict=True)
        return float(np.interp(step, steps, ks))

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
        k = self.k(step)
        if k > sae.d_sae:
            fix = "Lower the schedule's k or raise d_sae."
            raise ParameterError(message("k", k, f"0 < k <= d_sae={sae.d_sae}", fix))
        sae.activation = BatchTopK(k)

    def after_pass(self, step: int, sae: SAE, acts: Tensor) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        pass


@dataclass
class Trace:
    """Writes down an SAE's scores every `every` steps, and lets `inner` steer it.

    `rows` holds one flat dict per visit: step, k, c_dec, s_<n> for each n of `n_values`, and with
    `features` how many of them are recovered (matched cosine above 0.98). It only reads.
    """

    every: int
    n_values: tuple[int, ...] = ()
    inner: Control | None = None
    features: Tensor | None = field(default=None, repr=False)
    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    of_features: str = field(default="", init=False)  # in the repr, by which runs are told apart

    def __post_init__(self) -> None:
        if self.features is not None:
            self.of_features = files.tensors_sha256([self.features])

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
        refuse_notes(step, bool(self.rows))
        if self.inner is not None:
            self.inner.before_step(step, sae, x)
        if step % self.every:
            return
        row: dict[str, Any] = {"step": step, "k": getattr(sae.activation, "k", None)}
        row["c_dec"] = decoder_pairwise_cosine(sae.W_dec)
        for n in self.n_values:
            row[f"s_{n}"] = nth_decoder_projection(x, sae.W_dec, sae.b_dec, n)
        if self.features is not None:
            matched = match_to_features(sae.W_dec, self.features).cosines
            row["recovered"] = int((matched > RECOVERED).sum())
        self.rows.append(row)

    def after_pass(self, step: int, sae: SAE, acts: Tensor) -> None:
        if self.inner is not None:
            self.inner.after_pass(step, sae, acts)

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "inner": self.inner.state() if self.inner else None}

    def load(self, state: Mapping[str, Any]) -> None:
        self.rows = list(state["rows"])
        if self.inner is not None:
            self.inner.load(state["inner"])


@dataclass
class AutoL0:
    """Automatic search of L0 in training (Sparse but Wrong, A.11; there is no official code).

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

    def after_pass(self, step: int, sae: SAE, acts: Tensor) -> None:
        pass

    def state(self) -> dict[str, Any]:
        names = ("recent", "before", "delta", "moments", "moves")
        return {name: getattr(self, name) for name in names}

    def load(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
