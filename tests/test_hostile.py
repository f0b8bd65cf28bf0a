"""What is stored is damaged, exchanged, edited or odd: named and refused, never believed."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from test_book import add_book

from srclib import metrics
from srclib.errors import ClaimError, DataError, NotebookError, SuiteError
from srclib.lm.models import LMConfig, load_model, new_model, save_model
from srclib.store import disk, files, locks, seals
from srclib.suite import book, gate, records, trust, verify

TINY = LMConfig(d_model=8, n_layers=1, n_heads=2, d_mlp=8, context=8, vocab_size=16)


@pytest.fixture
def checkout(toy_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy checkout with a book and a published `full` record, in place of this checkout."""
    local = json.loads((toy_checkout / "build/toy/laptop/result.json").read_text("utf-8"))
    monkeypatch.setattr(files, "root", lambda: toy_checkout)
    monkeypatch.setattr(book, "_render", lambda source, folder: None)
    add_book(toy_checkout)
    publish(records.seal({**local, "profile": "full"}))
    return toy_checkout


def publish(record: dict[str, Any]) -> Path:
    path = records.published_path("toy", record["profile"])
    path.parent.mkdir(exist_ok=True)
    path.write_text(files.pretty(record), encoding="utf-8")
    return path


def published() -> dict[str, Any]:
    return dict(records.load(records.published_path("toy", "full")))


# --- one gate in front of every output --------------------------------------------------------


def test_what_is_sound_is_built(checkout: Path) -> None:
    book.build()


def test_the_book_refuses_a_record_edited_by_hand(checkout: Path) -> None:
    record = published()
    record["claims"][0]["measured"] = 2.5
    publish(record)
    with pytest.raises(NotebookError, match=r"toy\.full\.json was edited by hand"):
        book.build()


def test_the_book_refuses_a_verdict_typed_in_under_a_good_seal(checkout: Path) -> None:
    record = published()
    record["claims"][1]["verdict"] = "replicated"
    publish(records.seal(record))
    with pytest.raises(NotebookError, match=r"toy\.named: verdict is 'replicated', should be"):
        book.build()


def test_the_book_refuses_records_of_another_rule(checkout: Path) -> None:
    claims = checkout / "data" / "claims" / "toy.toml"
    claims.write_text(claims.read_text("utf-8").replace("high = 3.5", "high = 0.6"), "utf-8")
    with pytest.raises(NotebookError, match=r"toy\.mean: .* is .*, should be"):
        book.build()


def test_a_verdict_that_a_cell_typed_in_does_not_pass_the_gate(checkout: Path) -> None:
    page = nbformat.read(checkout / "book" / "_executed" / "toy.ipynb", as_version=4)
    record = gate.gate(page, checkout)
    assert gate.judged(record) is record
    record["claims"][1]["verdict"] = "replicated"
    with pytest.raises(NotebookError, match=r"toy\.named: verdict is 'replicated'"):
        gate.judged(record)


# --- records ----------------------------------------------------------------------------------


def test_unknown_keys_are_refused_with_both_versions(checkout: Path) -> None:
    record = published()
    publish(records.seal({**record, "schema": 3, "confidence": 0.9}))
    with pytest.raises(DataError, match="unknown confidence: it is of schema 3, and this srclib"):
        published()
    record["claims"][0]["stars"] = 5
    publish(records.seal(record))
    with pytest.raises(DataError, match=r"claim toy\.mean: unknown stars"):
        published()


@pytest.mark.parametrize("sign", ["\n", "\x1b", "\u202e", "\u2028", "\u2066"])
def test_text_of_a_record_is_one_line_that_is_seen(checkout: Path, sign: str) -> None:
    record = published()
    record["claims"][0]["values"] = {f"a{sign}b": [1.0]}
    publish(records.seal(record))
    with pytest.raises(DataError, match=r"claim toy\.mean=.*: allowed is text of one line"):
        published()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"study": "toy", "study": "l0"}', "'study' stands twice"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a": "\\ud800"', "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
    ],
)
def test_odd_json_is_one_line(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"odd.json: .*{what}") as caught:
        seals.read_json(path, "Run it again.")
    assert "\n" not in str(caught.value)
    assert [each.failed for each in verify.findings(path)] == [True]


