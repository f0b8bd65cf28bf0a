"""Running studies: what is kept, what a failure leaves, and that nothing survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import Run, command, write_study

from srclib.store import files, fingerprint, locks
from srclib.suite import verify


def record_of(root: Path, folder: str = "laptop") -> dict:
    return json.loads((root / "build" / "toy" / folder / "result.json").read_text("utf-8"))


def edit_cell(root: Path, old: str, new: str) -> None:
    path = root / "notebooks" / "toy.ipynb"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def until(condition: Callable[[], object], seconds: float) -> float:
    """Seconds until the condition is true; fails the test after `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "timed out"
        time.sleep(0.1)
    return time.monotonic() - started


def alive(process: int) -> bool:
    """Whether a process still runs; a zombie that nobody has collected does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True
    )
    return state.stdout.strip()[:1] not in ("", "Z")


def hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def hanging(root: Path, *arguments: str, kernels: int = 1) -> tuple[subprocess.Popen, list[int]]:
    """Start a run that hangs in a cell; returns the driver and the kernels' process ids."""
    started = command(root, *arguments, "-p", "fault", "hang")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # a shell starts background jobs deaf to SIGINT, and what they start inherits it
    driver = subprocess.Popen(**started, **quiet, preexec_fn=hear_interrupts)
    until(lambda: len(list((root / "build").glob("*.pid"))) == kernels, 60)
    return driver, [int(path.stem) for path in (root / "build").glob("*.pid")]


def test_a_run_keeps_notebook_and_result(toy_ran: Path) -> None:
    record = record_of(toy_ran)
    assert record["params"]["numbers"] == [1.0, 2.0, 3.0]
    verdicts = {row["id"]: row["verdict"] for row in record["claims"]}
    assert verdicts == {"toy.mean": "replicated", "toy.named": "not assessed"}
    executed = toy_ran / "book" / "_executed" / "toy.ipynb"
    assert executed.read_bytes() == (toy_ran / "build/toy/laptop/notebook.ipynb").read_bytes()
    nbformat.validate(nbformat.read(executed, as_version=4))
    assert str(toy_ran.parent) not in executed.read_text("utf-8")
    assert "without encryption" not in executed.read_text("utf-8")
    assert {path.name for path in (toy_ran / "build" / "toy").iterdir()} == {"laptop"}


def test_the_modules_of_a_record_are_those_the_kernel_imported(toy_ran: Path) -> None:
    source = record_of(toy_ran)["provenance"]
    assert {"srclib.suite.params", "srclib.suite.ledger"} <= set(source["modules"])
    assert not {"srclib.sae", "srclib.suite.execute"} & set(source["modules"])
    assert set(source["inputs"]["modules"]) == set(filter(fingerprint.counts, source["modules"]))


def test_up_to_date_then_stale_after_an_edit_and_fresh_after_force(
    toy_checkout: Path, srclib: Run
) -> None:
    before = record_of(toy_checkout)
    again = srclib(toy_checkout, "run", "toy")
    assert (again.returncode, record_of(toy_checkout)) == (0, before)
    assert "up to date" in again.stdout

    module = toy_checkout / "srclib/suite/labels.py"
    module.write_text("# a comment\n" + module.read_text("utf-8"), "utf-8")
    assert "up to date" in srclib(toy_checkout, "run", "toy").stdout
    module.write_text(module.read_text("utf-8") + "\n_UNUSED = 1\n", "utf-8")
    rerun = srclib(toy_checkout, "run", "toy")
    assert "up to date" not in rerun.stdout and "expected are about 2 s" in rerun.stdout
    assert record_of(toy_checkout)["provenance"]["key"] != before["provenance"]["key"]


def test_force_recomputes_and_tells_the_notebook_so(toy_checkout: Path, srclib: Run) -> None:
    page = toy_checkout / "build/toy/laptop/notebook.ipynb"
    assert "asked to recompute: None" in page.read_text("utf-8")
    assert "up to date" not in srclib(toy_checkout, "run", "toy", "--force").stdout
    assert "asked to recompute: 1" in page.read_text("utf-8")


def test_a_smoke_run_decides_nothing_and_the_saes_of_a_run_are_listed_beside_its_result(
    toy_checkout: Path, srclib: Run
) -> None:
    note = "with open(os.environ['SRCLIB_SAES'], 'a') as file:\\n    file.write('{}\\\\n')\\n"
    edit_cell(toy_checkout, "if P.fault == 'raise'", f"{note}if P.fault == 'raise'")
    assert srclib(toy_checkout, "run", "toy", "--profile", "smoke").returncode == 0
    assert (toy_checkout / "build/toy/smoke/saes.jsonl").read_text("utf-8") == "{}\n"
    verdicts = {row["verdict"] for row in record_of(toy_checkout, "smoke")["claims"]}
    assert verdicts == {"not assessed"}


def test_a_changed_drawing_is_drawn_anew_and_makes_no_record_stale(
    toy_checkout: Path, srclib: Run, called: Run
) -> None:
    before = record_of(toy_checkout)["provenance"]["key"]
    module = toy_checkout / "srclib/suite/verdicts.py"
    module.write_text(module.read_text("utf-8") + "\n_UNUSED = 1\n", "utf-8")
    edit_cell(toy_checkout, "# A toy study", "# The toy study")
    assert "stale" not in called(toy_checkout, "verify").stdout
    assert "up to date" not in srclib(toy_checkout, "run", "toy").stdout
    assert "# The toy study" in (toy_checkout / "book/_executed/toy.ipynb").read_text("utf-8")
    assert record_of(toy_checkout)["provenance"]["key"] == before
    assert "up to date" in srclib(toy_checkout, "run", "toy").stdout


def test_a_store_elsewhere(toy_checkout: Path, tmp_path: Path, srclib: Run) -> None:
    store = tmp_path / "elsewhere"
    done = srclib(toy_checkout, "run", "toy", "--profile", "smoke", SRCLIB_BUILD=str(store))
    assert done.returncode == 0, done.stderr
    assert (store / "toy/smoke/result.json").is_file() and (store / files.MARK).is_file()
    assert not (toy_checkout / "build/toy/smoke").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = srclib(toy_checkout, "run", "toy", SRCLIB_BUILD=str(tmp_path / "mine"))
    assert done.returncode == 1 and "a new or empty folder" in done.stderr


def test_a_changed_rule_is_judged_anew(toy_checkout: Path, srclib: Run, called: Run) -> None:
    claims = toy_checkout / "data" / "claims" / "toy.toml"
    claims.write_text(claims.read_text("utf-8").replace("high = 3.5", "high = 0.6"), "utf-8")
    seen = called(toy_checkout, "verify")
    assert seen.returncode == 1 and "_executed/toy.ipynb: toy.mean: verdict is" in seen.stdout
    assert srclib(toy_checkout, "run", "toy").returncode == 0
    assert record_of(toy_checkout)["claims"][0]["verdict"] == "not replicated"
    assert called(toy_checkout, "verify").returncode == 0


def test_overridden_parameters_stay_in_a_folder_of_their_own(
    toy_checkout: Path, srclib: Run
) -> None:
    executed = toy_checkout / "book" / "_executed" / "toy.ipynb"
    before = executed.read_bytes(), record_of(toy_checkout)
    done = srclib(toy_checkout, "run", "toy", "-p", "numbers", "[4, 5]", "-p", "quick", "false")
    assert done.returncode == 0, done.stderr
    (folder,) = (toy_checkout / "build" / "toy").glob("custom-*")
    params = record_of(toy_checkout, folder.name)["params"]
    assert (params["numbers"], params["quick"]) == ([4.0, 5.0], False)
    assert (executed.read_bytes(), record_of(toy_checkout)) == before


def test_a_failing_cell_replaces_nothing(toy_checkout: Path, srclib: Run) -> None:
    executed = toy_checkout / "book" / "_executed" / "toy.ipynb"
    before = executed.read_bytes(), record_of(toy_checkout)
    edit_cell(toy_checkout, "P.fault == 'raise'", "P.fault == 'none'")
    done = srclib(toy_checkout, "run", "toy")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    for part in ("NotebookError", "cell 5 (`import os", "ValueError: on purpose", "failed.ipynb"):
        assert part in line
    assert (executed.read_bytes(), record_of(toy_checkout)) == before
    failed = (toy_checkout / "build" / "toy" / "laptop" / "failed.ipynb").read_text("utf-8")
    assert "on purpose" in failed


