"""Whole folders of the store, each under a good seal, put in each other's place: refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from srclib.activations import BatchTopK
from srclib.errors import CheckpointError, DataError
from srclib.lm.models import LMConfig, load_model, new_model
from srclib.lm.streamed import Blocks
from srclib.lm.train import train_lms
from srclib.runs import memo
from srclib.runs.run import Run
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.store import files
from srclib.training.config import TrainConfig


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))


def exchange(a: Path, b: Path) -> None:
    other = a.with_name("other")
    os.replace(a, other)
    os.replace(b, a)
    os.replace(other, b)


def test_saes_of_two_runs() -> None:
    def fresh(seed: int) -> Run:
        cfg = TrainConfig(n_steps=3, n_batch=16, lr=1e-2, log_every=0)
        return Run(SAE(8, 6, BatchTopK(2), seed=seed), ToyFeatures(6, 8, 0.3), cfg)

    first, second = fresh(0), fresh(1)
    memo.train_all([first, second])
    exchange(files.place(first.key), files.place(second.key))
    with pytest.raises(CheckpointError, match="holds what was stored elsewhere"):
        memo.train_all([fresh(0)])


def test_language_models_and_their_checkpoints() -> None:
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_mlp": 16, "context": 8}
    ids = torch.arange(320).view(40, 8) % 30
    configs = [
        LMConfig(vocab_size=30, n_steps=2, n_batch=4, seed=s, checkpoint_steps=(1, 2), **sizes)
        for s in (0, 1)
    ]
    first, second = train_lms(configs, ids)
    homes = first[1].parent, second[1].parent
    exchange(*homes)
    with pytest.raises(DataError, match="holds what was stored elsewhere"):
        load_model(homes[0])
    with pytest.raises(DataError, match="holds what was stored elsewhere"):
        load_model(first[1])
    exchange(*homes)
    load_model(homes[0])
    exchange(first[1], first[2])
    with pytest.raises(DataError, match="holds what was stored elsewhere"):
        load_model(first[1])


def test_blocks_of_activations_are_computed_again() -> None:
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_mlp": 8, "context": 8}
    model = new_model(LMConfig(vocab_size=16, **sizes))
    rows = torch.arange(48).view(6, 8) % 16

    def blocks() -> Blocks:
        made = Blocks(model, rows, block_rows=3, disk_bytes=2**20)
        made.at(0)
        return made

    before = [blocks().block(i)[0, "out"] for i in (0, 1)]
    exchange(*sorted(files.build().rglob("block-*")))
    again = blocks()
    after = [again.block(i)[0, "out"] for i in (0, 1)]
    assert again.n_computed == 2
    assert all(map(torch.equal, before, after)) and not torch.equal(*before)


def test_force_deletes_nothing_of_the_store_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> Run:
        cfg = TrainConfig(n_steps=3, n_batch=16, lr=1e-2, log_every=0)
        return Run(SAE(8, 6, BatchTopK(2)), ToyFeatures(6, 8, 0.3), cfg)

    first = fresh()
    memo.train_all([first])
    before = {path: path.read_bytes() for path in files.place(first.key).iterdir()}
    monkeypatch.setenv("SRCLIB_BEHIND", str(files.build()))
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "before it"))
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    memo.train_all([fresh()])
    files.forget_once.__wrapped__(files.place(first.key))
    assert {path: path.read_bytes() for path in files.place(first.key).iterdir()} == before
    assert not files.place(first.key).is_relative_to(files.build())


def test_what_an_earlier_process_stored_is_forgotten_under_force_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = files.make(files.build() / "folder")
    (folder / "file").touch()
    (files.build() / "file").touch()
    for path in (folder, files.build() / "file"):
        files.forget_once.__wrapped__(path)
        assert path.exists()
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    for path in (folder, files.build() / "file", files.build() / "nothing"):
        files.forget_once.__wrapped__(path)
        assert not path.exists()
