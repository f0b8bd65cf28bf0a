"""`srclib run STUDY --estimate`: what a run would take, before anything is paid for."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from unittest import mock

from ..engines import estimate
from ..engines.engine import is_local
from ..engines.estimate import Counted, Rate
from ..errors import NotebookError, ParameterError, SuiteError, message
from ..store import files, syntax
from .gate import name_cell
from .ledger import Ledger
from .plan import Job, duration, plan

Failures = list[tuple[str, str]]  # cell, what it said


class Bill(NamedTuple):
    """What was met on the way through a notebook."""

    job: Job
    counted: Counted
    harvested: list[tuple[int, Rate]]  # tokens of each harvest, and what one takes
    failed: Failures
    took: float  # seconds that its cells ran, timed steps included

    def seconds(self, peak: float | None = None) -> tuple[float, float]:
        """Of training and harvest; of everything else. peak: TFLOP/s in place of timed steps."""

        def passes(found: list[tuple[int, Rate]]) -> float:
            return sum(_seconds(n * rate.flop, n * rate.seconds, peak) for n, rate in found)

        training = _trainings(self.counted, peak) + passes(self.harvested)
        return training, self.took - self.counted.tried + passes(self.counted.passes)


def bill(study: str, profile: str, overrides: Mapping[str, object]) -> Bill:
    """Run the cells of a notebook that compute, in a store that is thrown away.

    Raises NotebookError when the notebook refuses its parameters.
    """
    job, began = plan(study, profile, overrides), time.monotonic()
    unchecked = mock.patch.object(Ledger, "require")  # which nothing passes after twenty steps
    with _apart(), unchecked, estimate.counting() as counted:
        failed = _cells(job)
        return Bill(job, counted, estimate.harvested(), failed, time.monotonic() - began)


def show(study: str, profile: str, overrides: Mapping[str, object], peak: float | None) -> None:
    """Print the estimate of a run. peak: TFLOP/s that the machine reaches, in place of timed steps.

    Raises NotebookError when the notebook refuses its parameters; SuiteError for what cannot fit.
    """
    if peak is not None and not 0 < peak < math.inf:
        raise ParameterError(message("--peak", peak, "a finite number above 0", "See its help."))
    found = bill(study, profile, overrides)
    print(*lines(found, peak), sep="\n")
    for cell, told in found.failed:
        print(f"    not counted: {cell} needs what training would have made ({told})")
    _refuse(found.job, found.counted)


def lines(found: Bill, peak: float | None) -> Iterator[str]:
    counted, charges, (training, rest) = found.counted, found.counted.charges, found.seconds(peak)
    yield f"{found.job.name}, estimated:"
    for what in sorted({each.what for each in charges}):
        mine = [each for each in charges if each.what == what]
        tokens, flop = sum(c.tokens for c in mine), sum(c.flop for c in mine)
        yield f"    {what}: {len(mine)} trainings, {tokens:.3g} inputs, {flop:.3g} FLOP"
    if found.harvested:
        n_forwarded = sum(n for n, _ in found.harvested)
        forwarding = sum(n * rate.flop for n, rate in found.harvested)
        passes = f"{len(found.harvested)} for all SAEs together, {n_forwarded:.3g} tokens"
        yield f"    harvests: {passes}, {forwarding:.3g} FLOP"
    yield f"    stored already: {len(counted.stored)} results"
    yield f"    memory: {max((c.n_bytes for c in charges), default=0) / 1e9:.2g} GB per worker"
    yield f"    disk: {_disk(counted) / 1e6:.0f} MB"
    how = f"at {peak:g} TFLOP/s" if peak else f"from {estimate.STEPS} timed steps of each kind"
    yield f"    training and harvest: {duration(training)} ({how})"
    yield f"    texts, measures and tables: {duration(rest)}, as the cells took now"
    yield f"    in all: {duration(training + rest)}; figures are not counted"


def _trainings(counted: Counted, peak: float | None) -> float:
    """Workers share the trainings of a group; the longest of them is the least that it takes.

    Workers beyond the cores of this machine share those.
    """
    found, cores = 0.0, os.cpu_count() or 1
    for workers, charges in counted.groups:
        each = [_seconds(c.flop, c.seconds, peak) for c in charges]
        found += max(max(each, default=0.0), sum(each) / min(workers, cores))
    return found


def _seconds(flop: float, timed: float, peak: float | None) -> float:
    return flop / (1e12 * peak) if peak else timed


def _disk(counted: Counted) -> int:
    return sum(charge.kept for charge in counted.charges)


def _refuse(job: Job, counted: Counted) -> None:
    """What no training refuses for itself: a model beside it, and the disk."""
    from ..compute.place import place
    from ..training.config import memory_of

    device = place().training
    largest, there = max((c.n_bytes for c in counted.charges), default=0), memory_of(device)
    if largest > there:
        raise SuiteError(
            f"{job.name} needs {largest / 1e9:.1f} GB in one worker and the {device.type} has "
            f"{there / 1e9:.1f} GB. Lower the width of the SAEs, their batch, or dtype=bfloat16."
        )
    needed, free = _disk(counted), shutil.disk_usage(files.make(job.folder.parent)).free
    if needed > free:
        raise SuiteError(
            f"{job.name} leaves {needed / 1e9:.1f} GB of SAEs and language models and "
            f"{free / 1e9:.1f} GB are free. Lower the number of seeds or the widths, or free space."
        )


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """A store that is thrown away, behind which the real one is read."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="srclib-estimate-") as folder:
        os.environ |= {"SRCLIB_BEHIND": str(files.build()), "SRCLIB_BUILD": folder}
        os.environ |= {"MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}
        if not is_local():  # a step of ours is timed
            del os.environ["SRCLIB_ENGINE"]
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _cells(job: Job) -> Failures:
    """Run the cells that compute, in this process; those that fail are named and passed over.

    Raises NotebookError when one of the first does: then the parameters are refused.
    """
    from IPython.core.interactiveshell import InteractiveShell

    shell, failed = InteractiveShell.instance(), Failures()
    cells = json.loads(job.notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    computing = set(syntax.computing(code))
    settings = "\n".join(f"{name} = {value!r}" for name, value in job.given.items())
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or source not in computing:
            continue
        told = _run(shell, source)
        if told and number and "srclib.parameters(" in source:
            raise NotebookError(f"{job.name}: {told}")
        failed += [(name_cell(number, source), told)] if told else []
        if "parameters" in cell["metadata"].get("tags", []):
            _run(shell, f"# Parameters\n{settings}")
    return failed


def _run(shell: object, source: str) -> str:
    """What a cell died of, in a line; nothing where it did not."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = shell.run_cell(source, store_history=True)  # type: ignore[attr-defined]
    error = result.error_before_exec or result.error_in_exec
    if error is None:
        return ""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
