"""The kernel is ours, and no process of ours outlives us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import papermill
import pytest
from conftest import ROOT, Run
from test_execute import alive, edit_cell, record_of, until

from srclib.errors import NotebookError
from srclib.store import fingerprint
from srclib.suite import children

HOSTILE = "import builtins, os; builtins.pow = lambda *a: 7; os.environ['HOSTILE'] = '{}'\n"


def hostile_home(folder: Path) -> dict[str, str]:
    """A home whose every corner reaches for the kernel; variables that point to it."""
    profile = folder / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00.py").write_text(HOSTILE.format("startup"))
    lines = "get_config().InteractiveShellApp.exec_lines = ["
    for name in ("ipython_config.py", "ipython_kernel_config.py"):
        (profile / name).write_text(f"{lines}{HOSTILE.format(name)!r}]\n")
    (folder / "start.py").write_text(HOSTILE.format("PYTHONSTARTUP"))
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    seen = f"import pathlib; pathlib.Path({str(folder / 'taken')!r}).touch()"
    kernel = {"argv": [sys.executable, "-c", seen], "display_name": "Python 3"}
    (spec / "kernel.json").write_text(json.dumps({**kernel, "language": "python"}))
    (folder / "matplotlibrc").write_text("lines.linewidth: 99\n")
    return {
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONSTARTUP": str(folder / "start.py"),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "HOME": str(folder),
    }


def test_a_hostile_profile_and_kernelspec_touch_no_run(
    toy_checkout: Path, tmp_path: Path, srclib: Run
) -> None:
    told = (
        "import os, sys, time, matplotlib; print('hostile:', os.environ.get('HOSTILE'), pow(2, 3), "
        "matplotlib.rcParams['lines.linewidth'] < 99); import math; "
        "from srclib.engines import engine; "
        "print('workers:', *engine.in_processes(2, math.pow, [2, 3], [3, 3]))"
    )
    edit_cell(toy_checkout, "import os, sys, time", told)
    variables = hostile_home(tmp_path / "home")
    done = srclib(toy_checkout, "run", "toy", "--profile", "smoke", **variables)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home" / "taken").exists()
    text = (toy_checkout / "build/toy/smoke/notebook.ipynb").read_text("utf-8")
    assert "hostile: None 8 True" in text
    assert "workers: 8.0 27.0" in text, "processes that a kernel starts"
    assert record_of(toy_checkout, "smoke")["params"]["numbers"] == [1.0, 2.0, 3.0]


def test_the_hostile_home_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same home reaches a kernel that is not ours: the test above can fail."""
    for name, value in hostile_home(tmp_path).items():
        monkeypatch.setenv(name, value)
    notebook = papermill.iorw.nbformat.v4.new_notebook()
    with pytest.raises(RuntimeError):
        papermill.engines.NBClientEngine.execute_managed_notebook(
            papermill.engines.NotebookExecutionManager(notebook), "python3"
        )
    assert (tmp_path / "taken").exists()


def test_other_versions_in_the_kernel_are_named() -> None:
    source = fingerprint.provenance()
    children.refuse_other(source)
    for other, name in (({"python": "3.9.1"}, "python"), ({"versions": {}}, "numpy")):
        with pytest.raises(NotebookError, match=f"{name} in the kernel=.*as here. Install nothing"):
            children.refuse_other({**source, **other})


def test_a_child_dies_with_a_killed_driver(tmp_path: Path) -> None:
    """As the book's builder, which a SIGKILL of `python -m srclib book` left running."""
    (tmp_path / "endless.py").write_text(
        "import os, pathlib, time\n"
        "def main():\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\n"
        "    time.sleep(100)\n"
    )
    code = "from srclib.suite import children; children.run('endless:main', [])"
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    driver = subprocess.Popen([sys.executable, "-c", code], env=variables)
    until(lambda: list(tmp_path.glob("*.pid")), 60)
    (child,) = (int(path.stem) for path in tmp_path.glob("*.pid"))
    time.sleep(0.2)
    assert alive(child)
    driver.send_signal(signal.SIGKILL)
    driver.wait(20)
    until(lambda: not alive(child), 20)


def test_a_child_tells_what_it_printed_and_how_it_ended() -> None:
    done = children.run("sys:exit", [])
    assert (done.returncode, done.stdout) == (0, "")
    done = children.run("platform:nothing", [])
    assert done.returncode == 1 and "AttributeError" in done.stderr


def test_a_warning_in_our_kernel_is_told_without_its_path() -> None:
    warns = "warnings.warn('did not converge', RuntimeWarning)"
    code = children._KERNEL.replace("launch_new_instance()", warns)
    assert warns in code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "RuntimeWarning: did not converge\n")
