"""The only training loop: several SAEs may share one stream of batches.

One step is in `step`. An SAE trained in a list ends with the same bytes as one trained alone.
Logging, evaluation and checkpoints never change a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from .. import objectives
from ..compute import parallel
from ..compute.fast import Adam
from ..engines import estimate
from ..errors import ParameterError, message
from ..objectives import Objective, Term
from ..sae import SAE
from ..sources import Source
from ..steps.pairs import Acts
from ..steps.sparse import Room
from .backward import takes_pairs
from .config import TrainConfig, check, memory_needed
from .control import Control, needs_no_table, refuse_shared_notes
from .state import Flat, Member, TrainState, load_state, save_state
from .step import due, update

Observer = Callable[[dict[str, Any]], None]


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
    control: called before every step, may change the SAE (see `srclib.training.control`).
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

    So several trainings can keep step on one source (see `srclib.runs.memo`). `history` is filled
    in place.
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
            evaluate = due(step + 1, cfg.eval_every, cfg.n_steps)
            if evaluate or due(step + 1, cfg.log_every, cfg.n_steps):
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


def _one_each(value: Any, n: int, name: str) -> list[Any]:
    """One value per SAE from one for all, or from a list of as many."""
    values = list(value) if isinstance(value, list | tuple) else [value] * n
    if len(values) != n:
        fix = "Give one for all SAEs, or one per SAE."
        raise ParameterError(message(f"len({name})", len(values), f"{n} values", fix))
    return values