def test_leaving_early_is_a_failure(toy_checkout: Path, srclib: Run) -> None:
    done = srclib(toy_checkout, "run", "toy", "-p", "fault", "exit")
    assert done.returncode == 1 and "SystemExit" in done.stderr


def test_a_hanging_cell_is_named(toy_checkout: Path, srclib: Run) -> None:
    done = srclib(toy_checkout, "run", "toy", "-p", "fault", "hang", "--timeout", "8")
    assert done.returncode == 1
    assert "cell 5 (`import os" in done.stderr and "longer than 8 s" in done.stderr
    (kernel,) = (toy_checkout / "build").glob("*.pid")
    assert not alive(int(kernel.stem))


def test_a_secret_in_the_output_is_refused(toy_checkout: Path, srclib: Run) -> None:
    secret = "correct-horse-battery"
    done = srclib(toy_checkout, "run", "toy", "-p", "fault", "print", TOY_TOKEN=secret)
    assert done.returncode == 1
    assert "TOY_TOKEN" in done.stderr and secret not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_no_kernel_survives_the_driver(toy_checkout: Path, number: int, code: int) -> None:
    driver, (kernel,) = hanging(toy_checkout, "run", "toy")
    driver.send_signal(number)
    assert driver.wait(20) == code
    until(lambda: not alive(kernel), 20)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        (signal.SIGKILL, -9),
    ],
)
def test_no_worker_survives_the_driver(toy_checkout: Path, number: int, code: int) -> None:
    for study in ("toy2", "toy3", "toy4"):  # more than run at once: none may start afterwards
        write_study(toy_checkout, study)
    driver, kernels = hanging(toy_checkout, "run", "all", "--jobs", "2", kernels=2)
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True)
    parents = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    started = [process for process, parent in parents if parent == driver.pid]
    assert len(started) >= 2
    driver.send_signal(number)
    assert driver.wait(20) == code
    until(lambda: not any(map(alive, kernels + started)), 20)
    assert len(list((toy_checkout / "build").glob("*.pid"))) == 2
    with locks.alone(toy_checkout / "build"):  # no lock is left behind
        pass


