"""A short training run that mostly writes checkpoints, and a way to die in it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from srclib.activations import BatchTopK, TopK
from srclib.methods.auto_l0 import AutoL0
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.training.control import KSchedule, Trace
from srclib.training.trainer import TrainConfig, TrainResult, train

N_STEPS = 40
DISK = ("replace", "fsync", "unlink", "rmdir", "chmod")  # what `srclib.store.files` changes it with


def run(folder: Path, resume: bool) -> TrainResult:
    """Two SAEs that are steered and traced, with a checkpoint every second step."""
    saes = [SAE(8, 6, BatchTopK(3)), SAE(8, 6, TopK(2)), SAE(8, 6, BatchTopK(1))]
    cfg = TrainConfig(
        n_steps=N_STEPS,
        n_batch=16,
        lr=1e-2,
        log_every=5,
        checkpoint_every=2,
        checkpoint_dir=folder,
    )
    control = [AutoL0(n=3, every=7, window=3), Trace(9), KSchedule(((0, 1.0), (30, 3.0)))]
    resume_from = folder if resume else None
    return train(saes, ToyFeatures(6, 8, 0.3), cfg, control=control, resume_from=resume_from)


def run_or_die(folder: Path, resume: bool, die_at: int | None) -> None:
    """`run` on one thread; with `die_at`, SIGKILL just before that change of the disk (1-based)."""
    torch.set_num_threads(1)
    if die_at is not None:
        _die_at(die_at)
    run(folder, resume)


def _die_at(n: int) -> None:
    changes = 0

    def counted(function: Any) -> Any:
        def counting(*arguments: Any, **keywords: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return counting

    for name in DISK:
        setattr(os, name, counted(getattr(os, name)))
