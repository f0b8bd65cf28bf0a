"""Group Bias Adaptation in training; the rule and its symbols stand in `update`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...activations import JumpReLU, ReLU
from ...control import Control, refuse_notes
from ...errors import ParameterError, SuiteError, message, whole
from ...sae import SAE
from .update import adapt, check_gamma, check_targets, group_index


def hand_over_bias(sae: SAE) -> SAE:
    """Set the biases to 0 and take them from the optimiser: `GroupBiases` moves them alone.

    In place. For ReLU b is `b_enc`. JumpReLU has b = -theta and b_enc = 0: the gate uses the bias
    and the output does not, acts = w.x 1[w.x + b > 0]. (Paper: it "decouples the output magnitude
    from the bias"; the formula is our reading.)
    """
    for parameter in (sae.b_enc, _holder(sae)):
        parameter.requires_grad_(False).zero_()
    return sae


def biases(sae: SAE) -> Tensor:
    """A copy of b [d_sae], in [-1, 0] under GBA."""
    b = _holder(sae).detach()
    return b.clone() if isinstance(sae.activation, ReLU) else -b


@dataclass(eq=False)
class GroupBiases(Control):
    """One event every `period` batches, groups in order of latents, for a `hand_over_bias` SAE.

    targets: a TAF per group, decreasing (`geometric_targets`); one of them is the paper's BA.
    Between events it keeps a count and a maximum per latent, no pre-activations, so an event costs
    the same at any period. Paper: period 50 (batches of 512), gamma 0.01; its eps is unknown.
    rows: one dict per event: step (updates made), bias, firing_rate (means per group), dead
    (latents below eps per group), floor (how many biases stand at -1).

    Raises SuiteError when no latent of any group fires; warns of a dead group by name.
    """

    targets: tuple[float, ...]
    period: int = 50
    gamma: float = 0.01
    eps: float = 1e-6
    rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    n_batches: int = field(default=0, init=False, repr=False)
    n_samples: int = field(default=0, init=False, repr=False)
    fired: Tensor = field(init=False, repr=False)  # [d_sae] float64, inputs with y > 0
    largest: Tensor = field(init=False, repr=False)  # [d_sae] largest act

    def __post_init__(self) -> None:
        self.targets = tuple(self.targets)
        check_targets(self.targets, self.eps)
        check_gamma(self.gamma)
        whole("period", self.period, 1)
        self.fired = self.largest = torch.zeros(0)

    @torch.no_grad()
    def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
        refuse_notes(step, bool(self.rows or self.n_batches))
        self.fired, self.largest = self.fired.to(x.device), self.largest.to(x.device)
        if self.n_batches == self.period:
            self._event(step, sae)
        if self.n_batches == 0:
            self._start(sae, x)

    @torch.no_grad()
    def after_pass(self, step: int, sae: SAE, acts: Tensor) -> None:
        """Count a batch of acts [batch, d_sae]. They are positive exactly where y is."""
        self.fired += acts.sign().sum(dim=0)
        torch.maximum(self.largest, acts.amax(dim=0), out=self.largest)
        self.n_batches += 1
        self.n_samples += len(acts)

    def _start(self, sae: SAE, x: Tensor) -> None:
        """Empty the buffer; refuse what could not work before anything is counted."""
        group_index(sae.d_sae, len(self.targets))
        if _holder(sae).requires_grad or sae.b_enc.requires_grad:
            fix = "Call hand_over_bias(sae) before training."
            allowed = "False: one master, this control and not the optimiser"
            raise ParameterError(message("requires_grad of the biases", True, allowed, fix))
        buffer = self.period * len(x)
        if self.eps * buffer > 1:
            allowed = f"<= 1 / (period * n_batch) = {1 / buffer:.3g}, so that dead means never"
            raise ParameterError(message("eps", self.eps, allowed, "Lower eps."))
        self.fired = torch.zeros(sae.d_sae, dtype=torch.float64, device=x.device)
        self.largest = torch.zeros(sae.d_sae, device=x.device)
        self.n_batches = self.n_samples = 0

    def _event(self, step: int, sae: SAE) -> None:
        group = group_index(sae.d_sae, len(self.targets)).to(self.fired.device)
        rate, b = self.fired / self.n_samples, biases(sae)
        # JumpReLU's act is w.x; ReLU's is y itself
        max_pre = self.largest if isinstance(sae.activation, ReLU) else self.largest + b
        self._note(step, b, rate)
        b = adapt(b, rate, max_pre, group, self.targets, self.gamma, self.eps)
        _holder(sae).copy_(b if isinstance(sae.activation, ReLU) else -b)
        self.n_batches = 0

    def _note(self, step: int, b: Tensor, rate: Tensor) -> None:
        """The row of this event; says when a group has died."""
        n_groups = len(self.targets)
        rates = rate.view(n_groups, -1)  # [n_groups, latents of a group]: groups are in order
        row: dict[str, Any] = {"step": step, "bias": b.view(n_groups, -1).mean(dim=1).tolist()}
        row["firing_rate"] = rates.mean(dim=1).tolist()
        row["dead"] = (rates < self.eps).sum(dim=1).tolist()
        self.rows.append(row | {"floor": int((b <= -1).sum())})
        silent = (rates.amax(dim=1) == 0).nonzero().flatten().tolist()
        if len(silent) == n_groups:
            raise SuiteError(
                f"step {step}: no latent fired in the last {self.n_samples} inputs, so nothing "
                "can be revived. Allowed are inputs of norm about 1; lower gamma or lr."
            )
        for k in silent:
            warnings.warn(
                f"group {k} (TAF {self.targets[k]:.3g}): no latent fired during a buffer. It is "
                "raised by the mean over the other groups; raise its TAF, or the period.",
                stacklevel=2,
            )

    def state(self) -> dict[str, Any]:
        counts = {"n_batches": self.n_batches, "n_samples": self.n_samples}
        buffer = {"fired": self.fired.tolist(), "largest": self.largest.tolist()}
        return {"rows": self.rows} | counts | buffer

    def load(self, state: Mapping[str, Any]) -> None:
        self.rows = list(state["rows"])
        self.n_batches, self.n_samples = state["n_batches"], state["n_samples"]
        self.fired = torch.tensor(state["fired"], dtype=torch.float64)
        self.largest = torch.tensor(state["largest"])


def _holder(sae: SAE) -> nn.Parameter:
    """The parameter that carries b: `b_enc` as it is, or `theta` = -b."""
    if isinstance(sae.activation, ReLU):
        return sae.b_enc
    if sae.theta is None or not isinstance(sae.activation, JumpReLU):
        fix = "TopK and BatchTopK fix the sparsity themselves."
        raise ParameterError(message("activation", sae.activation, "ReLU or JumpReLU", fix))
    if sae.activation.log_threshold:
        fix = "A threshold of 0, where b starts, has no logarithm."
        raise ParameterError(message("log_threshold", True, "False for GBA", fix))
    return sae.theta
