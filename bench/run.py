"""Run benchmarks, in an environment of their own where a peer library takes part.

    nox -s bench                        # all workloads
    nox -s bench -- w1 w1b              # some of them
    nox -s bench -- harvest matching examples align    # without a peer: nothing is installed

The peer libraries bring dependencies that the suite does not want, so they live in
`.nox/bench-saelens` and never in the suite's own environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import venv
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
REQUIREMENTS = BENCH / "requirements-saelens.txt"
ENVIRONMENT = ROOT / ".nox" / "bench-saelens"
PYTHON = ENVIRONMENT / "bin" / "python"
SCRIPTS = {  # workload -> script; those of bench_toy.py run in ENVIRONMENT, the others here
    "w1-gen": "bench_toy.py",
    "w1": "bench_toy.py",
    "w1b": "bench_toy.py",
    "harvest": "bench_lm.py",
    "matching": "bench_lm.py",
    "examples": "bench_examples.py",
    "align": "bench_align.py",
}
RUN_ENV = {
    "OMP_NUM_THREADS": "1",  # one thread: the toy's matrices are too small to share
    "PYTHONWARNINGS": "ignore",  # the peer's dependencies deprecate each other
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",  # SAELens imports wandb; nothing is to leave the machine
}


def fingerprint() -> str:
    """What the environment is made from; another value means: make it again."""
    sources = [path.read_bytes() for path in (REQUIREMENTS, ROOT / "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*sources, platform.python_version().encode()])).hexdigest()


def ensure_environment() -> None:
    """Install the peer and this package, unless that was done from the same files."""
    stamp = ENVIRONMENT / "stamp.txt"
    if stamp.is_file() and stamp.read_text() == fingerprint() and PYTHON.exists():
        return
    print("installing the peers into .nox/bench-saelens: about 2 GB, some minutes", flush=True)
    # This interpreter's pip installs: some distributions ship a venv module that cannot add one.
    venv.create(ENVIRONMENT, clear=True, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS), "-e", str(ROOT)], check=True)
    stamp.write_text(fingerprint())  # last: an interrupted installation is repeated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(SCRIPTS))
    parser.add_argument("--large", action="store_true", help="matching also at n 18,432")
    arguments = parser.parse_args()
    chosen = arguments.workloads or list(SCRIPTS)
    if unknown := sorted(set(chosen) - set(SCRIPTS)):
        parser.error(f"workload {unknown[0]!r}: allowed are {', '.join(SCRIPTS)}")
    if arguments.large and "matching" not in chosen:
        parser.error("--large: belongs to the workload matching")
    commands = []
    for script in dict.fromkeys(SCRIPTS[name] for name in chosen):
        names = [name for name in chosen if SCRIPTS[name] == script]
        python = sys.executable
        if script == "bench_toy.py":
            ensure_environment()
            python = str(PYTHON)
        large = ["--large"] if arguments.large and "matching" in names else []
        commands.append([python, str(BENCH / script), *names, *large])
    codes = [subprocess.run(command, env=os.environ | RUN_ENV).returncode for command in commands]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
