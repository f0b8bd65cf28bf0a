"""A toy checkout: this srclib, one tiny study, and the command line run as a user runs it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import nbformat
import pytest

from srclib.store import files
from srclib.suite import cli

ROOT = Path(__file__).resolve().parent.parent

PROFILES = """
study = "toy"
title = "A toy study"
title_ja = "おもちゃの研究"
paper = "none"
[profiles]
smoke = {seconds = 1, disk_mb = 1}
laptop = {seconds = 2, disk_mb = 1}
full = {seconds = 7200, disk_mb = 1}
[parameters.numbers]
type = "list[float]"
help = "what is averaged"
above = 0
default = [1.0, 2.0, 3.0]
[parameters.quick]
type = "bool"
help = "decides nothing"
default = true
[parameters.fault]
type = "str"
help = "what goes wrong on purpose"
choices = ["none", "raise", "exit", "hang", "print"]
default = "none"
"""

CLAIMS = """
[paper_scale.large]
tokens = {min = 1000}

[[claim]]
id = "toy.mean"
says = "The mean is near two."
says_ja = "平均は約2である。"
where = "section 1"
paper_value = "2"
kind = "value"
test = "b"
decides = "laptop"
paper_scale = "large"
seeds = 3
rule = [{op = "between", of = "value", low = 0.5, high = 3.5}]
[[claim]]
id = "toy.named"
says = "A named model agrees."
says_ja = "名前のあるモデルも一致する。"
where = "section 2"
paper_value = "yes"
kind = "qualitative"
test = "c"
decides = "paper"
stand_in = "a toy"
seeds = 1
unless_run = "needs a named model and a GPU"
"""

CELLS = [
    "# What the toy study can be asked\n"
    'profile: str = "laptop"  # size of the run\n'
    "seed: int = 0  # root of all random numbers\n"
    'device: str = "auto"  # where to compute\n'
    'dtype: str = "auto"  # of language models\n'
    "numbers: list = None  # what is averaged\n"
    "quick: bool = None  # decides nothing\n"
    "fault: str = None  # what goes wrong on purpose",
    "from srclib.suite.params import parameters\n\nP = parameters('toy', In, globals())\nP",
    "from srclib.suite.ledger import ledger\n\nrecords = ledger('toy', P)",
    "import os, sys, time\n\n"
    "print('asked to recompute:', os.environ.get('SRCLIB_RECOMPUTE'))\n"
    "if P.fault == 'raise':\n    raise ValueError('on purpose')\n"
    "if P.fault == 'exit':\n    sys.exit(0)\n"
    "if P.fault == 'print':\n    print(os.environ['TOY_TOKEN'])\n"
    "if P.fault == 'hang':\n"
    "    with open(f'build/{os.getpid()}.pid', 'w'):\n        time.sleep(100)",
    "records.record('toy.mean', P.numbers)",
    "records.verdicts()",
]

Run = Callable[..., subprocess.CompletedProcess[str]]


def write_study(root: Path, study: str = "toy") -> None:
    """Add the toy study to a checkout under the name `study`."""
    cells = [nbformat.v4.new_code_cell(text.replace("toy", study)) for text in CELLS]
    cells[0].metadata["tags"] = ["parameters"]
    title = nbformat.v4.new_markdown_cell("# A toy study")
    notebook = nbformat.v4.new_notebook(cells=[title, *cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    for name, text in (("profiles", PROFILES), ("claims", CLAIMS)):
        path = root / "data" / name / f"{study}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("toy", study), encoding="utf-8")
    (root / "pyproject.toml").touch()
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{study}.ipynb")


def command(root: Path, *arguments: str, **variables: str) -> dict[str, object]:
    """How to start `python -m srclib` of a checkout from another folder, for subprocess."""
    environment = {**os.environ, "PYTHONPATH": str(root), **variables}
    started = [sys.executable, "-m", "srclib", *arguments]
    return {"args": started, "env": environment, "cwd": root.parent, "text": True}


@pytest.fixture(scope="session")
def toy_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one toy checkout of the session; tests that change it take `toy_checkout`."""
    root = tmp_path_factory.mktemp("toy") / "pāper {süite} 論文"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "srclib", root / "srclib", ignore=ignored)
    write_study(root)
    return root


@pytest.fixture(scope="session")
def toy_ran(toy_session: Path) -> Path:
    """The toy checkout after `run toy` at laptop; read it only."""
    started = command(toy_session, "run", "toy")
    done = subprocess.run(**started, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return toy_session


@pytest.fixture
def toy_checkout(toy_ran: Path, tmp_path: Path) -> Path:
    """A copy of its own of the toy checkout after `run toy`, with spaces in its path."""
    root = tmp_path / toy_ran.name
    shutil.copytree(toy_ran, root)
    return root


@pytest.fixture
def srclib() -> Run:
    """Run the command line of a checkout: `srclib(root, "run", "toy", VARIABLE="value")`."""

    def run(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        started = command(root, *arguments, **variables)
        return subprocess.run(**started, capture_output=True, timeout=120)

    return run


@pytest.fixture
def called() -> Run:
    """The same in this process: for commands that start no kernel, whose process is not the point.

    The checkout's files are read by this srclib, of which the checkout has a copy.
    """

    def run(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(files, "root", lambda: root)
            patch.chdir(root.parent)
            stack.enter_context(mock.patch.dict(os.environ, variables))  # --engine sets one
            stack.callback(signal.signal, signal.SIGTERM, handler)
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            try:
                code = cli.main(arguments)
            except SystemExit as left:  # of argparse
                code = int(left.code or 0)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return run
