"""Steering an SAE while it trains: the one legitimate way to change it from outside a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..activations import BatchTopK
from ..errors import ParameterError, message
from ..metrics import RECOVERED, decoder_pairwise_cosine, match_to_features, nth_decoder_projection
from ..sae import SAE
from ..store import files


class Control(Protocol):
    """Changes an SAE between steps. Its state is part of every checkpoint, so a resumed run goes on
    as the undisturbed one would have.
    """

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None: ...

    def after_pass(self, step: int, sae: SAE, acts: Any) -> None:
        """Sees the step's acts, a tensor [batch, d_sae].

        A control whose class says `takes_pairs = True` may get `srclib.steps.pairs.Acts` instead,
        where a wide SAE computes with its active latents alone.
        """
        return

    def state(self) -> dict[str, Any]:
        """What it keeps, as JSON values; `load` continues from there."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        return


def refuse_notes(step: int, has_notes: bool) -> None:
    """Raises ParameterError for a control that brings the notes of another run to step 0."""
    if step == 0 and has_notes:
        raise ParameterError(
            "control: it holds the notes of another run: allowed is a control without notes "
            "at step 0. Make a new one."
        )


def _layers(control: Any) -> Iterator[Any]:
    """A control, and those that it wraps as `inner`."""
    while control is not None:
        yield control
        control = getattr(control, "inner", None)


def needs_no_table(control: Any) -> bool:
    """Whether no layer of a control asks for whole tables of acts."""
    looking = [c for c in _layers(control) if type(c).after_pass is not Control.after_pass]
    return all(getattr(c, "takes_pairs", False) for c in looking)


def refuse_shared_notes(controls: Sequence[Control | None]) -> None:
    """Raises ParameterError where one control that keeps notes serves several SAEs."""
    layers = [layer for control in controls for layer in _layers(control)]
    noting = [id(layer) for layer in layers if layer.state()]
    if len(set(noting)) < len(noting):
        fix = "Make one control per SAE."
        raise ParameterError(message("control", "one object twice", "one per SAE", fix))


@dataclass(frozen=True)
class KSchedule(Control):
    """BatchTopK's k as a piecewise linear function of the step.

    points: ((step, k), ...) in ascending order of step; k is constant before the first point and
    after the last. The paper's transitions round k down each step; here k stays fractional.
    """

    points: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.points]
        if not steps or steps != sorted(steps) or min(k for _, k in self.points) <= 0:
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


@dataclass
class Trace(Control):
    """Writes down an SAE's scores every `every` steps, and lets `inner` steer it.

    `rows` holds one flat dict per visit: step, k, c_dec, s_<n> for each n of `n_values`, and with
    `features` how many of them are recovered (matched cosine above 0.98). It only reads.
    """

    every: int
    n_values: tuple[int, ...] = ()
    inner: Control | None = None
    features: Tensor | None = field(default=None, repr=False)
    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    takes_pairs = True
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
        W_dec, b_dec, x = sae.W_dec.cpu(), sae.b_dec.cpu(), x.cpu()
        row["c_dec"] = decoder_pairwise_cosine(W_dec)
        for n in self.n_values:
            row[f"s_{n}"] = nth_decoder_projection(x, W_dec, b_dec, n)
        if self.features is not None:
            matched = match_to_features(W_dec, self.features).cosines
            row["recovered"] = int((matched > RECOVERED).sum())
        self.rows.append(row)

    def after_pass(self, step: int, sae: SAE, acts: Any) -> None:
        if self.inner is not None:
            self.inner.after_pass(step, sae, acts)

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "inner": self.inner.state() if self.inner else None}

    def load(self, state: Mapping[str, Any]) -> None:
        self.rows = list(state["rows"])
        if self.inner is not None:
            self.inner.load(state["inner"])
