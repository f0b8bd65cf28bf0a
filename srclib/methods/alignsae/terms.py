"""The objective of AlignSAE (arXiv:2512.02004, section 3): named terms, each with a `start`.

    Reconstruction() + Sparsity(1e-3, start) + Binding(1.0, start)
    + Orthogonality(1e-2, start) + Value(0.5, start)

Before update `start` a term is zero. So the paper's two stages, reconstruction first and everything
after, are one run of `srclib.train` with one Adam.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from operator import sub
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...compute.place import on_cpu
from ...errors import DataError, ParameterError, message
from ...objectives import Context, Objective, _Addable
from ...sae import SAE, SAEOutput
from . import AlignSAE

Form = Literal["ce_pre", "ce_post", "mse"]


@dataclass(frozen=True)
class Reconstruction(_Addable):
    """Mean over batch and d_in of the squared error: the authors' form and weight 1.

    `objectives.SquaredError` sums over d_in, which would weigh it d_in times as much.
    """

    name = "rec"

    def error_weight(self, d_in: int) -> float:
        return 1 / d_in

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        return (x - out.x_hat).square().mean()


@dataclass(frozen=True)
class Sparsity(_Addable):
    """coefficient times the mean over batch and latents of |z|, from update `start` on.

    Of an AlignSAE the free latents only, of another SAE all. At the published 1e-3 next to no
    pressure: the mean divides it by the number of latents.
    """

    coefficient: float
    start: int = 0
    name = "l1"
    of_latents = True  # it reads no weights

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if context.step < self.start:
            return x.new_zeros(())
        acts = sae.free(out.acts) if isinstance(sae, AlignSAE) else out.acts
        return self.coefficient * acts.abs().mean()


@dataclass(frozen=True)
class _SlotTerm(_Addable, ABC):
    """coefficient times a loss from update `start` on; zero before."""

    coefficient: float
    start: int = 0
    name = "slots"
    of_latents = True  # of the weights, only those of the heads are read

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if not isinstance(sae, AlignSAE):
            seen, fix = type(sae).__name__, "A plain SAE has no slots."
            raise ParameterError(message("a term with slots on", seen, "AlignSAE", fix))
        if context.step < self.start:
            return x.new_zeros(())
        labels = _checked(sae, context.labels).to(x.device)  # on the CPU: looked at without waiting
        return self.coefficient * self.loss(sae, out, labels)

    @abstractmethod
    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        """The loss of a batch whose labels are checked, a scalar."""


@dataclass(frozen=True)
class Binding(_SlotTerm):
    """Slot k fires for relation k.

    form: "ce_pre" cross entropy of the slots' pre-activations; "ce_post" of the slots themselves
    (the paper's formula: a slot at zero has no gradient); "mse" against one-hot (its code).
    levels: numbers of slots of several ontologies, one after another, each with a loss of its own:
    relations first, then those of `labels(..., **levels)`; () is relations alone.
    """

    form: Form = "ce_pre"
    levels: tuple[int, ...] = ()
    name = "binding"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        slots = sae.slots(out.pre_acts if self.form == "ce_pre" else out.acts)  # [batch, K]
        sizes, told = self.levels or (sae.n_slots,), labels[:, [0, *range(2, labels.shape[1])]]
        n_levels = told.shape[1]
        # Only on the CPU: to read a number from an accelerator would make it wait at each step.
        most = (told.amax(dim=0) + 1).tolist() if on_cpu(told) else [0] * n_levels
        if sum(sizes) != sae.n_slots or len(sizes) != n_levels or min(map(sub, sizes, most)) < 0:
            seen = f"{sizes}, labels of {n_levels} levels with up to {most} concepts"
            allowed, fix = f"{n_levels} sizes that sum to n_slots={sae.n_slots}", "Add slots."
            raise ParameterError(message("levels", seen, allowed, fix))
        loss = F.mse_loss if self.form == "mse" else F.cross_entropy
        parts = [*zip(slots.split(sizes, dim=1), told.unbind(dim=1), strict=True)]
        if self.form == "mse":
            parts = [(part, F.one_hot(r, part.shape[1]).to(part)) for part, r in parts]
        return torch.stack([loss(part, r) for part, r in parts]).sum()


@dataclass(frozen=True)
class Orthogonality(_SlotTerm):
    """Slots do not vary together with free latents; says nothing of slots among themselves."""

    name = "ortho"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        return cross_covariance(sae.slots(out.acts), sae.free(out.acts))


@dataclass(frozen=True)
class Independence(_SlotTerm):
    """Free latents do not vary together: off-diagonal covariances, squared and summed."""

    name = "indep"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        return independence(sae.free(out.acts))


@dataclass(frozen=True)
class Value(_SlotTerm):
    """Cross entropy of the answer, from the value of the true relation's slot.

    All heads in one product: hidden rows stand in the block of their own head, the other blocks
    are 0. K times the multiply-adds of a product per head, and a third of its time at toy sizes,
    where a step is overhead; with a whole vocabulary a sixth slower.
    """

    name = "value"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        relation, answer = labels[:, 0], labels[:, 1]
        own = sae.slots(out.acts).gather(1, labels[:, :1])  # [batch, 1]
        mine = F.one_hot(relation, sae.n_slots).to(own.dtype)  # [batch, K]
        hidden = F.relu(torch.addcmul(sae.head_in_bias, own[:, :, None], sae.head_in))
        hidden = (hidden * mine[:, :, None]).flatten(1)  # [batch, K * d_head]
        bias = mine @ sae.head_out_bias
        return F.cross_entropy(torch.addmm(bias, hidden, sae.head_out.flatten(0, 1)), answer)


def objective(
    start: int,
    *,
    sparsity: float = 1e-3,
    binding: float = 1.0,
    orthogonality: float = 1e-2,
    independence: float = 0.0,
    value: float = 0.5,
    form: Form = "ce_pre",
    levels: tuple[int, ...] = (),
) -> Objective:
    """The paper's weights; a weight of 0 leaves its term out. `start`: first update of stage 2.

    Paper: its authors' code has independence 1e-2 (an appendix leaves it out above 10,000 free
    latents, the code does not); here 0 because the paper names no such term.
    """
    terms: list[Sparsity | _SlotTerm] = [
        Sparsity(sparsity, start),
        Binding(binding, start, form, levels),
        Orthogonality(orthogonality, start),
        Independence(independence, start),
        Value(value, start),
    ]
    return Objective((Reconstruction(), *(term for term in terms if term.coefficient)))


def cross_covariance(slots: Tensor, free: Tensor) -> Tensor:
    """|| S^T F / B ||_F^2 of centred slots [batch, K] and free latents [batch, F]: a scalar.

    The squared covariances of every slot with every free latent, summed: it grows with F.
    Paper: correlations; here covariances, as in its code, which leaves the standard deviations out.
    """
    # Centring one side is enough, and this is the small one: sum_b (s_b - mean) * constant = 0.
    covariance = (slots - slots.mean(dim=0)).T @ free / len(slots)  # [K, F]
    return covariance.square().sum()


def independence(free: Tensor) -> Tensor:
    """sum over i != j of (Z^T Z / B)_ij^2 with Z = free [batch, F], centred: a scalar.

    Exact, with batch x batch numbers where the definition asks for F x F, since
    ||Z^T Z||_F = ||Z Z^T||_F:

        || Z Z^T / B ||_F^2 - sum_i var_i^2

    At batch 64 and 100,000 latents that is 16 KB instead of 40 GB, and one product of
    batch^2 F multiply-adds. Rounding can leave a sum that should be 0 slightly below it.
    """
    z = free - free.mean(dim=0)  # [batch, F]
    gram = z @ z.T / len(z)  # [batch, batch]
    return gram.square().sum() - z.square().mean(dim=0).square().sum()


def _checked(sae: AlignSAE, labels: Tensor | None) -> Tensor:
    """The labels of a batch, refused where they are none of this SAE's ontology."""
    if labels is None or labels.ndim != 2 or labels.shape[1] < 2:
        seen = None if labels is None else tuple(labels.shape)
        fix = "Give the source labels: Rows(x, labels=alignsae.labels(...))."
        raise DataError(message("labels.shape", seen, "[batch, >= 2]: relation, answer", fix))
    sizes = ("relation", sae.n_slots), ("answer", sae.head_out.shape[2])
    least, most = (each.tolist()[:2] for each in labels.aminmax(dim=0))
    for (name, size), low, high in zip(sizes, least, most, strict=True):
        if low < 0 or high >= size:
            fix = "Make the SAE with a slot for each relation and an output for each answer."
            seen, allowed = (low if low < 0 else high), f"0 <= {name} < {size}"
            raise DataError(message(f"label {name}", seen, allowed, fix))
    return labels
