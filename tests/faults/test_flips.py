"""Bit flips and cuts over every stored format: noticed, or what is read is the same."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from counting import tally
from datasets import Dataset
from small_run import run
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from srclib.activations import BatchTopK
from srclib.errors import SuiteError
from srclib.lm.models import LMConfig, load_model, new_model, save_model
from srclib.lm.packing import packed
from srclib.lm.streamed import Blocks
from srclib.runs import memo
from srclib.runs.run import Run
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.store import checkpoint, files
from srclib.suite import records, trust, verify
from srclib.training import state
from srclib.training.trainer import TrainConfig

pytestmark = pytest.mark.faults
ROUNDS = int(os.environ.get("SUITE_FAULT_ROUNDS", "10"))
FLIPS = 10 * ROUNDS  # per format
TINY = LMConfig(d_model=8, n_layers=1, n_heads=2, d_mlp=8, context=8, vocab_size=16)
REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Format(NamedTuple):
    """Something stored: its files, and how it is read; what is read must compare by `==`."""

    folder: Path
    read: Callable[[], Any]


def _bytes(tensors: dict[str, torch.Tensor]) -> dict[str, bytes]:
    return {name: files.tensors_sha256([each]).encode() for name, each in tensors.items()}


def an_sae(folder: Path) -> Format:
    checkpoint.save_sae(SAE(8, 6, BatchTopK(2)), folder / "sae")

    def read() -> Any:
        sae = checkpoint.load_sae(folder / "sae")
        return _bytes(dict(sae.state_dict())), checkpoint.describe(sae)

    return Format(folder / "sae", read)


def a_training_state(folder: Path) -> Format:
    run(folder / "run", resume=False)
    newest = state.latest(folder / "run")

    def read() -> Any:
        tensors, meta = checkpoint.read_tensors(newest, "state")
        return _bytes(tensors), meta

    return Format(newest, read)


def a_run_of_the_store(folder: Path) -> Format:
    def fresh() -> Run:
        cfg = TrainConfig(n_steps=4, n_batch=16, lr=1e-2, log_every=2)
        return Run(SAE(8, 6, BatchTopK(2)), ToyFeatures(6, 8, 0.3), cfg)

    first = fresh()
    memo.train_all([first])

    def read() -> Any:
        again = fresh()
        memo.train_all([again])
        return _bytes(dict(again.sae.state_dict())), again.history, again.key

    return Format(files.place(first.key), read)


def a_language_model(folder: Path) -> Format:
    place = files.place("cd" * 32)
    with files.folder_atomic(place) as new:
        save_model(new_model(TINY), new)

    def read() -> Any:
        model = load_model(place)
        return _bytes(dict(model.state_dict())), model.config.to_dict()

    return Format(place, read)


def a_block_of_activations(folder: Path) -> Format:
    model, rows = new_model(TINY), torch.arange(48).view(6, 8) % 16

    def read() -> Any:
        blocks = Blocks(model, rows, block_rows=3, disk_bytes=2**20)
        found = blocks.at(0).batch(0, 24)
        if blocks.n_computed:
            raise SuiteError("a block is computed again")
        return files.tensors_sha256([found])

    with contextlib.suppress(SuiteError):
        read()
    (kept,) = files.build().rglob("block-000000")
    return Format(kept, read)


def tokens_of_a_corpus(folder: Path) -> Format:
    texts = Dataset.from_dict({"text": [f"x{i} x{i % 7} x{i % 3}" for i in range(200)]})
    words = {"[UNK]": 0} | {f"x{i}": i + 1 for i in range(200)}
    told = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    told.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=told, unk_token="[UNK]")
    kept = files.build() / "cache" / "tokens"

    def bytes_of() -> list[bytes]:
        return [path.read_bytes() for path in sorted(kept.iterdir())]

    def read() -> Any:
        before, rows = bytes_of(), packed(texts, tokenizer, 8, 50).clone()
        if bytes_of() != before:
            raise SuiteError("the texts are tokenised again")
        return files.tensors_sha256([rows])

    packed(texts, tokenizer, 8, 50)
    return Format(kept, read)


def a_published_record(folder: Path) -> Format:
    source = REPOSITORY / "data" / "results" / "report_card.laptop.json"
    path = shutil.copy(source, folder / "record.json")

    def read() -> Any:
        record = records.load(path)
        if not records.is_sealed(record):
            raise SuiteError("the seal does not hold")
        return record

    return Format(folder, read)


def an_executed_notebook(folder: Path) -> Format:
    cell = {"cell_type": "code", "source": "1 + 1", "metadata": {}, "outputs": []}
    stamp = {"study": "toy", "profile": "laptop", "inputs": {}, "commit": None}
    page = {"cells": [cell], "metadata": {verify.STAMP: stamp}, "nbformat": 4, "nbformat_minor": 5}
    path = folder / "toy.ipynb"
    path.write_text(files.pretty(verify.seal_notebook(page)), encoding="utf-8")

    def read() -> Any:
        told = verify.findings(path, aged=False)
        if any(each.failed for each in told):
            raise SuiteError(told[0].what)
        return json.loads(path.read_text(encoding="utf-8"))

    return Format(folder, read)


def figures_about_the_suite(folder: Path) -> Format:
    written = trust.write("faults", {"flips": {"n": 1000, "silent": 0}})
    shutil.move(written, folder / "faults.json")
    return Format(folder, lambda: trust.load("faults"))


FORMATS = {
    "an SAE": an_sae,
    "a state of training": a_training_state,
    "a run of the store": a_run_of_the_store,
    "a language model of the store": a_language_model,
    "a block of activations": a_block_of_activations,
    "the tokens of a corpus": tokens_of_a_corpus,
    "a published record": a_published_record,
    "an executed notebook": an_executed_notebook,
    "figures about the suite": figures_about_the_suite,
}


@pytest.fixture(params=FORMATS)
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Format]]:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.setattr(trust, "path", lambda name: place / f"{name}.json")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param, FORMATS[request.param](place)
    torch.set_num_threads(threads)


def _read(form: Format) -> Any:
    """What is read, None where it is refused; any other error is a fault too."""
    with contextlib.suppress(SuiteError):
        return form.read()
    return None


def _damaged(form: Format, path: Path, data: bytes, sound: Any) -> str:
    """What comes of other bytes in a file; the file is whole again afterwards."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        found = _read(form)
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)
    if found is None:
        return "detected"
    return "identical" if found == sound else "silent"


def test_a_flipped_bit_is_noticed_or_changes_nothing(stored: tuple[str, Format]) -> None:
    name, form = stored
    sound, draw = form.read(), random.Random(name)
    paths = sorted(path for path in form.folder.rglob("*") if path.is_file())
    counts = {"detected": 0, "identical": 0, "silent": 0}
    for i in range(FLIPS):
        path = paths[i % len(paths)]  # as often in the small description as in the tensors
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        counts[_damaged(form, path, bytes(data), sound)] += 1
    tally("flips", name, flips=FLIPS, **counts)
    assert counts["silent"] == 0
    assert counts["detected"] > FLIPS / 2  # the test has teeth
    assert form.read() == sound


def test_a_file_that_is_cut_off_is_noticed(stored: tuple[str, Format]) -> None:
    name, form = stored
    sound, draw = form.read(), random.Random(name)
    counts = {"detected": 0, "identical": 0, "silent": 0}
    for path in sorted(path for path in form.folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for _ in range(ROUNDS):
            cut = data[: draw.randrange(len(data) - 1)]
            counts[_damaged(form, path, cut, sound)] += 1
    tally("cuts", name, cuts=sum(counts.values()), **counts)
    assert counts["silent"] == 0 and counts["detected"] > 0
