"""The store: what is ours is marked, made and deleted; nothing else is."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from srclib.errors import DataError, SuiteError
from srclib.store import files


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, which nobody has written to yet."""
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))
    return tmp_path / "store"


def test_a_committed_file_is_found_and_another_is_named() -> None:
    found = files.data_path("l0/published_saes.csv")
    assert found == ROOT / "data" / "l0" / "published_saes.csv"
    for name in ("l0/nothing.csv", "l0"):
        with pytest.raises(DataError, match=f"name='{name}': allowed is a file under data/"):
            files.data_path(name)


def test_outside_of_a_checkout_the_store_is_the_user_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SRCLIB_BUILD", raising=False)
    monkeypatch.setattr(files, "is_checkout", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.build() == tmp_path / "srclib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.build() == Path.home() / ".cache" / "srclib"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `build/` of a checkout, which packaging tools may use as well; not made yet."""
    monkeypatch.delenv("SRCLIB_BUILD", raising=False)
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    monkeypatch.setattr(files, "is_checkout", lambda: True)
    return tmp_path / "build"


def test_what_others_keep_in_the_build_folder_of_a_checkout_stays(build: Path) -> None:
    (build / "lib").mkdir(parents=True)
    (build / "lib" / "wheel.py").write_text("x")
    (build / "mine.txt").write_text("precious")
    (files.make(files.build() / "cache" / "ab") / "ours").write_text("12345")
    assert files.empty(files.build()) == pytest.approx(5e-6)
    left = sorted(path.name for path in build.rglob("*") if path.is_file())
    assert left == [files.MARK, "mine.txt", "wheel.py"]
    files.make(files.build() / "cache")
    assert files.empty(files.build()) == 0.0, "the mark still knows what is not ours"
    assert (build / "mine.txt").exists()


def test_the_mark_is_whole_or_absent_and_keeps_every_name(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["two\nlines", "form\x0cfeed", "line\u2028mark", os.fsdecode(b"caf\xe9.whl"), '[" ']
    for name in (*names, "cache"):
        (build / name).mkdir(parents=True)

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(os, "fsync", full)
        files.make(build / "locks")
    assert {path.name for path in build.iterdir()} == {*names, "cache"}
    (build / f"{files.MARK}.1234").touch()  # of a process that was killed there
    files.make(build / "locks")
    with pytest.raises(SuiteError, match="one that was not there before the store"):
        files.empty(build / "cache")
    files.empty(build)
    left = {path.name for path in build.iterdir()}
    assert left >= {*names, "cache", files.MARK} and "locks" not in left
    (build / files.MARK).write_text('["half a li')
    with pytest.raises(SuiteError, match="the list of what was there before"):
        files.empty(build)
    (build / files.MARK).write_text("".join(f"{name}\n" for name in ("mine", "yours")))
    assert files._others(build) == ["mine", "yours"], "of earlier versions"


@pytest.mark.parametrize("linked", [True, False])
def test_a_store_on_a_file_system_without_links_is_marked_too(
    store: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def link(a: Path, b: Path) -> None:
        raise FileExistsError(b) if linked else OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    files.make(store / "cache")
    assert (store / files.MARK).exists() is not linked
    assert [path.name for path in store.iterdir() if path.name != files.MARK] == ["cache"]


def test_no_file_takes_the_place_of_a_pipe_or_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.html")
    with pytest.raises(
        SuiteError, match=r"report\.html': allowed is a file, a folder or nothing yet"
    ):
        files.write_atomic(tmp_path / "report.html", "x")
    assert (tmp_path / "report.html").is_fifo()


def test_a_store_is_marked_by_whoever_writes_first(store: Path) -> None:
    assert files.empty(store) == 0.0, "nothing there"
    files.make(store / "cache" / "ab")
    assert (store / files.MARK).is_file() and (store / "cache" / "ab").is_dir()
    files.make(store / "cache" / "ab")
    outside = store.with_name("outside")
    files.make(outside)
    assert not (outside / files.MARK).exists()


def test_a_folder_of_somebody_else_s_is_no_store(store: Path) -> None:
    store.mkdir()
    files.make(store / "cache")  # empty: it may become one
    (store / files.MARK).unlink()
    (store / "thesis.txt").write_text("mine")
    with pytest.raises(SuiteError, match=r"SRCLIB_BUILD=.*a new or empty folder"):
        files.make(store / "cache")
    for folder in (store, store / "cache"):
        with pytest.raises(SuiteError, match="Delete it by hand"):
            files.empty(folder)
    assert (store / "thesis.txt").read_text() == "mine"


def test_another_process_may_mark_a_store_at_the_same_moment(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def meanwhile(path: Path) -> bool:
        """The other one is through between our two looks."""
        if path == store and not is_dir(store):
            (store / "cache").mkdir(parents=True)
            (store / files.MARK).touch()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", meanwhile)
    files.make(store / "locks")
    assert (store / "locks").exists() and (store / files.MARK).read_text() == ""


def test_emptying_deletes_what_is_inside_and_follows_no_link(store: Path) -> None:
    mine = store.with_name("mine")
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    cache = files.make(store / "cache")
    (cache / "a").mkdir()
    (cache / "a" / "weights").write_bytes(bytes(1_000_000))
    (cache / "b").write_bytes(bytes(500_000))
    (cache / "link").symlink_to(mine)
    (store / "to mine").symlink_to(mine)
    with pytest.raises(SuiteError, match="allowed is a store with"):
        files.empty(mine)
    with pytest.raises(SuiteError, match="a folder, no link to one"):
        files.empty(store / "to mine")
    assert (store / "to mine").exists()
    assert files.empty(cache) == pytest.approx(1.5, abs=0.01)
    assert not cache.exists() and (store / files.MARK).is_file()
    files.make(store / "cache")
    files.empty(store)
    assert not store.exists() and (mine / "thesis.txt").read_text() == "mine"


def test_a_folder_comes_back_from_bytes_as_it_was(store: Path) -> None:
    folder = files.make(store / "cache" / "key")
    (folder / "below").mkdir()
    (folder / "below" / "a").write_bytes(b"\x00\xff")
    (folder / "b.json").write_text("{}")
    packed = files.pack(folder)
    files.unpack(packed, store / "cache" / "again")
    again = store / "cache" / "again"
    assert {each.relative_to(again).as_posix() for each in again.rglob("*")} == {
        "below", "below/a", "b.json",
    }  # fmt: skip
    assert (again / "below" / "a").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("name", ["../thesis.txt", "/tmp/thesis.txt", "a/../../b"])
def test_bytes_that_reach_outside_their_folder_are_refused(store: Path, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good", "x")
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="a worker sent a file outside its folder"):
        files.unpack(buffer.getvalue(), store / "cache" / "key")
    assert [each.name for each in (store / "cache").iterdir()] == []


def test_nothing_is_forgotten_but_by_force_and_in_the_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, outside = files.make(store / "cache") / "block", store.with_name("block")
    for path in (kept, outside):
        path.write_text("x")
    files.forget_once.__wrapped__(kept)
    assert kept.exists()
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    for path in (kept, outside):
        files.forget_once.__wrapped__(path)
    assert not kept.exists() and outside.exists()


def test_files_below_a_folder_are_found_once_behind_links_too(tmp_path: Path) -> None:
    for name in ("a/b", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "other" / "file").touch()
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "a" / "b" / "round").symlink_to(tmp_path / "a")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in files.below(tmp_path / "a"))
    assert found == ["a/b/file", "a/link/file"]
