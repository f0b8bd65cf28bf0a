"""The rule of Group Bias Adaptation (arXiv:2506.14002, algorithm 1), and its targets.

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
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError, ParameterError, message, whole


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
    TAF = check_targets(target, eps).to(b.device)
    check_gamma(gamma)
    _check_latents(b, firing_rate, max_pre, group, len(TAF))
    group = group.long()
    r = max_pre.clamp(min=0).to(b.dtype)
    total = r.new_zeros(len(TAF)).index_add_(0, group, r)  # [n_groups]
    positive = r.new_zeros(len(TAF)).index_add_(0, group, r.sign())
    overall = total.sum() / positive.sum().clamp(min=1)
    T = torch.where(positive > 0, total / positive.clamp(min=1), overall)
    lowered = (b - gamma * r).clamp(min=-1)
    raised = (b + gamma * T[group]).clamp(max=0)
    p = firing_rate.to(TAF.dtype)  # one precision: a rate of 0.1 is not above a TAF of 0.1
    return torch.where(p > TAF[group], lowered, torch.where(p < eps, raised, b))


def geometric_targets(n_groups: int, highest: float, lowest: float) -> tuple[float, ...]:
    """TAFs from `highest` (HTF) to `lowest` (LTF) with a constant ratio. One group: write (p,)."""
    whole("n_groups", n_groups, 2)
    if not 0 < lowest < highest < 1:
        allowed = "0 < lowest < highest < 1"
        raise ParameterError(message("(highest, lowest)", (highest, lowest), allowed, "Swap?"))
    return tuple(np.geomspace(highest, lowest, n_groups).tolist())


def group_index(d_sae: int, n_groups: int) -> Tensor:
    """[d_sae] int64: latents in order, cut into groups of equal size."""
    if not 1 <= n_groups <= d_sae or d_sae % n_groups:
        allowed = f"a divisor of d_sae={d_sae}, so that groups have equal size"
        divisors = (n for n in range(1, d_sae + 1) if d_sae % n == 0)
        nearest = min(divisors, key=lambda n: abs(n - n_groups))
        fix = f"Take {nearest} groups, or another d_sae."
        raise ParameterError(message("n_groups", n_groups, allowed, fix))
    return torch.arange(d_sae) // (d_sae // n_groups)


def ceiling_l0(d_sae: int, targets: Sequence[float]) -> float:
    """The L0 at which every latent fires as often as its TAF allows: d_sae * mean(TAF).

    Look at it before a run: near d_in or above, the reconstruction asks for no sparsity.
    """
    check_targets(targets, 0.0)
    group_index(d_sae, len(targets))
    return d_sae * math.fsum(targets) / len(targets)


def check_targets(targets: Tensor | Sequence[float], eps: float) -> Tensor:
    """TAFs, float32 [n_groups], which decrease and do not fall below eps."""
    values = targets.tolist() if isinstance(targets, Tensor) else [float(t) for t in targets]
    inside = all(0 < t < 1 for t in values)
    if not values or not inside or any(a <= b for a, b in itertools.pairwise(values)):
        allowed = "one TAF per group, decreasing, each in (0, 1)"
        raise ParameterError(message("target", values, allowed, "geometric_targets makes such."))
    if not 0 <= eps <= values[-1]:
        allowed = f"0 <= eps <= {values[-1]:.3g}, the lowest TAF"
        raise ParameterError(message("eps", eps, allowed, "Lower eps."))
    return torch.tensor(values, dtype=torch.float32)


def check_gamma(gamma: float) -> None:
    if not 0 < gamma < math.inf:
        raise ParameterError(message("gamma", gamma, "a finite number > 0", "The paper's is 0.01."))


def _check_latents(
    b: Tensor, firing_rate: Tensor, max_pre: Tensor, group: Tensor, n_groups: int
) -> None:
    named = {"b": b, "firing_rate": firing_rate, "max_pre": max_pre, "group": group}
    for name, values in named.items():
        if values.ndim != 1 or values.shape != b.shape:
            allowed = f"one number per latent, as b {tuple(b.shape)}"
            fix = "Pass vectors of length d_sae."
            raise DataError(message(f"{name}.shape", tuple(values.shape), allowed, fix))
    if n_groups > len(b):
        fix = "A group needs a latent."
        raise ParameterError(message("len(target)", n_groups, f"<= d_sae={len(b)}", fix))
    ends = (int(group.min()), int(group.max())) if len(group) else (0, 0)
    if not 0 <= ends[0] <= ends[1] < n_groups:
        fix = "Give one TAF per group."
        raise DataError(message("(min, max) of group", ends, f"0..{n_groups - 1}", fix))
