"""Training runs of language models side by side, one process each: seeds and ablations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from .errors import DataError, message
from .lm.models import LMConfig
from .lm.pretraining import checkpoints
from .processes import in_processes

Trajectory = dict[int, Path]  # the folder of each checkpoint step, for `load_model`


def train_lms(
    configs: Sequence[LMConfig], tokens: Tensor | Sequence[Tensor], workers: int | None = None
) -> list[Trajectory]:
    """The checkpoints of every configuration, trained where an equal call has not stored them.

    tokens: [n_rows, context] for all, or one corpus per configuration. workers: processes of one
    thread; by default one per core. The bits are those of `pretraining.checkpoints`, one after
    another. Raises what that raises, DataError when corpora and configurations do not pair up.
    """
    corpora = [tokens] * len(configs) if isinstance(tokens, Tensor) else list(tokens)
    if len(corpora) != len(configs):
        fix = "Give one corpus for all, or one each."
        raise DataError(message("len(tokens)", len(corpora), f"{len(configs)}", fix))
    workers = min(workers or os.cpu_count() or 1, len(configs))
    if workers < 2:
        return list(map(checkpoints, configs, corpora))
    return list(in_processes(workers, checkpoints, configs, corpora))
