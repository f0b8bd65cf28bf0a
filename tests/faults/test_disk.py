"""SIGKILL at every change of the disk, and of a whole run at random moments."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import command
from counting import tally

from srclib.activations import TopK
from srclib.sae import SAE
from srclib.store import checkpoint, disk, files
from srclib.suite import book, records, trust

pytestmark = pytest.mark.faults
ROUNDS = int(os.environ.get("SUITE_FAULT_ROUNDS", "10"))
DISK = ("replace", "fsync", "unlink", "rmdir", "mkdir", "open", "chmod")


def a_file(place: Path, version: int) -> None:
    files.write_atomic(place / "file.json", files.pretty({"version": version}))


def a_saved_sae(place: Path, version: int) -> None:
    checkpoint.save_sae(SAE(4, 4, TopK(1), seed=version), place / "sae", overwrite=True)


def a_publication(place: Path, version: int) -> None:
    record = records.seal({"provenance": {}, "version": version})
    files.write_atomic(place / "toy.laptop.json", files.pretty(record))


def figures(place: Path, version: int) -> None:
    trust.write("faults", {"version": version})


def a_book(place: Path, version: int) -> None:
    """What the build does once Sphinx is done."""
    rendered = place / "_build" / "html"
    files.make(rendered)
    for name in ("index.html", "toy.html"):
        (rendered / name).write_text(f"version {version}")
    book._take(place)


def _content(place: Path, name: str) -> dict[str, bytes]:
    """By name, the bytes of what readers see: nothing hidden, nothing that Sphinx works in."""
    folder = place / "html" if name == "a book" else place
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.parts)
    }


ACTIONS: dict[str, Callable[[Path, int], None]] = {
    "a file": a_file,
    "a saved SAE": a_saved_sae,
    "a publication": a_publication,
    "figures about the suite": figures,
    "a book": a_book,
}


def _dying(action: Callable[[Path, int], None], place: Path, die_at: int) -> int:
    """Do it in a fork that dies just before that change of the disk; its exit code."""
    child = os.fork()
    if child == 0:
        changes = 0

        def counted(function: Any) -> Any:
            def counting(*arguments: Any, **keywords: Any) -> Any:
                nonlocal changes
                changes += 1
                if changes == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **keywords)

            return counting

        for name in DISK:
            setattr(os, name, counted(getattr(os, name)))
        disk.exchange = counted(disk.exchange)
        code = 1
        try:
            action(place, 2)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ACTIONS)
def test_killed_at_every_change_of_the_disk(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What readers find afterwards is the old content or the new one, never a part, never none."""
    action = ACTIONS[name]
    torch.set_num_threads(1)
    if name == "figures about the suite":
        monkeypatch.setattr(trust, "path", lambda which: tmp_path / str(n) / f"{which}.json")
    wanted, kills = [], 0
    for version in (1, 2):
        n = -version
        (tmp_path / str(n)).mkdir()
        action(tmp_path / str(n), version)
        wanted.append(_content(tmp_path / str(n), name))
    for n in range(1, 200):
        place = tmp_path / str(n)
        place.mkdir()
        action(place, 1)
        if _dying(action, place, n) == 0:  # there are no n changes
            break
        kills += 1
        assert _content(place, name) in wanted
        action(place, 2)  # and it can be done again
        assert _content(place, name) == wanted[1]
    tally("disk kills", name, kills=kills)
    assert kills >= 2 and wanted[0] != wanted[1]


def test_a_reader_always_finds_one_of_the_two(tmp_path: Path) -> None:
    """A folder that is replaced over and over is never missing and never mixed."""
    if not _exchanges(tmp_path):
        pytest.skip("this file system cannot exchange two names")
    place, seen, stop = tmp_path / "folder", set[str](), threading.Event()

    def replace(version: int) -> None:
        with files.folder_atomic(place) as new:
            (new / "a").write_text(str(version))

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add((place / "a").read_text())
            except FileNotFoundError:  # opened by its path while the old one was swept away
                seen.add("none" if not place.is_dir() else "")

    replace(0)
    reader = threading.Thread(target=look)
    reader.start()
    for version in range(20 * ROUNDS):
        replace(version % 2)
    stop.set()
    reader.join()
    tally("readers", "a folder replaced under a reader", replaced=20 * ROUNDS)
    assert "none" not in seen and seen - {""} == {"0", "1"}


def _exchanges(place: Path) -> bool:
    (place / "x").mkdir()
    (place / "y").mkdir()
    return disk.exchange(place / "x", place / "y")


def _result(root: Path) -> Any:
    """What a run measured and judged, without when and how long; None where there is none."""
    path = root / "build" / "toy" / "laptop" / "result.json"
    if not path.exists():
        return None
    record = records.load(path)
    assert records.is_sealed(record)
    return {key: value for key, value in record.items() if key != "provenance"}


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(
    toy_checkout: Path, srclib: Any
) -> None:
    """`run --publish` dies at random, is run again, and leaves what an undisturbed one leaves."""
    expected, kills = _result(toy_checkout), 0
    published = toy_checkout / "data" / "results" / "toy.laptop.json"
    for round_ in range(max(2, ROUNDS // 5)):
        shutil.rmtree(toy_checkout / "build")
        published.unlink(missing_ok=True)
        process = subprocess.Popen(
            **command(toy_checkout, "run", "toy", "--publish"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(random.Random(round_).uniform(0.5, 8.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        assert _result(toy_checkout) in (None, expected)
        assert not published.exists() or json.loads(published.read_text("utf-8"))["claims"]
    done = srclib(toy_checkout, "run", "toy", "--publish")
    assert done.returncode == 0, done.stderr
    assert _result(toy_checkout) == expected
    assert srclib(toy_checkout, "verify").returncode == 0
    tally("run kills", "run --publish", kills=kills, rounds=max(2, ROUNDS // 5))
    assert kills
