"""Small language models: the same from the same seed, stored whole, and they learn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import draw
from tiny_lm import ids, tiny_lm
from torch import Tensor

from srclib.errors import DataError, ParameterError
from srclib.lm import models, train
from srclib.lm.harvest import token_losses
from srclib.lm.layouts import blocks, family
from srclib.lm.loop import PRETRAINING, _adam, lr_factor
from srclib.lm.models import FAMILIES, LMConfig, load_model, new_model, save_model
from srclib.lm.parts import Part, batch
from srclib.lm.sites import edited
from srclib.lm.train import checkpoints, train_lm
from srclib.store import files, seals

SMALL = LMConfig(
    "gpt2",
    d_model=16,
    n_layers=2,
    n_heads=2,
    d_mlp=24,
    context=8,
    vocab_size=6,
    n_steps=30,
    n_batch=4,
    lr=1e-2,
    warmup=4,
)
COUNTING = (torch.arange(8) + torch.arange(12).unsqueeze(1)) % 6  # [12, 8]: 2, 3, 4, 5, 0, 1, ...


def same(a: Any, b: Any) -> bool:
    theirs = b.state_dict()
    return all(value.equal(theirs[key]) for key, value in a.state_dict().items())


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of its own, as in a fresh process."""
    monkeypatch.setattr(files, "build", lambda: tmp_path)
    files.forget_once.cache_clear()
    return tmp_path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_new_model_is_a_function_of_its_configuration(name: str) -> None:
    cfg = replace(SMALL, family=name)
    before = torch.get_rng_state()
    model = new_model(cfg)
    assert same(model, new_model(cfg)) and not same(model, new_model(replace(cfg, seed=1)))
    assert torch.get_rng_state().equal(before)
    assert family(model) == name and len(blocks(model)) == 2 and model.dtype == torch.float32
    assert model.config._attn_implementation == "eager" and not model.training
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert (head is table) == (name in ("gpt2", "gemma2"))
    with torch.no_grad():
        logits = model(COUNTING).logits
        assert model.train()(COUNTING).logits.equal(logits), "no dropout"
    assert abs(token_losses(model, COUNTING).mean() - torch.tensor(6.0).log()) < 0.5
    changed = COUNTING.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 6
    with torch.no_grad():
        assert model(changed).logits[:, :5].equal(logits[:, :5]), "no word is special, none ahead"


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_one_block_reads_the_whole_context(name: str) -> None:
    """Gemma-2's first block, too, which has a window."""
    model = new_model(replace(SMALL, family=name, n_layers=1))
    changed = COUNTING.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 6
    assert (model(changed).logits[:, 7] != model(COUNTING).logits[:, 7]).any(-1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "opt"}, "family='opt': allowed is one of gpt2, llama"),
        ({"d_model": 18}, r"d_model=18: allowed is a multiple of 2 \* n_heads = 4"),
        ({"n_layers": 0}, "n_layers=0: allowed is a whole number >= 1"),
        ({"n_steps": -1}, "n_steps=-1"),
        ({"seed": 1.0}, r"seed=1\.0"),
        ({"n_batch": True}, "n_batch=True"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"checkpoint_steps": (0, 31)}, r"checkpoint_steps=\(0, 31\): allowed is increasing"),
        ({"checkpoint_steps": (5, 2)}, "checkpoint_steps"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        replace(SMALL, **change)


def test_the_rate_rises_from_above_zero_and_falls_to_zero() -> None:
    factors = [lr_factor(step, SMALL) for step in range(SMALL.n_steps)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[17] == pytest.approx(0.5) and 0 < factors[-1] < 0.01
    assert lr_factor(SMALL.n_steps, SMALL) == pytest.approx(0)


@pytest.mark.parametrize("learnt", [None, torch.ones(12, 8, dtype=torch.bool)])
def test_every_epoch_reads_every_row_once(learnt: Tensor | None) -> None:
    numbered = Part(torch.arange(12).unsqueeze(1).expand(12, 8), learnt, 5)

    def rows(step: int, cfg: LMConfig = SMALL) -> Tensor:
        return batch(cfg, numbered, 0, step)[0][:, 0]

    batches = [rows(step) for step in range(36)]  # 15 epochs
    epochs = torch.cat(batches).split(12)
    assert all(epoch.sort().values.equal(torch.arange(12)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 15
    assert rows(7).equal(batches[7]), "whatever was read before"
    assert not rows(7, replace(SMALL, seed=1)).equal(batches[7])


def test_training_learns_repeats_and_is_stored(built: Path, monkeypatch: Any) -> None:
    before = torch.get_rng_state()
    cfg = replace(SMALL, checkpoint_steps=(0, 7, 30))
    model = train_lm(cfg, COUNTING)
    assert torch.get_rng_state().equal(before)
    assert token_losses(new_model(cfg), COUNTING).mean() > 1.5
    assert token_losses(model, COUNTING).mean() < 0.5 and not model.training
    folders = checkpoints(cfg, COUNTING)
    stored = {step: load_model(folder) for step, folder in folders.items()}
    assert list(folders) == [0, 7, 30] and folders[7].name == "step_000007"
    assert same(stored[0], new_model(cfg)) and same(stored[30], model)
    assert not same(stored[7], stored[0]) and not same(stored[7], model)
    shutil.rmtree(built / "cache")
    assert same(train_lm(SMALL, COUNTING), model), "the same bits again, watched or not"
    monkeypatch.setattr(train, "learn", None)
    assert same(train_lm(SMALL, COUNTING.int()), model), "not trained again"
    for other in ({"seed": 1}, {"lr": 2e-2}, {"n_steps": 31}):
        with pytest.raises(TypeError):
            train_lm(replace(SMALL, **other), COUNTING)
    with pytest.raises(TypeError):
        train_lm(SMALL, COUNTING.flip(0))


def test_forced_runs_train_once_more(built: Path, monkeypatch: Any) -> None:
    trained: list[LMConfig] = []

    def fake(cfg: LMConfig, parts: Any, recipe: Any, start: Any, folder: Path) -> None:
        trained.append(cfg)
        save_model(new_model(cfg), folder)

    monkeypatch.setattr(train, "learn", fake)
    train_lm(SMALL, COUNTING)
    files.forget_once.cache_clear()  # a new process
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    train_lm(SMALL, COUNTING)
    checkpoints(SMALL, COUNTING)
    assert trained == [SMALL, SMALL]


@pytest.mark.parametrize("name", FAMILIES)
def test_decay_spares_norms_and_biases(name: str) -> None:
    """Without a gradient only decay moves a weight, by lr times 0.1 of it."""
    cfg = replace(SMALL, family=name)
    model, start = new_model(cfg), new_model(cfg)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adam = _adam(model, cfg, PRETRAINING)
    assert sum(len(group["params"]) for group in adam.param_groups) == len(list(start.parameters()))
    adam.step()
    for old, new in zip(start.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, old * (1 - 1e-3 if old.ndim > 1 else 1))


def test_a_loss_that_is_no_number_stops_and_stores_nothing(built: Path) -> None:
    with pytest.raises(DataError, match=r"loss at step \d+=.*: allowed is finite. Lower"):
        train_lm(replace(SMALL, lr=1e20, warmup=0), COUNTING)
    assert not list(built.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (COUNTING[:, :7], r"tokens.shape=\(12, 7\): allowed is '?\[n_rows >= 4 \(n_batch\), 8"),
        (COUNTING[:3], r"tokens.shape=\(3, 8\)"),
        (COUNTING[0], r"tokens.shape=\(8,\)"),
        (COUNTING.float(), "tokens.dtype=torch.float32"),
        (COUNTING + 1, "id in part 0=6: allowed is 0 <= id < vocab_size = 6"),
        (COUNTING - 1, "id in part 0=-1"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(built: Path, tokens: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        train_lm(SMALL, tokens)
    assert not list(built.iterdir())


def test_token_losses_against_float64() -> None:
    model, tokens = tiny_lm("gpt2", resid_pdrop=0.5), ids(0, 5, 9)
    with torch.no_grad():
        p = model(tokens).logits.double().softmax(-1)
    expected = torch.tensor(
        [[-p[i, j, tokens[i, j + 1]].log() for j in range(8)] for i in range(5)]
    )
    model.train()
    for batch_tokens in (1, 20, 10_000):
        losses = token_losses(model, tokens, batch_tokens=batch_tokens)
        assert losses.dtype == torch.float32 and not losses.requires_grad and model.training
        torch.testing.assert_close(losses.double(), expected.double(), rtol=1e-5, atol=1e-5)
    with edited(model, 0, "out", lambda x: draw(0, *x.shape)):
        assert not torch.allclose(token_losses(model, tokens), losses, atol=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(new_model(SMALL), tmp_path / "model")
    return tmp_path / "model"


def test_a_stored_model_comes_back(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(folder)
    assert same(model, new_model(SMALL)) and not model.training
    assert model.config._attn_implementation == "eager"
    assert load_model(str(folder), dtype=torch.bfloat16).dtype == torch.bfloat16
    assert "%" not in capfd.readouterr().err, "no progress bars"
    with pytest.raises(ParameterError, match="revision='abc': allowed is None for a folder"):
        load_model(folder, revision="abc")


def test_a_model_that_is_not_there_is_named(monkeypatch: Any) -> None:
    with pytest.raises(DataError) as error:
        load_model("nobody/no-model", revision="v1")
    for words in (
        "'nobody/no-model'",
        "revision='v1'",
        "hf download nobody/no-model --revision v1",
    ):
        assert words in str(error.value)
    assert "profiles smoke and laptop need no such model" in str(error.value)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lose_a_weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["transformer.h.1.mlp.c_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_instead(folder: Path) -> None:
    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()


FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: change_config(f, auto_map={"AutoModel": "evil.Model"}), "brings code of its own"),
    (lambda f: change_config(f, model_type="weird"), "does not load .*`weird`"),
    (lambda f: change_config(f, n_inner=23), r"does not load"),
    (lambda f: (f / "config.json").unlink(), "does not load .*model_type"),
    (lambda f: (f / "config.json").write_text("{"), "does not load .*config.json"),
    (lose_a_weight, r"no weights for transformer.h.1.mlp.c_proj.weight\)"),
    (cut, "does not load .*safetensors; pickled weights are refused"),
    (pickle_instead, "does not load .*pickled weights are refused unread"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_a_folder_that_is_no_whole_model_is_refused(
    folder: Path, fault: Callable[[Path], Any], words: str
) -> None:
    (folder / seals.NAME).unlink()  # as somebody else's
    fault(folder)
    with pytest.raises(DataError, match=words):
        load_model(folder)


def test_the_callers_threads_neither_count_nor_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            monkeypatch.setattr(files, "build", lambda n=threads: tmp_path / str(n))
            torch.set_num_threads(threads)
            model = train_lm(SMALL, COUNTING)
            assert torch.get_num_threads() == threads
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*weights)


def test_a_configuration_counts_beside_the_weights(tmp_path: Path) -> None:
    made = new_model(LMConfig("gpt2", d_model=16, n_heads=2, context=8, vocab_size=30))
    save_model(made, tmp_path / "a")
    assert models.hash_of(load_model(tmp_path / "a").config) == models.hash_of(made.config)
    other = load_model(tmp_path / "a")
    other.config.n_head = 4
    save_model(other, tmp_path / "b")
    assert train._content(tmp_path / "a") != train._content(tmp_path / "b")
    assert train._content(tmp_path / "a")[0] == train._content(tmp_path / "b")[0]
    sent = models.reference(load_model(tmp_path / "a"), train._content(tmp_path / "a")[0])
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(tmp_path / "b", tmp_path / "a")
    with pytest.raises(DataError, match="other weights or settings"):
        sent.load()
