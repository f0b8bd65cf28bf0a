"""Run one notebook through papermill in a kernel of its own.

The kernel sees this checkout first on its path, the checkout as its working directory,
and no more threads than it may use. It ends with this process: on an exception it is
shut down here, and after SIGKILL ipykernel notices within a second that its parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from .. import files
from ..errors import NotebookError
from .gate import name_cell

# ipykernel warns at every start that it talks over TCP; on one machine that says nothing
QUIET_START = ["--IPKernelApp.log_level=ERROR"]


def execute(
    notebook: Path,
    output: Path,
    values: Mapping[str, Any],
    *,
    timeout: int,
    environment: Mapping[str, str],
    label: str,
) -> nbformat.NotebookNode:
    """Execute `notebook` with injected parameters and return it with its outputs.

    `output` is saved after every cell, so it shows where a failed run stopped. `timeout`
    is the limit for one cell in seconds. `environment` is added to the kernel's variables
    and `label` names the progress bar, which is shown on terminals only. Raises
    NotebookError, naming the cell, when a cell fails or hangs or the kernel dies.
    """
    progress = {"desc": label} if sys.stderr.isatty() else False
    try:
        with _environment(environment):
            return papermill.execute_notebook(
                _literal(notebook),
                _literal(output),
                parameters=dict(values),
                kernel_name="python3",
                language="python",
                cwd=files.root(),
                execution_timeout=timeout,
                progress_bar=progress,
                extra_arguments=QUIET_START,
                shutdown_kernel="immediate",  # a polite request makes busy kernels print tracebacks
            )
    except papermill.PapermillExecutionError as error:
        what = (str(error.evalue).splitlines() or [""])[0][:400]
        raise NotebookError(
            f"{name_cell(error.cell_index, error.source)} stopped with {error.ename}: {what}"
        ) from None
    except CellTimeoutError:
        raise NotebookError(
            f"{_last_started(output)} ran longer than {timeout} s, the limit for one cell. "
            "Give it more time with --timeout SECONDS."
        ) from None
    except DeadKernelError:
        raise NotebookError(
            f"the kernel died in {_last_started(output)}, most often for want of memory. "
            "Close other programs or lower the parameters that set sizes."
        ) from None
    except (NoSuchKernel, RuntimeError) as error:
        raise NotebookError(
            f"the kernel did not start ({error}). Is ipykernel installed in this environment?"
        ) from None


def _literal(path: Path) -> str:
    """A path for papermill, which would fill in braces like a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_started(output: Path) -> str:
    """The cell at which a run that did not end by itself was stopped."""
    cells = nbformat.read(output, as_version=4).cells
    started = [i for i, cell in enumerate(cells) if cell.metadata.papermill.get("start_time")]
    return name_cell(started[-1], cells[started[-1]].source) if started else "no cell"


@contextlib.contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """Change this process's variables, which the kernel inherits, for the time of a block."""
    before = dict(os.environ)
    paths = [str(files.root()), *filter(None, [before.get("PYTHONPATH")])]
    os.environ.update(extra, PYTHONPATH=os.pathsep.join(paths))
    os.environ.pop("MPLBACKEND", None)  # a set backend would keep figures out of the notebook
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
