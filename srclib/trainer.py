"""The only training loop: several SAEs may share one stream of batches.

Per step: x = source.batch(step); for each SAE gradients, clipping, activity counters and the
threshold of BatchTopK; one Adam update for all. An SAE trained in a list ends with the same
bytes as one trained alone. Logging, evaluation and checkpoints never change a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from . import estimate, objectives, parallel
from .backward import backward, takes_pairs
from .config import (
    TrainConfig,
    check,
    constrain_gradients,
    constrain_weights,
    memory_needed,
)
from .control import Control, needs_no_table, refuse_shared_notes
from .errors import DataError, ParameterError, SuiteError, message
from .fast import Adam
from .objectives import Context, Objective, Term
from .pairs import Acts
from .place import LOOK_EVERY, on_cpu
from .sae import SAE
from .sources import SEED_STRIDE, Labelled, Source
from .sparse import Room
from .state import Flat, Member, TrainState, load_state, save_state

Observer = Callable[[dict[str, Any]], None]
THRESHOLD_EMA = 0.01  # share of the newest batch in BatchTopK's inference threshold (SAELens)


class TrainResult(NamedTuple):
    """What `train` returns."""

    sae: SAE | list[SAE]  # the object or list that was passed, trained in place
    history: list[dict[str, Any]]  # one flat record per SAE and logged step, a table's rows


def train(
    sae: SAE | Sequence[SAE],
    source: Source,
    cfg: TrainConfig,
    *,
    objective: Objective | Term | Sequence[Objective | Term | None] | None = None,
    control: Control | Sequence[Control | None] | None = None,
    observe: Observer | None = None,
    resume_from: str | Path | None = None,
) -> TrainResult:
    """Train in place, from the weights given, for `cfg.n_steps` updates.

    sae: one SAE, or several that share the batches (each has its own gradients, clipping,
        counters and moments). A parameter with `requires_grad=False` stays as it is.
    objective: by default the squared error, plus AuxK for TopK and BatchTopK; one for all SAEs
        or one per SAE.
    control: called before every step, may change the SAE (see `srclib.control`).
    observe: receives every history record as it is made.
    resume_from: a checkpoint folder (or the folder that holds them); continues to the same bytes
        as the undisturbed run.

    Raises ParameterError, DataError (widths differ, too few rows, NaN in a batch: step and
    source named), CheckpointError (a checkpoint of another run: the differing fields named).
    """
    saes = [sae] if isinstance(sae, SAE) else list(sae)
    result = TrainResult(sae if isinstance(sae, SAE | list) else saes, [])
    steps = training(saes, source, cfg, result.history, objective, control, observe, resume_from)
    with tqdm(total=cfg.n_steps, disable=None, leave=False) as bar:
        for n_done in steps:
            bar.update(n_done - bar.n)
    return result


def training(
    saes: list[SAE],
    source: Source,
    cfg: TrainConfig,
    history: list[dict[str, Any]],
    objective: Objective | Term | Sequence[Objective | Term | None] | None = None,
    control: Control | Sequence[Control | None] | None = None,
    observe: Observer | None = None,
    resume_from: str | Path | None = None,
) -> Iterator[int]:
    """`train`, which hands control back after every update with the number of updates made.

    So several trainings can keep step on one source (see `memo`). `history` is filled in place.
    """
    check(saes, source, cfg)
    parallel.start()
    state, resumes_here = start(saes, cfg, objective, control), False
    state.history = history
    try:
        if resume_from is not None:
            there, here = Path(resume_from).resolve(), cfg.checkpoint_dir
            load_state(state, there, source, cfg)
            resumes_here = here is not None and Path(here).resolve() in (there, there.parent)
        for step in _steps(state, source, cfg):
            update(state, step, source, cfg)
            evaluate = _due(step + 1, cfg.eval_every, cfg.n_steps)
            if evaluate or _due(step + 1, cfg.log_every, cfg.n_steps):
                _record(state, source, cfg, evaluate, observe)
            if cfg.checkpoint_every and (step + 1) % cfg.checkpoint_every == 0:
                save_state(state, source, cfg, fresh=not resumes_here)
                resumes_here = True
            yield step + 1
    finally:
        state.flat.release()


def _steps(state: TrainState, source: Source, cfg: TrainConfig) -> Iterable[int]:
    """The steps to make: all that are left, or a few that tell what they cost."""
    saes = [member.sae for member in state.members]
    kind = [
        (type(m.sae), m.sae.d_in, m.sae.d_sae, repr(m.sae.activation), repr(m.objective))
        for m in state.members
    ]
    n_bytes = memory_needed(saes, cfg) + estimate.reads(source, cfg.n_steps * cfg.n_batch)
    kept = sum(p.nbytes for sae in saes for p in sae.parameters())
    sizes = (cfg.n_batch, n_bytes, kept)
    return estimate.steps("SAEs", (type(source), *kind), state.step, cfg.n_steps, *sizes)


def start(
    saes: list[SAE],
    cfg: TrainConfig,
    objective: Objective | Term | Sequence[Objective | Term | None] | None = None,
    control: Control | Sequence[Control | None] | None = None,
) -> TrainState:
    """The state before the first update; arguments as for `train`."""
    wanted = _one_each(objective, len(saes), "objective")
    controls = _one_each(control, len(saes), "control")
    refuse_shared_notes(controls)
    members, room = [], Room()
    for sae, each, steering in zip(saes, wanted, controls, strict=True):
        terms = objectives.default(sae) if each is None else each
        whole = terms if isinstance(terms, Objective) else Objective((terms,))
        pairs = takes_pairs(whole, sae) and needs_no_table(steering)
        members.append(Member(sae.train(), whole, steering, room if pairs else None))
    flat = Flat(saes, [member.room is not None for member in members])
    return TrainState(members, flat, Adam(flat.vector, cfg.betas, cfg.eps))


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
            raise _not_finite(x, step, source, place)
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
    return any(_due(n_done, each, cfg.n_steps) for each in every)


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


def _record(
    state: TrainState, source: Source, cfg: TrainConfig, evaluate: bool, observe: Observer | None
) -> None:
    """Append one history record per SAE."""
    for index, member in enumerate(state.members):
        record: dict[str, Any] = {"step": state.step, "sae": index}
        record |= {name: float(loss) for name, loss in member.newest.losses.items()}
        acts = member.newest.acts
        n_active = acts.values.count_nonzero() if isinstance(acts, Acts) else (acts != 0).sum()
        record["l0"] = float(n_active / len(acts))
        record["dead"] = int((member.silent > cfg.dead_window).sum())
        record["k"] = getattr(member.sae.activation, "k", None)
        if evaluate:
            record |= evaluation(member.sae, source, cfg.n_batch, cfg.eval_batches)
        state.history.append(record)
        if observe is not None:
            observe(dict(record))


@torch.no_grad()
def evaluation(sae: SAE, source: Source, n_batch: int, n_batches: int) -> dict[str, float]:
    """Held-out squared error (summed over d_in) and L0, in `eval()` mode; changes nothing."""
    mode = sae.training
    x = torch.cat([source.batch(-1 - i, n_batch) for i in range(n_batches)]).to(sae.W_dec.device)
    out = sae.eval()(x)
    sae.train(mode)
    error = (out.x_hat - x).double().square().sum(dim=1).mean()
    l0 = (out.acts != 0).sum(dim=1).double().mean()
    return {"eval_mse": float(error), "eval_l0": float(l0)}


def _not_finite(x: Tensor, step: int, source: Source, place: int) -> SuiteError:
    """Whose fault a loss that is not a number is; `member` is the SAE's place in the list."""
    if not bool(torch.isfinite(x).all()):
        return DataError(
            f"{type(source).__name__}: the batch of step {step} holds NaN or infinity. "
            "Allowed are finite activations; clean the source."
        )
    error = SuiteError(f"the loss is not finite at step {step}: training diverged. Lower lr.")
    error.member = place  # type: ignore[attr-defined]
    return error


def _one_each(value: Any, n: int, name: str) -> list[Any]:
    """One value per SAE from one for all, or from a list of as many."""
    values = list(value) if isinstance(value, list | tuple) else [value] * n
    if len(values) != n:
        fix = "Give one for all SAEs, or one per SAE."
        raise ParameterError(message(f"len({name})", len(values), f"{n} values", fix))
    return values


def _due(step: int, every: int, n_steps: int) -> bool:
    """At every multiple, and at the end."""
    return bool(every) and (step % every == 0 or step == n_steps)
