"""What an SAE is trained to minimise: named terms that add up, as in `SquaredError() + L1(0.1)`.

A term is a callable `(sae, x, out, context) -> scalar`; a frozen dataclass, so that its `repr`
says all of its settings. Sparsity penalties are always explicit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from .activations import BatchTopK, JumpReLU, TopK
from .errors import ParameterError, message, positive
from .sae import SAE, SAEOutput
from .steps.auxk import auxk_rows
from .steps.sparse import Room


class Context(NamedTuple):
    """What a term may know of the run besides the batch."""

    step: int  # number of updates made so far
    dead: Tensor | None  # bool [d_sae], silent for more than `dead_window` steps; None: no latent
    labels: Tensor | None = None  # [batch, ...] what a labelled source says of the batch
    room: Room | None = None  # where a run computes with its active latents alone


class Term(Protocol):
    """One named summand of an objective."""

    @property
    def name(self) -> str: ...

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor: ...


class _Addable:
    def __add__(self: Term, other: Term | Objective) -> Objective:
        more = other.terms if isinstance(other, Objective) else (other,)
        return Objective((self, *more))


@dataclass(frozen=True)
class Objective:
    """A sum of terms with names of their own; AuxK alone is none."""

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            fix = "Add their coefficients instead."
            raise ParameterError(message("names of the terms", names, "each name once", fix))
        if set(names) <= {"auxk"}:
            fix = "Add SquaredError()."
            raise ParameterError(message("terms", names, "a term beside AuxK", fix))

    def __add__(self, other: Term | Objective) -> Objective:
        more = other.terms if isinstance(other, Objective) else (other,)
        return Objective(self.terms + more)


@dataclass(frozen=True)
class SquaredError(_Addable):
    """mean_b ||x - x_hat||^2, summed over d_in."""

    name = "mse"

    def error_weight(self, d_in: int) -> float:
        """What the squared error, summed over d_in, is multiplied by; other errors have it too."""
        return 1.0

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        return (x - out.x_hat).square().sum(dim=1).mean()


@dataclass(frozen=True)
class AuxK(_Addable):
    """Dead latents reconstruct what the others miss (Gao et al. 2024, as SAELens scales it).

    e = x - x_hat (no gradient); per input the k_aux = d_in // 2 largest raw pre-activations of
    dead latents decode to e_hat, without b_dec;
    loss = min(n_dead / k_aux, 1) mean_b ||e_hat - e||^2.  Zero where no latent is dead.
    """

    coefficient: float = 1.0
    name = "auxk"

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if context.dead is None:
            return x.new_zeros(())
        rows, gate, weight = auxk_rows(out.pre_acts.detach(), context.dead, sae.d_in)
        acts = out.pre_acts[:, rows] * gate  # [batch, n_dead]
        missing = acts @ sae.W_dec[rows] - (x - out.x_hat).detach()
        loss: Tensor = self.coefficient * weight * missing.square().sum(dim=1).mean()
        return loss


def _warm(step: int, warmup: int) -> float:
    return min(1.0, step / warmup) if warmup else 1.0


@dataclass(frozen=True)
class ScaledPenalty(_Addable, ABC):
    """coefficient * mean_b sum_i f(u_i) with u = acts ||W_dec||, warmed up over `warmup` steps."""

    coefficient: float
    warmup: int = 0
    name: ClassVar[str]

    @abstractmethod
    def f(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The function and its derivative, elementwise."""

    def phi(self, u: Tensor, step: int) -> tuple[Tensor, Tensor]:
        value, slope = self.f(u)
        now = self.coefficient * _warm(step, self.warmup)
        return now * value, now * slope

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        value, _ = self.phi(out.acts * sae.W_dec.norm(dim=1), context.step)
        return value.sum(dim=1).mean()


@dataclass(frozen=True)
class L1(ScaledPenalty):
    """coefficient * mean_b sum_i acts_i ||W_dec_i||."""

    name = "l1"

    def f(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u, torch.ones_like(u)


@dataclass(frozen=True)
class TanhSparsity(ScaledPenalty):
    """coefficient * mean_b sum_i tanh(c |acts_i| ||W_dec_i||)  (Sparse but Wrong, A.1; c = 4)."""

    c: float = 4.0
    name = "tanh"

    def f(self, u: Tensor) -> tuple[Tensor, Tensor]:
        # Paper: tanh(c |a|); here without the absolute value, as in the official code, because
        # acts are never negative and |a| has slope 0 at 0: inactive latents inside JumpReLU's
        # kernel would lose the very gradient that raises their thresholds.
        t = torch.tanh(self.c * u)
        return t, self.c * (1 - t.square())


@dataclass(frozen=True)
class L0Target(_Addable):
    """coefficient (L0 / target - 1)^2: JumpReLU's L0 is pulled to `target` from both sides.

    L0 is the batch mean; its straight-through gradient reaches the thresholds alone. The
    coefficient rises from 0 over `warmup` steps (dictionary_learning, JumpReLU trainer).
    """

    target: float
    coefficient: float = 1.0
    warmup: int = 0
    name = "l0_target"

    def __post_init__(self) -> None:
        positive("target", self.target, "It is the wanted mean number of active latents.")

    def of(self, l0: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The term and its derivative with respect to the L0."""
        now = self.coefficient * _warm(step, self.warmup)
        excess = l0 / self.target - 1
        return now * excess.square(), 2 * now * excess / self.target

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if not isinstance(sae.activation, JumpReLU):
            fix = "The other activations have no threshold to train."
            raise ParameterError(message("L0Target on", sae.activation, "JumpReLU", fix))
        l0 = sae.activation.l0(out.pre_acts, out.acts, sae.jump_threshold())
        return self.of(l0, context.step)[0]


def default(sae: SAE) -> Objective:
    """The squared error, and AuxK for TopK and BatchTopK."""
    if isinstance(sae.activation, TopK | BatchTopK):
        return SquaredError() + AuxK()
    return Objective((SquaredError(),))
