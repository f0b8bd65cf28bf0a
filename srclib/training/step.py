"""One step of the training loop, for every SAE of a list.

x = source.batch(step); for each SAE gradients, clipping, activity counters and the threshold of
BatchTopK; one Adam update for all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..compute import parallel
from ..compute.place import LOOK_EVERY, on_cpu
from ..errors import DataError, SuiteError
from ..objectives import Context
from ..sources import SEED_STRIDE, Labelled, Source
from ..steps.pairs import Acts
from .backward import backward
from .config import TrainConfig, constrain_gradients, constrain_weights
from .state import Member, TrainState

THRESHOLD_EMA = 0.01  # share of the newest batch in BatchTopK's inference threshold (SAELens)


def update(state: TrainState, step: int, source: Source, cfg: TrainConfig) -> None:
    """One step for every SAE."""
    index, W = cfg.seed * SEED_STRIDE + step, state.members[0].sae.W_dec
    x = parallel.share(source.batch(index, cfg.n_batch), cfg.n_batch)
    x = x.to(W.device, W.dtype, non_blocking=True)
    labels = source.labels(index, cfg.n_batch) if isinstance(source, Labelled) else None
    labels = parallel.share(labels, cfg.n_batch)
    # A number that is read makes an accelerator wait. NaN stays NaN, so it is found a little later.
    look = on_cpu(W) or _looks(step + 1, cfg)
    for place, member in enumerate(state.members):
        sae, gradient = member.sae, state.flat.gradients[place]
        if member.control is not None:
            member.control.before_step(step, sae, x)
        dead = member.silent > cfg.dead_window
        if look:
            member.any_dead = bool(dead.any())
        context = Context(step, dead if member.any_dead else None, labels, member.room)
        member.newest = backward(member.objective, sae, x, context)
        parallel.mean_(gradient)
        if member.control is not None:
            member.control.after_pass(step, sae, member.newest.acts)
        constrain_gradients(sae, cfg)
        if not _clip(gradient, cfg.clip, look):
            raise not_finite(x, step, source, place)
        _count(member)
    state.adam.update(state.flat.gradient, cfg.lr_at(step))
    for member in state.members:
        constrain_weights(member.sae, cfg)
    state.step = step + 1


def _clip(gradient: Tensor, largest: float, look: bool) -> bool:
    """Scale down to a norm of `largest`; False where the norm was looked at and is not finite."""
    norm = torch.linalg.vector_norm(gradient)
    if not look:
        gradient *= (largest / norm).clamp_(max=1)
    elif float(norm) > largest:
        gradient *= largest / float(norm)
    return not look or math.isfinite(float(norm))


def _looks(n_done: int, cfg: TrainConfig) -> bool:
    """Whether this step is one after which numbers are read anyhow, or every 64th."""
    every = (cfg.log_every, cfg.eval_every, cfg.checkpoint_every, LOOK_EVERY)
    return any(due(n_done, each, cfg.n_steps) for each in every)


@torch.no_grad()
def _count(member: Member) -> None:
    """Activity counters, and BatchTopK's threshold: an average of the smallest kept score."""
    _, acts, smallest = member.newest
    fired = acts.firings() if isinstance(acts, Acts) else acts.sum(dim=0).abs_()
    fired = parallel.max_(fired.sign_())
    member.silent = (member.silent + 1).mul_(1 - fired)
    if smallest is None:
        return
    if isinstance(smallest, Tensor):  # on an accelerator: the same, without looking at it
        found: Any = torch.isfinite(smallest)
        smallest = torch.where(found, smallest.double(), member.ema)
    elif not (found := math.isfinite(smallest)):
        return
    member.ema = member.ema + THRESHOLD_EMA * (smallest - member.ema)
    member.ema_steps = member.ema_steps + found
    # Paper: the average starts at 0; here: that start is divided out, as in Adam,
    # because a short run would otherwise end with a threshold that is too low.
    memory = (1 - THRESHOLD_EMA) ** member.ema_steps
    member.sae.threshold.fill_(member.ema / (1 - memory)).nan_to_num_()


def not_finite(x: Tensor, step: int, source: Source, place: int) -> SuiteError:
    """Whose fault a loss that is not a number is; `member` is the SAE's place in the list."""
    if not bool(torch.isfinite(x).all()):
        return DataError(
            f"{type(source).__name__}: the batch of step {step} holds NaN or infinity. "
            "Allowed are finite activations; clean the source."
        )
    error = SuiteError(f"the loss is not finite at step {step}: training diverged. Lower lr.")
    error.member = place  # type: ignore[attr-defined]
    return error


def due(step: int, every: int, n_steps: int) -> bool:
    """At every multiple, and at the end."""
    return bool(every) and (step % every == 0 or step == n_steps)
