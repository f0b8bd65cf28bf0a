"""How the gradients of an objective are found: in closed form where there is one, else by autograd.

Three ways, and a run takes the same one in every step unless AuxK has nothing to do: closed form;
closed form behind autograd that reaches back to the latents; autograd through everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..activations import BatchTopK
from ..compute import parallel
from ..compute.place import on_cpu
from ..errors import ParameterError
from ..objectives import AuxK, Context, L0Target, Objective, ScaledPenalty, SquaredError, Term
from ..sae import SAE, SAEOutput
from ..steps.gradients import OfLatents, Pass, closed_form_gradients
from ..steps.sparse import splits_latents, supports


class Closed(NamedTuple):
    """The terms of an objective, sorted by how their gradients are found."""

    error: Any
    penalties: list[ScaledPenalty]
    targets: list[L0Target]
    aux: float  # AuxK's coefficient
    of_latents: list[Any]  # they read latents and parameters of their own, no weights


def closed_form(terms: Sequence[Term], sae: SAE) -> Closed | None:
    """None where something needs autograd through the weights."""
    errors = [t for t in terms if hasattr(t, "error_weight")]
    penalties = [t for t in terms if isinstance(t, ScaledPenalty)]
    targets = [t for t in terms if isinstance(t, L0Target) and sae.theta is not None]
    auxiliary = [t for t in terms if isinstance(t, AuxK)]
    others = [t for t in terms if getattr(t, "of_latents", False)]
    if len(errors) != 1 or len(errors + penalties + targets + auxiliary + others) < len(terms):
        return None
    if (others or not isinstance(errors[0], SquaredError)) and not splits_latents(sae):
        return None
    return Closed(errors[0], penalties, targets, sum(t.coefficient for t in auxiliary), others)


def _through_latents(
    terms: list[Any], sae: SAE, x: Tensor, context: Context
) -> Callable[[Tensor, Tensor], OfLatents]:
    """What such terms say of (pre_acts, acts): autograd reaches these and parameters of their own.

    The gradients of these parameters are overwritten.
    """
    core = {id(p) for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, sae.theta)}
    own = [p for p in sae.parameters() if id(p) not in core]

    @torch.enable_grad()
    def ask(pre_acts: Tensor, acts: Tensor) -> OfLatents:
        pre_acts, acts = pre_acts.detach().requires_grad_(), acts.detach().requires_grad_()
        losses = {t.name: t(sae, x, SAEOutput(x, acts, pre_acts), context) for t in terms}
        total = torch.stack(list(losses.values())).sum()
        found: Sequence[Tensor | None] = [None] * (2 + len(own))
        if total.requires_grad:
            found = torch.autograd.grad(total, [pre_acts, acts, *own], allow_unused=True)
        for p, gradient in zip(own, found[2:], strict=True):
            assert p.grad is not None
            p.grad.zero_() if gradient is None else p.grad.copy_(gradient)
        return OfLatents({name: loss.detach() for name, loss in losses.items()}, *found[:2])

    return ask


def takes_pairs(objective: Objective, sae: SAE) -> bool:
    """Whether a run with this objective may compute with its active latents alone."""
    closed = closed_form(objective.terms, sae)
    if closed is None or closed.of_latents or not supports(sae):
        return False
    nothing = torch.zeros(1)  # where a latent is silent, a penalty must be 0
    return not any(bool(penalty.f(nothing)[0]) for penalty in closed.penalties)


def backward(objective: Objective, sae: SAE, x: Tensor, context: Context) -> Pass:
    """Overwrite the gradients of `sae`, every one of which must exist already.

    Reconstruction, AuxK and sparsity penalties have a closed form; everything else goes through
    autograd. Which of the two ran changes the result by rounding only.
    """
    terms = [t for t in objective.terms if context.dead is not None or not isinstance(t, AuxK)]
    closed = closed_form(terms, sae)
    if closed is not None:
        ask = _through_latents(closed.of_latents, sae, x, context) if closed.of_latents else None
        known = sae, x, context.step, closed.penalties, closed.targets, context.dead, closed.aux
        error = closed.error.name, closed.error.error_weight(sae.d_in)
        return closed_form_gradients(*known, context.room, error, ask)
    if parallel.size() > 1:
        fix = "Train without torchrun, or with SquaredError, AuxK, L1, TanhSparsity and L0Target."
        raise ParameterError(f"objective {objective}: no term of it splits over ranks. {fix}")
    out = sae(x)
    losses = {term.name: term(sae, x, out, context) for term in terms}
    sae.zero_grad(set_to_none=False)
    torch.stack(list(losses.values())).sum().backward()
    acts = out.acts.detach()
    smallest_kept: Any = None
    if isinstance(sae.activation, BatchTopK):
        scores = sae.scores(acts).detach()
        smallest_kept = torch.threshold(scores, 0.0, math.inf).min()
        smallest_kept = float(smallest_kept) if on_cpu(x) else smallest_kept
    return Pass({name: loss.detach() for name, loss in losses.items()}, acts, smallest_kept)
