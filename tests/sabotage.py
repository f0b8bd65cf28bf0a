"""Faults planted one at a time: `nox -s sabotage`. Each must be caught by a test.

    nox -s sabotage                         # named faults, random mutants, recorded verdicts
    nox -s sabotage -- --only named seal    # named faults whose name holds "seal"
    nox -s sabotage -- --only random --mutants 60 --minutes 20   # again: goes on where it ended
    nox -s sabotage -- --only random --mutants 60 metrics        # those of the 60 in such modules
    nox -s sabotage -- --only turned l0     # run l0 at laptop under faults; which verdicts turn?

A copy of the checkout is changed, and a forked child runs the tests of what was changed in it.
Torch is loaded before the fork, srclib never is, so a fault costs its tests and little more.
Mutants are drawn from a seed, and what each met is kept in build/sabotage.jsonl under the code,
its text and its tests: a longer run takes up what a shorter one did, and an edit is tried anew.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trust
import turned
from mutants import Mutant, mutants
from planted import FAULTS, MODULES, Fault, why

ROOT = trust.ROOT
HEAVY = ("pytest", "torch", "scipy.stats", "sklearn.linear_model", "pandas",
         "transformers", "safetensors.torch", "nbformat")  # fmt: skip
LEFT_OUT = (".git", ".nox", "build", "_build", "_executed", "__pycache__", "bench")


def copied(folder: Path) -> Path:
    """A copy of the checkout for faults, without anything generated."""
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder / "copy"


LOG = ROOT / "build" / "sabotage.jsonl"


def tried(file: Path, text: str, tests: Sequence[str]) -> str:
    """Put a text in a file's place and run tests: what became of it.

    "caught": a test failed. "stopped": no test could be run, or one did not end. "survived". Else
    what stood in the way.
    """
    before = file.read_text(encoding="utf-8")
    for name in tests:  # what fails anyway would catch everything
        if kept(file, before, [name]) != "survived":
            return f"not run: {name} fails without it"
    return kept(file, text, tests)


def kept(file: Path, text: str, tests: Sequence[str]) -> str:
    """As `_result`, taken from the log where the same text met the same tests before."""
    copy = checkout(file)
    parts = [code(copy), str(file.relative_to(copy)), text, *tests]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if key not in (known := logged()):
        known[key] = _result(file, text, tests)
        if not known[key].startswith("not run"):
            LOG.parent.mkdir(exist_ok=True)
            with open(LOG, "a", encoding="utf-8") as log:
                log.write("\n" + json.dumps({"key": key, "result": known[key]}))
    return known[key]


@functools.cache
def code(copy: Path) -> str:
    """Hash of a copy and of the packages, first asked for before anything in it is changed."""
    every = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    found = [path.read_bytes() for path in every if "build" not in path.relative_to(copy).parts]
    packages = sorted(f"{d.name} {d.version}" for d in importlib.metadata.distributions())
    return hashlib.sha256(b"\0".join([*found, " ".join(packages).encode()])).hexdigest()


def checkout(file: Path) -> Path:
    """The copy that a file of srclib stands in."""
    return next(each for each in file.parents if (each / "pyproject.toml").exists())


@functools.cache
def logged() -> dict[str, str]:
    """Results by key; the last line may be half of one, of a run that was killed."""
    found: dict[str, str] = {}
    for line in LOG.read_text(encoding="utf-8").splitlines() if LOG.is_file() else ():
        with contextlib.suppress(ValueError, KeyError):
            row = json.loads(line)
            found[row["key"]] = row["result"]
    return found


def _result(file: Path, text: str, tests: Sequence[str], seconds: int = 300) -> str:
    before, folder = file.read_text(encoding="utf-8"), checkout(file)
    file.write_text(text, encoding="utf-8")
    try:
        child = os.fork()
        if child == 0:
            _child(folder, tests, seconds)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        file.write_text(before, encoding="utf-8")
    if status < 0:  # an endless loop is noticed by whoever waits; a kill from outside is no result
        ended = (signal.SIGALRM, signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT)
        return "stopped" if -status in ended else f"not run: signal {-status}"
    return {0: "survived", 1: "caught", 2: "stopped"}.get(status, f"not run: exit {status}")


def _child(folder: Path, tests: Sequence[str], seconds: int) -> None:
    """Never returns: runs the tests in this forked process, silently. seconds: of a core."""
    import resource

    code = 3
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10 * seconds)  # for what sleeps; a busy machine is no fault
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 9))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        for name in [each for each in sys.modules if each.split(".")[0] == "srclib"]:
            del sys.modules[name]
        sys.path[:] = [str(folder), str(folder / "tests"), *sys.path[1:]]
        sys.path[:] = [each for each in sys.path if each not in (str(ROOT), str(ROOT / "tests"))]
        pytest, hypothesis = map(importlib.import_module, ("pytest", "hypothesis"))
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # nobody reads what shrinks
        hypothesis.settings.register_profile("sabotage", phases=phases, database=None)
        hypothesis.settings.load_profile("sabotage")
        quiet = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist")
        quiet += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # plugins came before it
        code = int(pytest.main([*quiet, *(f"tests/{name}" for name in tests)]))
    finally:
        os._exit(code)


def named(copy: Path, wanted: Sequence[str], goes_on: Callable[[], bool]) -> dict[str, Any]:
    """The named faults in turn, as long as there is time."""
    rows = []
    for fault in FAULTS:
        if wanted and not any(word in fault.name for word in wanted):
            continue
        if not goes_on():
            break
        result = planted(fault, copy)
        rows.append({"fault": fault.name, "file": fault.file, "result": result})
        print(f"{result:10} {fault.name}", flush=True)
    return {"table": len(FAULTS), **counted(rows)}


def planted(fault: Fault, copy: Path) -> str:
    file = copy / "srclib" / fault.file
    text = file.read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return f"not planted: its text stands {text.count(fault.old)} times in {fault.file}"
    return tried(file, text.replace(fault.old, fault.new), fault.tests.split())


def at_random(
    copy: Path, n: int, seed: int, goes_on: Callable[[], bool], wanted: Sequence[str] = ()
) -> dict[str, Any]:
    """n mutants, each module with the same chance, each mutant of a module with the same.

    wanted: of these n, only those of modules whose name holds one of these words are tried.
    """
    draw, made = random.Random(seed), dict[str, list[Mutant]]()
    rows, seen = [], set[tuple[str, int]]()
    while len(seen) < n and goes_on():
        name = draw.choice(list(MODULES))
        file = copy / "srclib" / name
        every = made.setdefault(name, list(mutants(file.read_text(encoding="utf-8"))))
        index = draw.randrange(len(every))
        if (name, index) in seen:
            continue
        seen.add((name, index))
        mutant = every[index]
        if wanted and not any(word in name for word in wanted):
            continue
        old, new = (each.splitlines()[0] for each in (mutant.old, mutant.new))
        result = tried(file, mutant.text, MODULES[name].split())
        row = {"file": name, "line": mutant.line, "old": old, "new": new, "result": result}
        rows.append(row)
        print(f"{result:10} {name}:{mutant.line}: {old} -> {new}", flush=True)
    found = counted(rows)
    low, high = wilson(found["caught"], max(1, len(rows)))
    left = [row | {"why": why(row)} for row in rows if row["result"] not in ("caught", "stopped")]
    survivors_told = [{k: v for k, v in row.items() if k != "result"} for row in left]
    sizes = {"modules": len(MODULES), "seed": seed, "low": low, "high": high}
    return {**found, **sizes, "survivors": survivors_told}


def within(minutes: float) -> Callable[[], bool]:
    """Whether there is time left, from now on."""
    end = time.monotonic() + 60 * minutes
    return lambda: time.monotonic() < end


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share; the formula again, since srclib may not be loaded here."""
    z, share = 1.959963984540054, successes / n
    middle, half = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / n / 2) ** 2) ** 0.5
    return tuple(round((middle + sign * half) / (1 + z * z / n), 4) for sign in (-1, 1))  # type: ignore[return-value]


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = sum(row["result"] == "stopped" for row in rows)
    caught = stopped + sum(row["result"] == "caught" for row in rows)
    print(f"{caught} of {len(rows)} were caught, {stopped} of them because nothing ran or ended")
    share = round(caught / len(rows), 4) if rows else 0.0
    return {"n": len(rows), "caught": caught, "stopped": stopped, "share": share, "rows": rows}


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["named", "random", "recorded", "turned"])
    parser.add_argument("--mutants", type=int, default=60, help="how many at random")
    parser.add_argument("--minutes", type=float, default=600, help="for each part, then it ends")
    parser.add_argument("--seed", type=int, default=0, help="of their draw")
    parser.add_argument("words", nargs="*", help="parts of names; a study for `turned`")
    options = parser.parse_args(words)
    at, missed, left = trust.commit(), 0, functools.partial(within, options.minutes)
    for name in HEAVY:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "named": lambda: named(copy, options.words, left()),
            "random": lambda: at_random(copy, options.mutants, options.seed, left(), options.words),
            "recorded": turned.recorded,
            "turned": lambda: turned.by_runs(copy, options.words),
        }
        wanted = [options.only] if options.only else ["named", "random", "recorded"]
        found = {part: parts[part]() for part in wanted}
    command = " ".join(["nox -s sabotage", "--" * bool(words), *words]).strip()
    for part, content in found.items():
        if part in ("named", "random") and options.words:  # a part of them is no result
            continue
        trust.keep("sabotage", command, part, content, at)
        missed += content.get("n", 0) - content.get("caught", 0) if part == "named" else 0
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
