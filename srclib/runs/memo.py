"""Finished runs, kept under a key of their content, and computed on all cores where missing.

Training in a list gives the bytes of training alone, so a run is stored by itself however it was
grouped, and a killed sweep goes on where it was.
"""

from __future__ import annotations

import copy
import heapq
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..compute import parallel
from ..compute.place import place
from ..engines import estimate
from ..engines.engine import compute, is_local
from ..errors import CheckpointError, ParameterError, SuiteError, message
from ..store import checkpoint, files, locks
from ..training.config import memory_needed, memory_of
from ..training.control import refuse_shared_notes
from ..training.trainer import training
from .keys import key_of, layers

if TYPE_CHECKING:
    from .run import Run

    Chunk = list[tuple[int, str, Run]]  # place in the sweep, key, run: they share their batches
    Team = list[Chunk]  # chunks that read the same blocks of activations, in one process

WORTH_A_PROCESS = 4_000  # SAE-steps, some six seconds of work; a worker takes two to start
A_PROCESS = 2**29  # bytes that a worker takes before it trains anything
WORTH_A_THREAD = 500_000_000  # multiply-adds of an encoder product


def train_all(runs: Sequence[Run], workers: int | None = None) -> None:
    """Train every run's SAE in place, or load what an equal run stored. Errors: see `sweep`.

    The store is `build/cache`; `python -m srclib clean` empties it.
    """
    parallel.start()
    new = {i: run for i, run in enumerate(runs) if not run.key}  # trained once, in any sweep
    refuse_shared_notes([run.control for run in new.values()])
    _refuse_used(runs)
    keys = {i: key_of(run) for i, run in new.items()}
    workers = workers or place().workers
    if os.environ.get("SRCLIB_RECOMPUTE"):  # `run --force`: nothing stored is trusted
        for stored in map(files.place, keys.values()):
            if stored.is_relative_to(files.build()):  # never of the store behind it
                shutil.rmtree(stored, ignore_errors=True)
    todo = list(_teams(_chunks(new, keys, workers)))
    parallel.barrier()  # every rank has looked at the store before one of them changes it
    estimate.found(keys.values())
    if parallel.ranks() > 1:  # started by torchrun: each rank trains its share
        with parallel.alone():
            for team in parallel.mine(todo):
                _run_here(team)
        parallel.barrier()
        todo = []
    work = sum(run.config.n_steps for team in todo for chunk in team for _, _, run in chunk)
    alone = not todo or (is_local() and (workers == 1 or len(todo) < 2 or work < WORTH_A_PROCESS))
    finished: Iterable[Any] = map(_run_here, todo)
    if not alone:
        own = [[key for chunk in team for _, key, _ in chunk] for team in todo]
        finished = compute(_run, todo, own, min(workers, _that_fit(todo)))
    for _ in tqdm(finished, total=len(todo), disable=None, leave=False):
        pass
    for i, run in new.items():
        _load(run, keys[i])


