"""AlignSAE (arXiv:2512.02004): some latents are reserved, one per concept of a given ontology.

The last `n_slots` latents are the slots; the others are free. An objective adds named terms:

    Reconstruction() + Sparsity(1e-3, start) + Binding(1.0, start)
    + Orthogonality(1e-2, start) + Value(0.5, start)

Every supervised term has a `start`: before that update it is zero. So the paper's two stages,
reconstruction first and everything after, are one run of `srclib.train` with one Adam. Labels are
[batch, 2], relation and answer, from `Rows(x, labels=...)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import rng, slot_losses
from .activations import ReLU
from .errors import DataError, ParameterError, message
from .objectives import Context, Objective, _Addable
from .sae import SAE, SAEOutput

LINEAR_LAYER_NORM = 3**-0.5  # norm of a row of torch's nn.Linear at its start, whatever d_in


class AlignSAE(SAE):
    """An SAE whose last `n_slots` latents are reserved, and a small head behind each of them.

    The head of slot k predicts the answer of relation k from the slot's value alone:
    1 -> `d_head` (ReLU) -> `n_answers`. It learns together with the SAE and is otherwise unused.

    linear: no ReLU anywhere (the authors' code); by default slots and free latents are ReLU.

    Raises ParameterError for more slots than latents.
    """

    linear: Tensor  # a buffer, so that it is part of what is stored and of every key

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        n_slots: int,
        n_answers: int,
        *,
        d_head: int = 32,
        linear: bool = False,
        seed: int = 0,
    ) -> None:
        # Paper: the input is neither centred nor scaled, W_dec starts as the transpose of W_enc.
        norm = LINEAR_LAYER_NORM
        super().__init__(d_in, d_sae, ReLU(), seed=seed, decoder_norm=norm, subtract_b_dec=False)
        if not 1 <= n_slots < d_sae:
            fix = "Leave some latents free: lower n_slots or raise d_sae."
            raise ParameterError(message("n_slots", n_slots, f"1 <= n_slots < d_sae={d_sae}", fix))
        for name, size in (("n_answers", n_answers), ("d_head", d_head)):
            if size < 1:
                raise ParameterError(message(name, size, "an integer >= 1", "Raise it."))
        self.n_slots, self.n_free = n_slots, d_sae - n_slots
        self.register_buffer("linear", torch.tensor(linear))

        def uniform(name: str, *shape: int, fan_in: int) -> nn.Parameter:
            numbers = torch.rand(*shape, generator=rng.stream(seed, "align", name))
            return nn.Parameter((2 * numbers - 1) * fan_in**-0.5)  # as nn.Linear starts

        self.head_in = uniform("in", n_slots, d_head, fan_in=1)
        self.head_in_bias = uniform("in bias", n_slots, d_head, fan_in=1)
        self.head_out = uniform("out", n_slots, d_head, n_answers, fan_in=d_head)
        self.head_out_bias = uniform("out bias", n_slots, n_answers, fan_in=d_head)

    @torch.no_grad()
    def select(self, pre_acts: Tensor) -> tuple[Tensor, float | None]:
        return (torch.ones_like(pre_acts), None) if self.linear else super().select(pre_acts)

    def slots(self, latents: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, n_slots]."""
        return latents[:, self.n_free :]

    def free(self, latents: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, n_free]."""
        return latents[:, : self.n_free]

    def answer_logits(self, relation: int, value: Tensor) -> Tensor:
        """What the head of one slot says: values [batch] -> [batch, n_answers]."""
        hidden = F.relu(value[:, None] * self.head_in[relation] + self.head_in_bias[relation])
        return torch.addmm(self.head_out_bias[relation], hidden, self.head_out[relation])


def labels(relation: Tensor, answer: Tensor, n_relations: int) -> Tensor:
    """[n, 2] int64 for `Rows(x, labels=...)`.

    Raises DataError for a relation outside the ontology, or one of it without any row: its slot
    would learn nothing.
    """
    outside = ((relation < 0) | (relation >= n_relations)).nonzero().flatten()
    if len(outside):
        i = int(outside[0])
        allowed = f"0 <= relation < {n_relations}, the ontology"
        fix = "Add the relation to the ontology, or drop the row."
        raise DataError(message(f"relation of row {i}", int(relation[i]), allowed, fix))
    missing = set(range(n_relations)) - set(relation.tolist())
    if missing:
        fix = "Ask about it, or take it out of the ontology."
        allowed = "none: each needs a training question"
        raise DataError(message("relations without a row", sorted(missing), allowed, fix))
    if len(answer) != len(relation) or bool((answer < 0).any()):
        allowed = f"{len(relation)} indices >= 0, one per row"
        seen = (len(answer), int(answer.min()) if len(answer) else None)
        raise DataError(message("answers (number, smallest)", seen, allowed, "Index them."))
    return torch.stack([relation, answer], dim=1).long()


@dataclass(frozen=True)
class Reconstruction(_Addable):
    """Mean over batch and d_in of the squared error: the authors' form and weight 1.

    `objectives.SquaredError` sums over d_in, which would weigh it d_in times as much.
    """

    name = "rec"

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

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        if not isinstance(sae, AlignSAE):
            fix = "A plain SAE has no slots."
            seen = type(sae).__name__
            raise ParameterError(message("a term with slots on", seen, "AlignSAE", fix))
        if context.step < self.start:
            return x.new_zeros(())
        return self.coefficient * self.loss(sae, out, _checked(sae, context.labels))

    @abstractmethod
    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        """The loss of a batch whose labels are checked, a scalar."""


@dataclass(frozen=True)
class Binding(_SlotTerm):
    """Slot k fires for relation k.

    form: "ce_pre" cross entropy of the slots' pre-activations; "ce_post" of the slots themselves
    (the paper's formula: a slot at zero has no gradient); "mse" against one-hot (its code).
    """

    form: Literal["ce_pre", "ce_post", "mse"] = "ce_pre"
    name = "binding"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        slots = sae.slots(out.pre_acts if self.form == "ce_pre" else out.acts)  # [batch, K]
        if self.form == "mse":
            return F.mse_loss(slots, F.one_hot(labels[:, 0], sae.n_slots).to(slots.dtype))
        return F.cross_entropy(slots, labels[:, 0])


@dataclass(frozen=True)
class Orthogonality(_SlotTerm):
    """Slots do not vary together with free latents; says nothing of slots among themselves."""

    name = "ortho"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        return slot_losses.cross_covariance(sae.slots(out.acts), sae.free(out.acts))


@dataclass(frozen=True)
class Independence(_SlotTerm):
    """Free latents do not vary together: off-diagonal covariances, squared and summed."""

    name = "indep"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        return slot_losses.independence(sae.free(out.acts))


@dataclass(frozen=True)
class Value(_SlotTerm):
    """Cross entropy of the answer, from the value of the true relation's slot.

    One matrix product per relation, over its own rows: what all heads on all rows would cost,
    divided by their number.
    """

    name = "value"

    def loss(self, sae: AlignSAE, out: SAEOutput, labels: Tensor) -> Tensor:
        slots, total = sae.slots(out.acts), out.acts.new_zeros(())
        for relation in labels[:, 0].unique().tolist():
            rows = (labels[:, 0] == relation).nonzero().flatten()
            logits = sae.answer_logits(relation, slots[rows, relation])
            total = total + F.cross_entropy(logits, labels[rows, 1], reduction="sum")
        return total / len(labels)


def objective(
    start: int,
    *,
    sparsity: float = 1e-3,
    binding: float = 1.0,
    orthogonality: float = 1e-2,
    independence: float = 0.0,
    value: float = 0.5,
    form: Literal["ce_pre", "ce_post", "mse"] = "ce_pre",
) -> Objective:
    """The paper's weights; a weight of 0 leaves its term out. `start`: first update of stage 2.

    Paper: independence 1e-2; here 0, as its authors' code does above 10,000 free latents.
    """
    terms: list[Sparsity | _SlotTerm] = [
        Sparsity(sparsity, start),
        Binding(binding, start, form),
        Orthogonality(orthogonality, start),
        Independence(independence, start),
        Value(value, start),
    ]
    return Objective((Reconstruction(), *(term for term in terms if term.coefficient)))


def _checked(sae: AlignSAE, labels: Tensor | None) -> Tensor:
    """The labels of a batch, refused where they are none of this SAE's ontology."""
    if labels is None or labels.ndim != 2 or labels.shape[1] != 2:
        seen = None if labels is None else tuple(labels.shape)
        fix = "Give the source labels: Rows(x, labels=align.labels(...))."
        raise DataError(message("labels.shape", seen, "[batch, 2]: relation, answer", fix))
    for column, (name, size) in enumerate(
        (("relation", sae.n_slots), ("answer", sae.head_out.shape[2]))
    ):
        values = labels[:, column]
        worst = values.min() if bool((values < 0).any()) else values.max()
        if not 0 <= int(worst) < size:
            fix = "Make the SAE with a slot for each relation and an output for each answer."
            raise DataError(message(f"label {name}", int(worst), f"0 <= {name} < {size}", fix))
    return labels
