"""`train` for several runs at once: results are kept by content, both cores are used.

The key of one SAE's run covers its starting weights, the source, the configuration, the
objective, the control, the code that trains and the library versions. A killed notebook
continues where it was, and a sweep with one more sparsity trains one more SAE. Training in a
list gives the bytes that training alone would, so how the work is cut up changes nothing.
"""

from __future__ import annotations

import copy
import functools
import inspect
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from . import checkpoint, files, fingerprint
from .config import TrainConfig
from .engine import in_processes
from .errors import SuiteError
from .sae import SAE
from .sources import Source
from .state import frozen
from .trainer import TrainResult, one_each, train

if TYPE_CHECKING:
    from .control import Control
    from .objectives import Objective, Term

WORTH_A_PROCESS = 4_000  # SAE-steps, some six seconds of work; a worker takes two to start
WORTH_A_THREAD = 500_000_000  # multiply-adds of an encoder product


@dataclass
class Job:
    """The arguments of one call of `train`: SAEs that share a source and a configuration."""

    saes: list[SAE]
    source: Source
    cfg: TrainConfig
    objective: Objective | Term | Sequence[Objective | Term] | None = None
    control: Control | Sequence[Control] | None = None

    def part(self, indices: Sequence[int]) -> Job:
        """The same job with some of its SAEs."""

        def pick(value: Any) -> Any:
            return [value[i] for i in indices] if isinstance(value, list | tuple) else value

        saes = [self.saes[i] for i in indices]
        return Job(saes, self.source, self.cfg, pick(self.objective), pick(self.control))


def train_all(jobs: Sequence[Job], workers: int | None = None) -> list[TrainResult]:
    """Train every job's SAEs in place, or load what an equal run stored; results in job order.

    workers: processes of one thread each; by default one per core. The store is `build/cache`
    (`python -m srclib clean` empties it). Errors are those of `train`.
    """
    workers = workers or os.cpu_count() or 1
    named = [(job, keys(job)) for job in jobs]
    if os.environ.get("SRCLIB_RECOMPUTE"):  # `run --force`: nothing stored is trusted
        for name in [name for _, names in named for name in names]:
            shutil.rmtree(_place(name), ignore_errors=True)
    planned = set[str]()  # equal runs in one list are trained once
    todo = [chunk for job, names in named for chunk in _chunks(job, names, workers, planned)]
    work = sum(len(job.saes) * job.cfg.n_steps for job, _ in todo)
    alone = workers == 1 or len(todo) < 2 or work < WORTH_A_PROCESS
    finished = map(_run_here, todo) if alone else in_processes(workers, _run, todo)
    for _ in tqdm(finished, total=len(todo), disable=None, leave=False):
        pass
    return [_load(job, names) for job, names in named]


def keys(job: Job) -> list[str]:
    """The content key of each SAE's run."""
    cfg = {k: repr(v) for k, v in vars(job.cfg).items() if not k.startswith("checkpoint")}
    shared = [cfg, job.source.identity, fingerprint.versions()]
    described = []
    each = zip(
        job.saes, one_each(job.objective, job.saes), one_each(job.control, job.saes), strict=True
    )
    for sae, objective, control in each:
        parts = [sae, *_layers(job.source, "source"), *_layers(control, "inner")]
        parts += getattr(objective, "terms", [objective])
        code = _code(frozenset(type(part) for part in parts if part is not None))
        own: list[Any] = [
            checkpoint.describe(sae),
            frozen(sae),
            files.tensors_sha256(sae.state_dict().values()),
            repr(objective),
            repr(control),
            code,
        ]
        described.append([*own, *shared])
    return [files.sha256(files.canonical(each)) for each in described]


def _layers(outer: Any, name: str) -> Iterator[Any]:
    """A source or a control, and those that it wraps under this name."""
    while outer is not None:
        yield outer
        outer = getattr(outer, name, None)


@functools.cache
def _code(kinds: frozenset[type]) -> str:
    """Hash of the trainer's code and of what these classes are made of.

    Read once: the code that a process runs is the one it loaded, whatever is edited since.
    """
    ours = {kind.__module__ for kind in kinds if kind.__module__.split(".")[0] == "srclib"}
    theirs = {kind for kind in kinds if kind.__module__ not in ours}
    texts = sorted(fingerprint.source_hash(_source(kind)) for kind in theirs)
    modules = fingerprint.closure("srclib.trainer", *ours)
    return files.sha256(files.canonical([fingerprint.modules_hash(modules), texts]))


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError) as error:
        raise SuiteError(
            f"{kind.__name__} has no source file ({error}), so a stored run could not be told from "
            "one with other code. Define it in a module, or call `train`, which stores nothing."
        ) from None


