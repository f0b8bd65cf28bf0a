"""Several language models at once, each in a process of one thread.

Training is one thread's work, so the second core would stand idle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..engines.engine import in_processes
from .train import Trajectory, supervised_checkpoints


def supervised_beside(
    lessons: Sequence[tuple[object, ...]], workers: int | None = None
) -> list[Trajectory]:
    """`supervised_checkpoints(*lesson)` of every lesson, with the same bits.

    workers: processes; by default one per lesson, but at most three per core. Three models on two
    cores take turns, so no core stands idle while the last of them is trained.
    """
    workers = min(workers or 3 * (os.cpu_count() or 1), len(lessons))
    if workers < 2:
        return [supervised_checkpoints(*lesson) for lesson in lessons]  # type: ignore[arg-type]
    return list(in_processes(workers, supervised_checkpoints, *zip(*lessons, strict=True)))
