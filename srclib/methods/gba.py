"""Group Bias Adaptation: sparsity without a penalty (arXiv:2506.14002, algorithm 1).

    sae = hand_over_bias(SAE(d_in, 260, JumpReLU(), decoder_norm=1.0))
    train(sae, source, cfg, control=GroupBiases(geometric_targets(10, 0.1, 0.001), period=5))

The weights learn from the reconstruction error alone. A bias b_m in [-1, 0] per latent, which no
gradient reaches, holds its firing rate p_m below the target activation frequency (TAF) of its
group. With y_m = w_m . x + b_m, over all inputs since the last event:

    p_m = mean 1[y_m > 0]      r_m = max(0, max y_m)      T_k = mean of the r_m > 0 of group k
    p_m > TAF_k:  b_m <- max(b_m - gamma r_m, -1)      fires too often
    p_m < eps:    b_m <- min(b_m + gamma T_k, 0)       dead

Between eps and its TAF a latent is left alone: the TAF is a ceiling, not a set point. (The
published pseudo-code seems to swap min and max, which would break the clamp.) One group is the
paper's BA. Inputs need a norm near 1, or biases in [-1, 0] cut nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..activations import JumpReLU, ReLU
from ..errors import DataError, ParameterError, SuiteError, message, positive, whole
from ..sae import SAE
from ..steps.pairs import Acts
from ..training.control import Control, refuse_notes


@torch.no_grad()
def adapt(
    b: Tensor,
    firing_rate: Tensor,
    max_pre: Tensor,
    group: Tensor,
    target: Tensor | Sequence[float],
    gamma: float = 0.01,
    eps: float = 1e-6,
) -> Tensor:
    """One event: the new biases [d_sae]; nothing that is passed changes.

    b, firing_rate (p, share of inputs with y > 0), max_pre (largest y, bias included), group
    (index of each latent's group): [d_sae]. target: a TAF per group. A group without a positive
    max_pre raises its dead latents by the mean over all groups. Raises ParameterError for numbers
    out of range, DataError for shapes that differ or a group index without TAF.
    """
    TAF = _targets(target, eps).to(b.device)
    positive("gamma", gamma, "The paper's is 0.01.")
    shapes = [tuple(each.shape) for each in (b, firing_rate, max_pre, group)]
    if len(set(shapes)) > 1 or b.ndim != 1:
        name, fix = "shapes of b, firing_rate, max_pre, group", "Pass vectors of length d_sae."
        raise DataError(message(name, shapes, "one number per latent in each", fix))
    group = group.long()
    if not 0 <= int(group.min()) <= int(group.max()) < len(TAF):
        ends, fix = (int(group.min()), int(group.max())), "Give one TAF per group."
        raise DataError(message("(min, max) of group", ends, f"0..{len(TAF) - 1}", fix))
    r = max_pre.clamp(min=0).to(b.dtype)
    total = r.new_zeros(len(TAF)).index_add_(0, group, r)  # [n_groups]
    n_positive = r.new_zeros(len(TAF)).index_add_(0, group, r.sign())
    overall = total.sum() / n_positive.sum().clamp(min=1)
    T = torch.where(n_positive > 0, total / n_positive.clamp(min=1), overall)
    lowered = (b - gamma * r).clamp(min=-1)
    raised = (b + gamma * T[group]).clamp(max=0)
    p = firing_rate.to(TAF.dtype)  # one precision: a rate of 0.1 is not above a TAF of 0.1
    return torch.where(p > TAF[group], lowered, torch.where(p < eps, raised, b))


def _targets(targets: Tensor | Sequence[float], eps: float) -> Tensor:
    """TAFs, float32 [n_groups], which decrease and do not fall below eps."""
    values = [float(t) for t in targets]
    if not values or not all(a > b for a, b in itertools.pairwise([1.0, *values, 0.0])):
        allowed = "one TAF per group, decreasing, each in (0, 1)"
        raise ParameterError(message("target", values, allowed, "geometric_targets makes such."))
    if not 0 <= eps <= values[-1]:
        allowed = f"0 <= eps <= {values[-1]:.3g}, the lowest TAF"
        raise ParameterError(message("eps", eps, allowed, "Lower eps."))
    return torch.tensor(values, dtype=torch.float32)


def geometric_targets(n_groups: int, highest: float, lowest: float) -> tuple[float, ...]:
    """TAFs from `highest` (HTF) to `lowest` (LTF) with a constant ratio. One group: write (p,)."""
    whole("n_groups", n_groups, 2)
    if not 0 < lowest < highest < 1:
        allowed = "0 < lowest < highest < 1"
        raise ParameterError(message("(highest, lowest)", (highest, lowest), allowed, "Swap?"))
    return tuple(np.geomspace(highest, lowest, n_groups).tolist())


def calibrated_targets(
    targets: Sequence[float], agreement: Tensor | Sequence[float]
) -> tuple[float, ...]:
    """As many TAFs, dense where groups agreed: each new group gets an equal part of the agreement.

    agreement: per group, >= 0, such as the share of its latents that return from another start; it
    is spread evenly (in log p) around the group's TAF. Equal agreement leaves inner TAFs as they
    are. Ours; the paper spaces its targets geometrically, whatever a run shows.
    """
    share = np.asarray(agreement, dtype=float) + 1e-3  # no group without a part: they must decrease
    if share.shape != (len(targets),) or not (np.isfinite(share) & (share > 0)).all():
        allowed = f"{len(targets)} finite numbers >= 0, one per target"
        raise ParameterError(message("agreement", agreement, allowed, "Give one per group."))
    share /= share.sum()
    middle = share.cumsum() - share / 2
    wanted = (np.arange(len(share)) + 0.5) / len(share)
    return tuple(np.exp(np.interp(wanted, middle, np.log(targets))).tolist())


def group_index(d_sae: int, n_groups: int) -> Tensor:
    """[d_sae] int64: latents in order, cut into groups of equal size."""
    if not 1 <= n_groups <= d_sae or d_sae % n_groups:
        allowed = f"a divisor of d_sae={d_sae}, so that groups have equal size"
        divisors = (n for n in range(1, d_sae + 1) if d_sae % n == 0)
        fix = f"Take {min(divisors, key=lambda n: abs(n - n_groups))} groups, or another d_sae."
        raise ParameterError(message("n_groups", n_groups, allowed, fix))
    return torch.arange(d_sae) // (d_sae // n_groups)


def ceiling_l0(d_sae: int, targets: Sequence[float]) -> float:
    """The L0 where all latents fire as often as their TAFs allow; near d_in nothing is sparse."""
    group_index(d_sae, len(targets))
    return d_sae * math.fsum(targets) / len(targets)


def hand_over_bias(sae: SAE) -> SAE:
    """Set the biases to 0 and take them from the optimiser: `GroupBiases` moves them alone.

    In place. For ReLU b is `b_enc`. JumpReLU has b = -theta, b_enc = 0: acts = w.x 1[w.x + b > 0]
    (paper: it "decouples the output magnitude from the bias"; the formula is our reading).
    """
    for parameter in (sae.b_enc, _holder(sae)):
        parameter.requires_grad_(False).zero_()
    return sae


def biases(sae: SAE) -> Tensor:
    """A copy of b [d_sae], in [-1, 0] under GBA."""
    b = _holder(sae).detach()
    return b.clone() if isinstance(sae.activation, ReLU) else -b


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


@dataclass(eq=False)
class GroupBiases(Control):
    """One event every `period` batches, groups in order of latents, for a `hand_over_bias` SAE.

    targets: a TAF per group, decreasing (`geometric_targets`); one of them is the paper's BA.
    Between events it keeps a count and a maximum per latent alone. Paper: period 50 (batches of
    512), gamma 0.01; its eps is unknown.
    rows: one dict per event: step (updates made), bias, firing_rate (means per group), dead
    (latents below eps per group), floor (how many biases stand at -1).

    Raises SuiteError when no latent of any group fires; warns of a dead group by name.
    """

    takes_pairs = True
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
        _targets(self.targets, self.eps)
        positive("gamma", self.gamma, "The paper's is 0.01.")
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
    def after_pass(self, step: int, sae: SAE, acts: Tensor | Acts) -> None:
        """Count a batch of acts [batch, d_sae]. They are positive exactly where y is."""
        if isinstance(acts, Acts):
            fired, largest = acts.firings(), acts.largest()
        else:
            fired, largest = acts.sign().sum(dim=0), acts.amax(dim=0)
        self.fired += fired
        torch.maximum(self.largest, largest, out=self.largest)
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
        """The row of this event. A silent group is no fault: the mean over the others raises it."""
        n_groups = len(self.targets)
        rates = rate.view(n_groups, -1)  # [n_groups, latents of a group]: groups are in order
        row = {
            "step": step,
            "bias": b.view(n_groups, -1).mean(dim=1).tolist(),
            "firing_rate": rates.mean(dim=1).tolist(),
            "dead": (rates < self.eps).sum(dim=1).tolist(),
            "floor": int((b <= -1).sum()),
        }
        self.rows.append(row)
        if not rates.any():
            raise SuiteError(
                f"step {step}: no latent fired in the last {self.n_samples} inputs, so nothing "
                "can be revived. Allowed are inputs of norm about 1; lower gamma or lr."
            )

    def state(self) -> dict[str, Any]:
        buffer = {"fired": self.fired.tolist(), "largest": self.largest.tolist()}
        counts = {"n_batches": self.n_batches, "n_samples": self.n_samples}
        return {"rows": self.rows, **counts, **buffer}

    def load(self, state: Mapping[str, Any]) -> None:
        self.rows = list(state["rows"])
        self.n_batches, self.n_samples = state["n_batches"], state["n_samples"]
        self.fired = torch.tensor(state["fired"], dtype=torch.float64)
        self.largest = torch.tensor(state["largest"])