Chunk = tuple[Job, list[str]]  # some SAEs of a job with the keys of their runs


def _chunks(job: Job, names: list[str], workers: int, planned: set[str]) -> Iterator[Chunk]:
    """What is neither stored nor planned yet, cut so that every worker gets a share.

    The cut is made before the stored ones are left out: a repeated call finds the same chunks,
    and with them the checkpoints that an interrupted one has left.
    """
    n = len(job.saes)
    cuts = min(workers, max(1, n // 2))
    for first in range(cuts):
        missing = []
        for i in range(first, n, cuts):
            if names[i] not in planned and not _stored(names[i]):
                planned.add(names[i])
                missing.append(i)
        if missing:
            yield job.part(missing), [names[i] for i in missing]


def _run(chunk: Chunk) -> None:
    """Train the SAEs of one chunk and store them; resume what an earlier process left."""
    job, names = chunk
    partial = _place(files.sha256("".join(names))).with_suffix(".partial")
    job = copy.deepcopy(job)  # the caller's SAEs are filled from the store, like everyone's
    every = max(1000, job.cfg.n_steps // 20)
    cfg = replace(job.cfg, checkpoint_every=every, checkpoint_dir=partial)
    with files.lock(partial.with_suffix(".lock"), "this training run"):
        if all(map(_stored, names)):
            return
        if os.environ.get("SRCLIB_RECOMPUTE"):
            shutil.rmtree(partial, ignore_errors=True)
        resume = partial if any(partial.glob("step-*/state.json")) else None
        result = train(
            job.saes,
            job.source,
            cfg,
            objective=job.objective,
            control=job.control,
            resume_from=resume,
        )
        ends = zip(job.saes, names, one_each(job.control, job.saes), strict=True)
        for index, (sae, name, control) in enumerate(ends):
            meta = checkpoint.describe(sae)
            meta["control"] = control.state() if control is not None else None
            meta["history"] = [r for r in result.history if r["sae"] == index]
            with files.folder_atomic(_place(name)) as folder:
                checkpoint.write_tensors(folder, "sae", dict(sae.state_dict()), meta)
        shutil.rmtree(partial, ignore_errors=True)
    partial.with_suffix(".lock").unlink(missing_ok=True)


def _run_here(chunk: Chunk) -> None:
    """In this process; with one thread where the matrices are small, since two would only spin."""
    job, _ = chunk
    largest = max(sae.d_in * sae.d_sae for sae in job.saes) * job.cfg.n_batch
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if largest > WORTH_A_THREAD else 1)
    try:
        _run(chunk)
    finally:
        torch.set_num_threads(threads)


def _load(job: Job, names: list[str]) -> TrainResult:
    """Fill a job's SAEs from the store, and its controls with the state they ended in."""
    history: list[dict[str, Any]] = []
    ends = zip(job.saes, names, one_each(job.control, job.saes), strict=True)
    for index, (sae, name, control) in enumerate(ends):
        tensors, meta = checkpoint.read_tensors(_place(name), "sae")
        sae.load_state_dict(tensors)
        sae.train()  # as `train` leaves it
        sae.activation = checkpoint.build_activation(meta["activation"])
        if control is not None:
            control.load(meta["control"])
        history += [{**record, "sae": index} for record in meta["history"]]
        _note(name, sae, job.cfg.seed, meta["history"])
    return TrainResult(job.saes, sorted(history, key=lambda r: (r["step"], r["sae"])))


def _note(name: str, sae: SAE, seed: int, history: list[dict[str, Any]]) -> None:
    """Add a line to the file that the driver lists a run's SAEs in, for `python -m srclib saes`."""
    if noted := os.environ.get("SRCLIB_SAES"):
        row = {"key": name, "d_in": sae.d_in, "d_sae": sae.d_sae, "index": {}, "seed": seed}
        row["l0"] = history[-1]["l0"] if history else None
        with open(noted, "a", encoding="utf-8") as file:
            file.write(files.canonical({**row, "activation": repr(sae.activation)}) + "\n")


def _place(name: str) -> Path:
    return files.place(name)


def _stored(name: str) -> bool:
    return (_place(name) / "sae.json").is_file()