def _that_fit(todo: Sequence[Team]) -> int:
    """Workers that fit into the memory of this machine side by side, one at least."""
    widest = max(
        sum(memory_needed([run.sae for _, _, run in chunk], chunk[0][2].config) for chunk in team)
        for team in todo
    )
    return max(1, memory_of(torch.device("cpu")) * 9 // 10 // (widest + A_PROCESS))


# by address, the SAEs of finished runs and the controls that hold their notes
_USED: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def _used(part: Any) -> bool:
    return _USED.get(id(part)) is part


def _refuse_used(runs: Sequence[Run]) -> None:
    """One SAE belongs to one run: another would overwrite what the first has learnt."""
    new = [run.sae for run in runs if not run.key]
    if len(set(map(id, new))) < len(new) or any(map(_used, new)):
        fix = "Make one SAE per run, or pass copy.deepcopy of a trained one."
        raise ParameterError(message("sae", "one object in two runs", "an SAE of its own", fix))
    if any(_used(c) for run in runs if not run.key for c in layers(run.control, "inner")):
        fix = "Make a new one."
        raise ParameterError(message("control", "one with the notes of a run", "a new one", fix))


def _chunks(new: dict[int, Run], keys: dict[int, str], workers: int) -> Iterator[Chunk]:
    """What is neither stored nor planned yet, cut so that every worker gets a share.

    Runs with equal sources and configurations share their batches. The cut is made before the
    stored ones are left out: a repeated call finds the same chunks, and with them the checkpoints
    that an interrupted one has left.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    sources = {id(run.source): run.source for run in new.values()}
    identity = {i: files.canonical(source.identity) for i, source in sources.items()}
    for i, run in new.items():
        groups.setdefault((identity[id(run.source)], repr(run.config)), []).append(i)
    planned = set[str]()  # equal runs are trained once
    for group in groups.values():
        cuts = min(workers, max(1, len(group) // 2))
        cuts = cuts if _blocks(new[group[0]]) is None else 1
        for first in range(cuts):
            chunk = []
            for i in group[first::cuts]:
                if keys[i] not in planned and not _stored(keys[i]):
                    planned.add(keys[i])
                    chunk.append((i, keys[i], new[i]))
            if chunk:
                yield chunk


def _blocks(run: Run) -> Any:
    """The blocks of a language model's activations that a run reads, None where it reads others."""
    return next((s.blocks for s in layers(run.source, "source") if hasattr(s, "blocks")), None)


def _teams(chunks: Iterable[Chunk]) -> Iterator[Team]:
    """Chunks that read the same blocks together, so that each is computed once."""
    teams: dict[str, Team] = {}
    for chunk in chunks:
        blocks = _blocks(chunk[0][2])
        name = chunk[0][1] if blocks is None else files.canonical(blocks.identity)
        teams.setdefault(name, []).append(chunk)
    yield from teams.values()


def _run(team: Team) -> None:
    """Train the chunks of a team in step: whoever has read least goes on."""
    waiting = [(0, i, _training(chunk)) for i, chunk in enumerate(team)]
    timed = estimate.COUNTED is not None  # then one after another: a clock runs in each
    while waiting:
        _, i, steps = heapq.heappop(waiting)
        if (n_read := next(steps, None)) is not None:
            heapq.heappush(waiting, (-1 if timed else n_read, i, steps))


def _training(chunk: Chunk) -> Iterator[int]:
    """Train the SAEs of one chunk and store them; resume what an earlier process left.

    Yields the number of inputs read after every step.
    """
    places, keys, runs = zip(*chunk, strict=True)
    source, config = runs[0].source, runs[0].config
    partial = files.place(files.sha256("".join(keys))).with_suffix(".partial")
    # copies: the caller's SAEs are filled from the store, like everyone's
    saes, controls = copy.deepcopy(([run.sae for run in runs], [run.control for run in runs]))
    saes = [sae.to(place().training) for sae in saes]
    every = max(1000, config.n_steps // 20)
    cfg = replace(config, checkpoint_every=every, checkpoint_dir=partial)
    with locks.lock(partial.with_suffix(".lock"), "this training run"):
        if all(map(_stored, keys)):
            return
        if os.environ.get("SRCLIB_RECOMPUTE"):
            shutil.rmtree(partial, ignore_errors=True)
        resume = partial if any(partial.glob("step-*/state.json")) else None
        objective, history = [run.objective for run in runs], list[dict[str, Any]]()
        try:
            watched = (objective, controls, None, resume)
            for n_done in training(saes, source, cfg, history, *watched):
                yield n_done * cfg.n_batch
        except SuiteError as error:  # whose run it was, where the trainer can tell
            member = getattr(error, "member", 0 if len(runs) == 1 else None)
            error.run = None if member is None else places[member]  # type: ignore[attr-defined]
            raise
        for index, (sae, key, control) in enumerate(zip(saes, keys, controls, strict=True)):
            meta = checkpoint.describe(sae) | {"key": key}
            meta["control"] = control.state() if control is not None else None
            meta["history"] = [r for r in history if r["sae"] == index]
            with files.folder_atomic(files.place(key)) as folder:
                checkpoint.write_tensors(folder, "sae", dict(sae.state_dict()), meta)
        shutil.rmtree(partial, ignore_errors=True)
    partial.with_suffix(".lock").unlink(missing_ok=True)


def _run_here(team: Team) -> None:
    """In this process; with one thread where the matrices are small, since two would only spin."""
    runs = [run for chunk in team for _, _, run in chunk]
    largest = max(run.sae.d_in * run.sae.d_sae * run.config.n_batch for run in runs)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if largest > WORTH_A_THREAD else 1)
    try:
        _run(team)
    finally:
        torch.set_num_threads(threads)


def _load(run: Run, key: str) -> None:
    """Fill a run's SAE from the store, and its control with the state it ended in."""
    tensors, meta = checkpoint.read_tensors(files.place(key), "sae")
    if meta.get("key") != key:
        fix = "Delete it, and run again, which makes it anew."
        raise CheckpointError(f"{files.place(key)}: holds what was stored elsewhere. {fix}")
    run.sae.load_state_dict(tensors)
    run.sae.train()  # as `train` leaves it
    run.sae.activation = checkpoint.build_activation(meta["activation"])
    if run.control is not None:
        run.control.load(meta["control"])
    _USED[id(run.sae)] = run.sae
    if run.control is not None and run.control.state():
        _USED[id(run.control)] = run.control
    run.history = [{k: v for k, v in row.items() if k != "sae"} for row in meta["history"]]
    run.key = key


def _stored(key: str) -> bool:
    return (files.place(key) / "sae.json").is_file()
