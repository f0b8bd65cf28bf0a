"""Run benchmarks, in an environment of their own where a peer library takes part.

    nox -s bench                        # all workloads
    nox -s bench -- w1 w1b              # some of them
    nox -s bench -- harvest matching examples align    # without a peer: nothing is installed
    nox -s bench -- topk --memory       # and how much memory each contender takes alone
    nox -s bench -- topk --json rows.jsonl    # and what the tables are made of, a line each
    nox -s bench -- --merge rows.jsonl  # runs nothing: into the record what --json once wrote

Each workload runs in a process of its own and ends in data/trust/bench.json, in place of what was
known of it; the page *How fast is it?* of the book reads that file.

The peer libraries bring dependencies that the suite does not want, so they live in
`.nox/bench-saelens` and `.nox/bench-wide` and never in the suite's own environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import record  # noqa: E402
from trust import commit  # noqa: E402

PEERS = {"bench_toy.py": "saelens", "bench_wide.py": "wide"}  # requirements-<...>.txt
SCRIPTS = {  # workload -> script; those of PEERS run in environments of their own
    "w1-gen": "bench_toy.py",
    "w1": "bench_toy.py",
    "w1b": "bench_toy.py",
    "harvest": "bench_lm.py",
    "matching": "bench_lm.py",
    "matching-large": "bench_lm.py",
    "examples": "bench_examples.py",
    "align": "bench_align.py",
    "topk": "bench_wide.py",
    "topk-large": "bench_wide.py",
    "jumprelu": "bench_wide.py",
    "gba": "bench_wide.py",
    "w1-dl": "bench_wide.py",
    "scaling": "bench_wide.py",
    "selection": "bench_metrics.py",
    "cosines": "bench_metrics.py",
}
RARE = ("matching-large",)  # run only where they are named: minutes, up to 8 GB
RUN_ENV = {
    "OMP_NUM_THREADS": "1",  # one thread: the toy's matrices are too small to share
    "PYTHONWARNINGS": "ignore",  # the peer's dependencies deprecate each other
    "HF_HUB_OFFLINE": "1",
    "KINETO_LOG_LEVEL": "5",  # the profiler announces itself
    "WANDB_MODE": "disabled",  # SAELens imports wandb; nothing is to leave the machine
}


def fingerprint(requirements: Path) -> str:
    """What an environment is made from; another value means: make it again."""
    sources = [path.read_bytes() for path in (requirements, ROOT / "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*sources, platform.python_version().encode()])).hexdigest()


def environment(peers: str) -> str:
    """Its Python. Installs the peers and this package, unless done from the same files before."""
    folder = ROOT / ".nox" / f"bench-{peers}"
    requirements, python = BENCH / f"requirements-{peers}.txt", folder / "bin" / "python"
    stamp, made_from = folder / "stamp.txt", fingerprint(requirements)
    if stamp.is_file() and stamp.read_text() == made_from and python.exists():
        return str(python)
    print(f"installing peers into .nox/bench-{peers}: about 2 GB, some minutes", flush=True)
    # This interpreter's pip installs: some distributions ship a venv module that cannot add one.
    venv.create(folder, clear=True, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "-r", str(requirements), "-e", str(ROOT)], check=True)
    # A peer's dependency asks for torchvision and uses nothing of it. The index has it for another
    # build of torch than the CPU's, and then transformers fails to import.
    gone = [sys.executable, "-m", "pip", "--python", str(python), "uninstall", "--quiet", "--yes"]
    subprocess.run([*gone, "torchvision"], check=True)
    stamp.write_text(made_from)  # last: an interrupted installation is repeated
    return str(python)


def measured(workload: str, python: str, alone: str = "") -> tuple[list[dict[str, Any]], int]:
    """The rows that a process of its own wrote of a workload, and its exit code.

    alone: a contender that is made and called as the only one, for its peak memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        env = os.environ | RUN_ENV | {"SRCLIB_BENCH_ROWS": str(path), "SRCLIB_BENCH_ALONE": alone}
        code = subprocess.run(
            [python, str(BENCH / SCRIPTS[workload]), workload], env=env
        ).returncode
        return (lines(path) if path.exists() and not code else []), code


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def one(workload: str, memory: bool, origin: dict[str, Any], copy: Path | None) -> int:
    """Run a workload and put what it measured into the record. Returns its exit code."""
    script = SCRIPTS[workload]
    python = environment(PEERS[script]) if script in PEERS else sys.executable
    rows, code = measured(workload, python)
    for row in rows:
        row["provenance"] = origin
        for name, found in row.get("contenders", {}).items() if memory else ():
            if not found["peak_gib"]:
                for each in measured(workload, python, name)[0]:
                    found["peak_gib"] = each["peak_gib"]
        if copy:
            with copy.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    if rows:
        print(f"\nkept in {record.merge(rows).relative_to(ROOT)}", flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(SCRIPTS))
    parser.add_argument("--json", type=Path, help="file that gets a line for each workload")
    parser.add_argument("--memory", action="store_true", help="also each contender's peak memory")
    parser.add_argument("--merge", type=Path, help="a file of --json: into the record, run nothing")
    arguments = parser.parse_args()
    if arguments.merge:
        try:
            kept = record.merge(lines(arguments.merge))
        except (OSError, ValueError, KeyError, TypeError) as error:
            fix = "Allowed is a file that --json wrote."
            parser.error(f"--merge {arguments.merge}: cannot be read ({error!r}). {fix}")
        print(f"kept in {kept.relative_to(ROOT)}")
        return 0
    chosen = arguments.workloads or [name for name in SCRIPTS if name not in RARE]
    if unknown := sorted(set(chosen) - set(SCRIPTS)):
        parser.error(f"workload {unknown[0]!r}: allowed are {', '.join(SCRIPTS)}")
    at = commit()  # before the record changes
    codes = []
    for name in chosen:
        command = f"nox -s bench -- {name}" + " --memory" * arguments.memory
        origin = {"command": command, "commit": at}
        codes.append(one(name, arguments.memory, origin, arguments.json))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
