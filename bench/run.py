"""Make the environment of the benchmarks where needed, then run them in it.

    nox -s bench                    # all workloads
    nox -s bench -- w1 w1b          # some of them

The peer libraries bring dependencies that the suite does not want, so they live in
`.nox/bench-saelens` and never in the suite's own environment.
"""

from __future__ import annotations

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
    ensure_environment()
    command = [str(PYTHON), str(BENCH / "bench_toy.py"), *sys.argv[1:]]
    return subprocess.run(command, env=os.environ | RUN_ENV).returncode


if __name__ == "__main__":
    sys.exit(main())