def test_several_studies_at_once(toy_checkout: Path, srclib: Run) -> None:
    write_study(toy_checkout, "toy2")
    done = srclib(toy_checkout, "run", "all", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert "toy at laptop: up to date" in done.stdout and "toy2 at laptop: done" in done.stdout


def test_two_runs_of_one_study_at_once_are_refused(toy_checkout: Path, srclib: Run) -> None:
    lock = toy_checkout / "build" / "locks" / "toy.laptop.lock"
    with locks.lock(lock, "this test"):
        done = srclib(toy_checkout, "run", "toy")
    assert (
        done.returncode == 1
        and f"in use by another process (process {os.getpid()}, " in done.stderr
    )


def test_plain_papermill_gives_the_same_record(toy_ran: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    parameters = ["-p", "profile", "laptop", "-p", "numbers", "[1, 2.0, 3]"]
    done = papermill(toy_ran, out, *parameters)
    assert done.returncode == 0, done.stderr
    outputs = nbformat.read(out, as_version=4).cells[-1].outputs
    (record,) = (output.data["application/json"] for output in outputs)
    assert record["claims"] == record_of(toy_ran)["claims"]


def test_a_notebook_runs_from_its_own_folder(toy_checkout: Path) -> None:
    """As JupyterLab and `jupyter execute` start it."""
    (toy_checkout / "data/toy").mkdir()
    (toy_checkout / "data/toy/numbers.csv").write_text("1")
    edit_cell(toy_checkout, "import os, sys, time", "import os, sys, time, srclib; "
              "srclib.data_path('toy/numbers.csv').read_text()")  # fmt: skip
    notebooks = toy_checkout / "notebooks"
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "toy.ipynb", "--inplace"],
        env={**os.environ, "PYTHONPATH": str(toy_checkout)},
        cwd=notebooks,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs = nbformat.read(notebooks / "toy.ipynb", as_version=4).cells[-1].outputs
    assert any("application/json" in output.get("data", {}) for output in outputs)


def test_plain_papermill_stops_at_a_bad_parameter(toy_ran: Path, tmp_path: Path) -> None:
    done = papermill(toy_ran, tmp_path / "out.ipynb", "-p", "numberz", "[1]")
    assert done.returncode == 1
    assert "ParameterError" in done.stderr and "'numbers'" in done.stderr


def papermill(root: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    notebook = str(root / "notebooks" / "toy.ipynb").replace("{", "{{").replace("}", "}}")
    started = [sys.executable, "-m", "papermill", notebook, str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(started, env=environment, cwd=root, capture_output=True, text=True)


def test_the_stamp_covers_the_whole_notebook(toy_ran: Path) -> None:
    notebook = json.loads((toy_ran / "book/_executed/toy.ipynb").read_text("utf-8"))
    assert verify.seal_notebook(notebook) == notebook
    notebook["cells"][0]["source"] = ["# Another title"]
    assert verify.seal_notebook(notebook) != notebook