def test_a_pipe_a_folder_and_a_bomb_are_no_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.json")  # reading it would wait for ever
    with pytest.raises(DataError, match="it is no file"):
        records.load(tmp_path / "pipe.json")
    with pytest.raises(DataError, match="it is no file"):
        records.load(tmp_path)
    monkeypatch.setattr(seals, "LARGEST", 10)
    (tmp_path / "large.json").write_text("[1, 2, 3, 4, 5, 6]")
    with pytest.raises(DataError, match="it has 18 bytes, allowed are 10"):
        records.load(tmp_path / "large.json")


# --- cached language models ---------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))
    with files.folder_atomic(files.place("ab" * 32)) as folder:
        save_model(new_model(TINY), folder)
    return files.place("ab" * 32)


def test_a_stored_model_loads_as_long_as_it_is_whole(stored: Path) -> None:
    assert torch.equal(load_model(stored).lm_head.weight, new_model(TINY).lm_head.weight)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", seals.NAME])
def test_any_altered_byte_of_a_stored_model_is_noticed(stored: Path, name: str) -> None:
    data = bytearray((stored / name).read_bytes())
    for place in range(0, len(data), max(1, len(data) // 40)):
        flipped = data.copy()
        flipped[place] ^= 1
        (stored / name).write_bytes(flipped)
        with pytest.raises(DataError, match=r"\.(json|safetensors): "):
            load_model(stored)


def test_weights_of_another_model_are_noticed(stored: Path, tmp_path: Path) -> None:
    other = LMConfig(**{**vars(TINY), "seed": 1})
    save_model(new_model(other), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", stored)
    with pytest.raises(DataError, match=r"model\.safetensors: altered since it was written"):
        load_model(stored)
    shutil.copy(tmp_path / "other" / seals.NAME, stored)  # with its seal it is that other model


def test_a_stored_model_needs_its_seal_and_a_brought_one_does_not(
    stored: Path, tmp_path: Path
) -> None:
    (stored / seals.NAME).unlink()
    shutil.copytree(stored, tmp_path / "brought")
    load_model(tmp_path / "brought")
    with pytest.raises(DataError, match=r"sealed\.json: missing"):
        load_model(stored)
    seals.close(stored)
    (stored / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: missing"):
        load_model(stored)


def test_a_seal_that_lists_nothing_is_no_seal(stored: Path) -> None:
    for text in ("[]", '{"files": 3}', '{"files": [1], "sha256": ""}'):
        (stored / seals.NAME).write_text(text)
        with pytest.raises(DataError, match=r"sealed\.json: "):
            seals.check(stored)


# --- the disk -----------------------------------------------------------------------------------


def test_a_folder_takes_the_place_of_another_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not disk.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange two names")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    assert not disk.exchange(tmp_path / "a", tmp_path / "missing")
    gone = []
    replaced = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (gone.append(names), replaced(*names)))
    with files.folder_atomic(tmp_path / "a") as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"] and not gone


@pytest.mark.parametrize("existed", [False, True])
def test_where_names_cannot_be_exchanged_they_are_renamed(
    existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "exchange", lambda a, b: False)
    if existed:
        (tmp_path / "a").mkdir()
    with files.folder_atomic(tmp_path / "a") as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "new"]


def test_what_a_kill_left_is_swept_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    old = time.time() - files.A_DAY - 60
    names = [".x.json.srclib-00000000", ".x.json.20240101", ".y.json.srclib-00000000", ".x.json"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".x.json.srclib-33333333").touch()  # somebody may be writing it
    names.append(".x.json.srclib-33333333")
    (tmp_path / ".x.json.srclib-22222222").mkdir()
    os.utime(tmp_path / ".x.json.srclib-22222222", (old, old))
    files.write_atomic(tmp_path / "x.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "x.json"}


def test_a_lock_names_its_holder_and_clean_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["/bin/tool.py", "run", "--token=abc", "l0"])
    with locks.lock(tmp_path / "a" / "b.lock", "this"):
        held = rf"process {os.getpid()}, tool.py run, since \d{{4}}"
        told = pytest.raises(SuiteError, match=f"again is in use .*{held}")
        with told, locks.lock(tmp_path / "a" / "b.lock", "again"):
            pass
        told = pytest.raises(SuiteError, match=f"b.lock is held .*{held}")
        with told, locks.alone(tmp_path):
            pass
    with locks.alone(tmp_path) as there:
        assert there
    (tmp_path / "a" / "c.lock").symlink_to(tmp_path / "a" / "b.lock")
    with pytest.raises(OSError, match=r"c\.lock"), locks.lock(tmp_path / "a" / "c.lock", "this"):
        pass


def test_who_waits_for_a_lock_gets_it_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    path, order = tmp_path / "cache" / "model.lock", list[str]()

    def second() -> None:
        with locks.lock(path, "this language model", wait=True):
            order.append("second")

    with locks.lock(path, "this language model"):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"]


def test_nothing_starts_in_a_store_that_is_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("SRCLIB_BUILD", str(store))
    one, other = store / "cache" / "one.lock", store / "locks" / "other.lock"
    with locks.alone(store) as there:
        assert not there
    with locks.lock(one, "one"), locks.lock(other, "other"):
        pass  # they share the store
    told = pytest.raises(SuiteError, match="store/ is being deleted by another process")
    with locks.alone(store), told, locks.lock(other, "other"):
        pass
    told = pytest.raises(SuiteError, match=r"one\.lock is held")
    with locks.lock(one, "one"), told, locks.alone(store):
        pass
    told = pytest.raises(SuiteError, match="store/ is in use")
    with locks.lock(one, "one"):
        one.unlink()  # a holder whose file is gone still has the store
        with told, locks.alone(store):
            pass
    (store / files.MARK).unlink()
    (store / files.MARK).mkdir()
    with pytest.raises(SuiteError, match="no file': allowed is a file"), locks.lock(one, "one"):
        pass


# --- what the book says about itself --------------------------------------------------------------


def test_a_figure_about_the_suite_is_read_or_refused(checkout: Path) -> None:
    trust.write("faults", {"flips": {"n": 1000, "share": 0.25, "rows": [{"a|b": "<c>"}], "no": []}})
    page = "{{trust.faults flips.n}} {{trust.faults flips.share | %}}"
    assert book.front.fill(page, {}, "page") == "1000 25 %"
    table = book.front.fill("{{trust.faults flips.rows | table}}", {}, "page")
    assert "&lt;c&gt;" in table and table.count("\n") == 2
    assert book.front.fill("{{trust.faults flips.no | list}}", {}, "page") == "- none"
    page = "a<!-- trust.faults flips -->b{{trust.faults flips.n}}<!-- end -->"
    assert book.front.fill(page, {}, "page") == "ab1000"
    for absent in ("faults cuts", "seeds all"):
        text = page.replace("faults flips", absent, 1) + trust.NOT_RUN
        told = book.front.fill(text, {}, "page")
        assert f"nox -s {absent.split()[0]}" in told and "b" not in told[1:2]
    for quote in ("flips.m", "flips.n.m", "flips", "flips.n | list", "flips.rows"):
        with pytest.raises(ClaimError, match=r"trust\.faults"):
            book.front.fill("{{trust.faults " + quote + "}}", {}, "page")
    text = trust.path("faults").read_text("utf-8")
    trust.path("faults").write_text(text.replace("1000", "9000"), "utf-8")
    with pytest.raises(DataError, match=r"faults\.json: was edited by hand"):
        book.front.fill(page, {}, "page")
    with pytest.raises(DataError, match=r"seeds\.json: cannot be read .*nox -s seeds"):
        book.front.fill("{{trust.seeds n}}", {}, "page")


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric",
    [
        lambda x: metrics.fvu(x, x),
        lambda x: metrics.mse(x, x),
        lambda x: metrics.uncentred_variance_explained(x, x),
        lambda x: metrics.l0(x),
        lambda x: metrics.firing_rate(x),
        lambda x: metrics.z_score(x),
        lambda x: metrics.nth_decoder_projection(x, torch.eye(4), torch.zeros(4), 1),
    ],
)
def test_metrics_refuse_texts_times_tokens(metric: Any) -> None:
    metric(torch.randn(6, 4))
    for shape in ((2, 3, 4), (4,)):
        with pytest.raises(DataError, match=r"shape=.*: allowed is \[n, .*\]"):
            metric(torch.randn(*shape))


def test_two_shapes_that_would_broadcast_are_no_reconstruction() -> None:
    with pytest.raises(DataError, match=r"x_hat\.shape"):
        metrics.fvu(torch.randn(6, 4), torch.randn(1, 4))
    with pytest.raises(DataError, match=r"x_hat\.shape"):
        metrics.mse(torch.randn(6, 4), torch.randn(6, 1))
