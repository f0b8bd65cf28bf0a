"""The processes of a run: this interpreter's, deaf to a user's configuration, and gone with us.

A kernel that reads `~/.ipython` or takes the first kernelspec named python3 on `JUPYTER_PATH` runs
code that no hash covers: a startup file that seeds torch changes numbers without a word.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from ..errors import NotebookError, message
from ..store import fingerprint

# As ipykernel_launcher, which keeps the working directory out of the imports as -P does, but for
# the folders of the machine and of the environment that IPython would also take startup files from.
# A warning is told without the path that it came from, which no page may hold.
_KERNEL = """
import warnings
warnings.formatwarning = lambda text, kind, *place, **line: f"{kind.__name__}: {text}\\n"
from IPython.core.application import ENV_CONFIG_DIRS, SYSTEM_CONFIG_DIRS
ENV_CONFIG_DIRS.clear(), SYSTEM_CONFIG_DIRS.clear()
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""
# Nobody writes into its input, which ends with the process that holds the other end.
_BOUND = """
import os, pkgutil, sys, threading
def watch():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
pkgutil.resolve_name(sys.argv.pop(1))()
"""


class Kernel(AsyncKernelManager):  # type: ignore[misc]
    """Starts the kernel of this interpreter, whatever kernelspecs there are."""

    @property
    def kernel_spec(self) -> Any:
        """The one that we made."""
        argv = [sys.executable, "-P", "-c", _KERNEL, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def untouched(variables: Mapping[str, str], work: Path) -> dict[str, str]:
    """Environment variables of a kernel: without what would run or restyle in it.

    work: an existing folder of the run's own, where IPython makes an empty profile.
    """
    # A set backend would keep figures out of the notebook, and IPython executes the other.
    dropped = ("MPLBACKEND", "PYTHONSTARTUP")
    kept = {name: value for name, value in variables.items() if name not in dropped}
    kept["IPYTHONDIR"] = str(work / "ipython")
    if (found := importlib.util.find_spec("matplotlib")) and found.origin:
        kept["MATPLOTLIBRC"] = str(Path(found.origin).parent / "mpl-data" / "matplotlibrc")
    return kept


def refuse_other(source: Mapping[str, Any]) -> None:
    """Raise NotebookError where a record's provenance names other versions than this process."""
    now = {"python": platform.python_version(), **fingerprint.versions()}
    seen = {"python": source["python"], **source["versions"]}
    for name in sorted(now):
        if seen.get(name) != now[name]:
            fix = "Install nothing while a study runs, and run it again."
            where = f"{name} in the kernel"
            raise NotebookError(message(where, seen.get(name), f"{now[name]}, as here", fix))


def run(entry: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The command whose entry is `module:function`, and what it printed.

    It ends with this process, also where that is killed.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-c", _BOUND, entry, *arguments]
    try:
        return subprocess.run(command, stdin=reading, capture_output=True, text=True, check=False)
    finally:
        for end in (reading, writing):
            os.close(end)
