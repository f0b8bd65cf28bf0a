"""The tasks of the suite: `nox -l` lists them, `nox -s book` runs everything.

Thin on purpose: each session calls srclib or one tool. nox ties an environment to a session
name, and the suite's packages take 2 GB, so all heavy sessions share `.nox/suite`, which
`suite()` makes once and renews only when pyproject.toml, constraints.txt or Python change.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"  # not uv: it ignores pip's find-links (CPU torch)
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "suite"
PYTHON = str(ENVIRONMENT / "bin" / "python")
INDEX = ROOT / "book" / "_build" / "html" / "index.html"
# Studies at once: each trains on all cores, but half of its time it measures and draws on one.
JOBS = ("--jobs", str(min(3, os.cpu_count() or 1)))
NOTEBOOK_ENV = {
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": None,  # a backend from somebody's shell would leave the pages without figures
}
TEST_ENV = {
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "agg",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # tests are many small products: a second thread only spins
}


def fingerprint() -> str:
    """What the shared environment is made from; another value means: install again."""
    sources = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*sources, platform.python_version().encode()])).hexdigest()


def python_of_environment() -> str | None:
    """The version of the shared environment's interpreter, None where there is none."""
    command = [PYTHON, "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def suite(session: nox.Session) -> None:
    """Make or reuse the shared environment."""
    stamp = ENVIRONMENT / "stamp.txt"
    if stamp.is_file() and stamp.read_text() == fingerprint() and Path(PYTHON).exists():
        return
    if python_of_environment() != platform.python_version():
        # virtualenv comes with nox; some distributions ship a Python whose venv module has no pip.
        make = (sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(ENVIRONMENT))
        session.run(*make, external=True)
    session.log("installing into .nox/suite: about 2 GB and some minutes the first time")
    packages = ("-c", "constraints.txt", "-e", ".[all]")
    session.run(PYTHON, "-m", "pip", "install", "--quiet", *packages, external=True)
    stamp.write_text(fingerprint())  # last: an interrupted installation is repeated


def python(session: nox.Session, *arguments: str, env: dict[str, str | None]) -> None:
    """Run the shared environment's Python, which is made first where needed."""
    suite(session)
    session.run(PYTHON, *arguments, env=env, external=True)


@nox.session(venv_backend="none")
def install(session: nox.Session) -> None:
    """Make or renew the shared environment .nox/suite, nothing else."""
    suite(session)
    session.log(f"environment ready: {PYTHON}")


@nox.session
def lint(session: nox.Session) -> None:
    """Style of the code, and no outputs in source notebooks."""
    session.install("-c", "constraints.txt", "ruff", "nbstripout")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    notebooks = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/*.ipynb"))
    keys = "metadata.papermill cell.metadata.papermill cell.metadata.execution"
    if notebooks:
        session.run("nbstripout", "--verify", "--keep-id", "--extra-keys", keys, *notebooks)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """mypy, strict, over srclib."""
    python(session, "-m", "mypy", env=TEST_ENV)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Every test file on two cores; words after `--` go to pytest instead.

    Without what takes long and has a shorter sibling here (`long`, `scale`).
    """
    # worksteal: whoever is done takes from the other, so that no file is the long end
    spread = ["-n", "2", "--dist", "worksteal", "--durations", "12"]
    words = session.posargs or ["-m", "not scale and not long", *spread]
    python(session, "-m", "pytest", *words, env=TEST_ENV)


@nox.session(venv_backend="none")
def long(session: nox.Session) -> None:
    """Whole notebooks and whole processes, each with a shorter sibling in `tests`.

    Notebooks on named models: sae_md, gba_lm, checkpoints with SAEs trained and with released ones
    (`tests` runs l0_lm, align_sae, and checkpoints up to a refusal). SIGTERM and SIGINT to a driver
    of two kernels (`tests`: SIGKILL, and all three for one kernel). A run killed at random moments,
    a pool whose parent is killed, a worker of a cluster that is (`tests`: the kills inside one
    process, and the cluster unharmed).
    """
    python(session, "-m", "pytest", "-m", "long", *session.posargs, env=TEST_ENV)


@nox.session(venv_backend="none")
def smoke(session: nox.Session) -> None:
    """Run every notebook at the smoke profile, build the book from them, check its HTML."""
    python(session, "-m", "srclib", "run", "all", "--profile", "smoke", *JOBS, env=NOTEBOOK_ENV)
    python(session, "-m", "srclib", "book", env=NOTEBOOK_ENV)
    python(session, "tests/html_walk.py", str(INDEX.parent), env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def run(session: nox.Session) -> None:
    """Run studies: `nox -s run -- l0 -p k_values "[5, 11]"`."""
    python(session, "-m", "srclib", "run", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def lab(session: nox.Session) -> None:
    """JupyterLab in the shared environment; words after `--` go to it."""
    suite(session)
    packages = ("-c", "constraints.txt", "-e", ".[all,lab]")
    session.run(PYTHON, "-m", "pip", "install", "--quiet", *packages, external=True)
    python(session, "-m", "jupyterlab", "notebooks", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def book(session: nox.Session) -> None:
    """Run every study at the laptop profile (what is up to date is reused) and build the book."""
    started = time.monotonic()
    python(session, "-m", "srclib", "run", "all", "--profile", "laptop", *JOBS, env=NOTEBOOK_ENV)
    python(session, "-m", "srclib", "book", env=NOTEBOOK_ENV)
    python(session, "-m", "srclib", "list", env=NOTEBOOK_ENV)
    session.log(f"book: {INDEX} (in {time.monotonic() - started:.0f} s)")


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """Look at every page of the built book in Chromium: errors, axe, width, height, search.

    First it is built anew, twice, which must give the same bytes.
    """
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not (chromium and shutil.which("npm") and INDEX.is_file()):
        session.skip(f"needs Chromium, npm and a built book ({INDEX}): nothing was looked at")
    folder = ROOT / ".nox" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    once = folder / "book"
    python(session, "-m", "srclib", "book", env=NOTEBOOK_ENV)
    shutil.rmtree(once, ignore_errors=True)
    shutil.copytree(INDEX.parent, once)
    python(session, "-m", "srclib", "book", env=NOTEBOOK_ENV | {"PYTHONHASHSEED": "1"})
    python(session, "tests/html_walk.py", str(once), str(INDEX.parent), env=NOTEBOOK_ENV)
    packages = ("playwright-core@1.65.1", "axe-core@4.14.1")
    session.run("npm", "install", "--silent", "--prefix", str(folder), *packages, external=True)
    shots = ROOT / "build" / "screenshots"
    script = str(ROOT / "tests" / "browser.mjs")
    with session.chdir(folder):
        command = ("node", script, str(INDEX.parent), str(shots))
        session.run(*command, env={"CHROMIUM": chromium}, external=True)
    session.log(f"screenshots: {shots}")


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Formats, steps, toy worlds and statistics against SAELens, dictionary_learning, SAEBench.

    The peers live in the environments of `bench` (about 2 GB each, made where they are missing).
    """
    python(session, "tests/conformance/peers.py", env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def verify(session: nox.Session) -> None:
    """Which published results no longer match the code; `-- --strict` for all profiles."""
    python(session, "-m", "srclib", "verify", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Speed against the peers of bench/; words after `--` choose workloads."""
    python(session, "bench/run.py", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Every hostile case and the crash loops; `-- --rounds 20` for less than a hundred rounds."""
    python(session, "tests/faults/run.py", *session.posargs, env=TEST_ENV)


@nox.session(venv_backend="none")
def scale(session: nox.Session) -> None:
    """Studies with named models here, on a Dask cluster and under torchrun; estimates against runs.

    Words after `--` go to pytest: `nox -s scale -- -k gba_lm`.
    """
    python(session, "-m", "pytest", "-m", "scale", "-rP", *session.posargs, env=TEST_ENV)


@nox.session(venv_backend="none")
def estimates(session: nox.Session) -> None:
    """What `--estimate` says of studies, and what they then take: `nox -s estimates -- l0 matrix`.

    Alone on a quiet machine; all studies at laptop take about two hours.
    """
    python(session, "tests/estimates.py", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def sabotage(session: nox.Session) -> None:
    """Plant faults one at a time; each must be caught. Words after `--`: see tests/sabotage.py."""
    python(session, "tests/sabotage.py", *session.posargs, env=TEST_ENV)


@nox.session(venv_backend="none")
def seeds(session: nox.Session) -> None:
    """Run studies with seeds that nobody has looked at: `nox -s seeds -- l0 --sets 5`."""
    python(session, "tests/seeds.py", *session.posargs, env=NOTEBOOK_ENV)


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """Branches that no test takes, of the store and what judges; `-- --everything` for all."""
    python(session, "tests/branches.py", *session.posargs, env=TEST_ENV)


@nox.session
def lock(session: nox.Session) -> None:
    """Rewrite constraints.txt with the newest versions that pyproject.toml allows.

    torch keeps its version unless given (`nox -s lock -- torch==2.14.0`): its newest build is
    not the one that every machine can have.
    """
    constraints = ROOT / "constraints.txt"
    lines = constraints.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    torch = session.posargs or [line for line in lines if line.startswith("torch==")]
    session.install("--upgrade", "--upgrade-strategy", "eager", *torch, "-e", ".[all]")
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    pins = [line.partition("+")[0] for line in str(frozen).splitlines() if "==" in line]
    rest = [pin for pin in pins if not pin.startswith("torch==")]
    first = [pin for pin in pins if pin.startswith("torch==")]
    constraints.write_text("\n".join([*head, *first, *rest]) + "\n")
    session.log("Now run `nox`, and commit constraints.txt when it passes.")
