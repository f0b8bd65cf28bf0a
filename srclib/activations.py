"""Activation functions: which pre-activations survive. All shapes are [batch, d_sae].

Each is a frozen value object (its `repr` is its identity in every cache key). ReLU, TopK and
BatchTopK answer `support(scores)`: a float mask, 1 where a latent stays active, so that
`acts = pre_acts * support`. JumpReLU has a gradient for its threshold, hence a pass of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .compute import parallel
from .compute.fast import keep_largest
from .errors import ParameterError, message, positive


@dataclass(frozen=True)
class ReLU:
    """Every positive pre-activation survives; sparsity comes from a penalty such as `L1`."""

    def support(self, scores: Tensor) -> Tensor:
        return F.threshold(scores, 0.0, 0.0).sign()


@dataclass(frozen=True)
class TopK:
    """The `k` largest positive scores of each input survive."""

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not math.isfinite(self.k) or self.k % 1 or self.k < 1:
            fix = "Fractional sparsities need BatchTopK."
            raise ParameterError(message("k", self.k, "a whole number >= 1 for TopK", fix))

    def support(self, scores: Tensor) -> Tensor:
        values, latents = scores.topk(int(self.k), dim=-1, sorted=False)  # [batch, k]
        return torch.zeros_like(scores).scatter_(-1, latents, F.relu(values).sign())


@dataclass(frozen=True)
class BatchTopK:
    """The floor(k * batch) largest positive scores of the whole batch survive; k may be fractional.

    Bussmann et al. 2024. At inference the SAE compares scores with one stored threshold instead.
    """

    k: float

    def __post_init__(self) -> None:
        positive("k", self.k, "Use the wanted L0.")

    def n_kept(self, n_batch: int) -> int:
        """Entries that survive in a batch of `n_batch` inputs."""
        n = math.floor(self.k * n_batch + 1e-6)  # 1e-6: 1.1 * 10 is 11, not 10.999...
        if n < 1:
            fix = "Raise k or the batch size."
            raise ParameterError(message("k * n_batch", self.k * n_batch, "at least 1", fix))
        return n

    def support(self, scores: Tensor) -> Tensor:
        return self.select(scores)[0]

    def select(self, scores: Tensor) -> tuple[Tensor, float | Tensor]:
        """The support, and the smallest score that is kept; over the batch of all ranks."""
        n = self.n_kept(parallel.size() * (scores.numel() // scores.shape[-1]))
        if parallel.size() == 1:
            return keep_largest(scores, n)
        best = scores.flatten().topk(min(n, scores.numel()), sorted=False).values
        cut = parallel.gathered(best).topk(n).values[-1].clamp(min=torch.finfo(scores.dtype).tiny)
        mask = (scores >= cut).to(scores.dtype)  # equal scores at the cut are all kept
        return mask, -parallel.max_(-torch.where(mask > 0, scores, math.inf).min())


@dataclass(frozen=True)
class JumpReLU:
    """`acts = pre * 1[pre > theta]` with one trained threshold per latent (Rajamanoharan 2024).

    Straight-through gradient of the jump: d acts / d theta = -(theta / bandwidth) * kernel, where
    kernel = 1[|pre - theta| < bandwidth / 2].

    threshold: initial theta of every latent.
    l0_on: what the kernel of the differentiable L0 looks at: "f" the activation (as the
        dictionary_learning library does), "pre" the pre-activation (as the paper writes it).
    log_threshold: train log(theta), which keeps theta positive (SAELens 6.11), or theta itself.
    through_pre: let the kernel also pass gradient to the pre-activation (Anthropic's recipe).
    """

    threshold: float = 0.001
    bandwidth: float = 0.001
    l0_on: Literal["f", "pre"] = "f"
    log_threshold: bool = False
    through_pre: bool = False

    def __post_init__(self) -> None:
        positive("threshold", self.threshold, "Use 0.001.")
        positive("bandwidth", self.bandwidth, "Use 0.001.")
        if self.l0_on not in ("f", "pre"):
            raise ParameterError(message("l0_on", self.l0_on, '"f" or "pre"', 'Use "f".'))

    def acts(self, pre_acts: Tensor, theta: Tensor) -> Tensor:
        """[batch, d_sae], differentiable in both arguments; `theta` is [d_sae]."""
        return _Jump.apply(pre_acts, theta, self.bandwidth, self.through_pre)

    def l0(self, pre_acts: Tensor, acts: Tensor, theta: Tensor) -> Tensor:
        """Mean number of active latents per input, with a gradient for `theta` alone."""
        return _Step.apply(acts if self.l0_on == "f" else pre_acts, theta, self.bandwidth)


Activation = ReLU | TopK | BatchTopK | JumpReLU


def kernel(values: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """1 where a value is within half a bandwidth of its threshold, else 0.

    By signs, not by comparison: a boolean result and its conversion cost ten times more on CPU.
    """
    return (values - theta).abs_().neg_().add_(bandwidth / 2).sign_().relu_()


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, bandwidth: float, through: bool) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.bandwidth, ctx.through = bandwidth, through
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grad_outputs
        pre, theta = ctx.saved_tensors
        jump = grad * (theta / ctx.bandwidth) * kernel(pre, theta, ctx.bandwidth)
        grad_pre = grad * (pre > theta)
        return grad_pre + jump if ctx.through else grad_pre, -jump.sum(0), None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(values, theta)
        ctx.bandwidth = bandwidth
        return (values > theta).to(values.dtype).sum(-1).mean()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, None]:
        (grad,) = grad_outputs
        values, theta = ctx.saved_tensors
        near = kernel(values, theta, ctx.bandwidth) / ctx.bandwidth
        return None, -grad * near.mean(0), None
