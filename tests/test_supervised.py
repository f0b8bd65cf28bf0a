"""Training on answers only: what is learnt, what a step reads, what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srclib.errors import DataError, ParameterError
from srclib.lm.models import LMConfig, new_model
from srclib.lm.parts import answers, part_loss, texts
from srclib.lm.train import supervised_checkpoints, train_supervised
from srclib.store import files

PROMPTS, ANSWERS = [[3, 4, 5], [3, 6]], [[7, 1], [8, 9, 1]]


def config(**changes: object) -> LMConfig:
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_mlp": 32, "context": 8}
    return LMConfig("gpt2", **(sizes | {"vocab_size": 12, "n_steps": 3, "warmup": 1} | changes))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "build", lambda: tmp_path)


def test_only_answers_are_learnt() -> None:
    part = answers(PROMPTS, ANSWERS, 2)
    assert part.ids.tolist() == [[3, 4, 5, 7, 1], [3, 6, 8, 9, 1]]
    assert part.learnt.int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert texts([[3, 4], [5, 6, 7]], 1).learnt.int().tolist() == [[0, 1, 0], [0, 1, 1]]


def test_loss_is_the_mean_over_learnt_tokens_and_ignores_the_padding() -> None:
    model = new_model(config())
    part = texts([[3, 4, 5], [6, 7]], 2)
    expected = []
    with torch.no_grad():
        for row in ([3, 4, 5], [6, 7]):
            logits = model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
            expected += [-logits[i, row[i + 1]] for i in range(len(row) - 1)]
        found = part_loss(model, part.ids, part.learnt)
        other = part_loss(model, torch.where(part.ids == 0, 9, part.ids), part.learnt)
    assert float(found) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    assert float(other) == pytest.approx(float(found), rel=1e-6)


def test_it_learns_the_answers_and_keeps_what_it_trained() -> None:
    cfg = config(n_steps=60, lr=1e-2)
    parts = [answers(PROMPTS, ANSWERS, 2)]
    model = train_supervised(cfg, parts)
    with torch.no_grad():
        assert float(part_loss(model, parts[0].ids, parts[0].learnt)) < 0.1
    (folder,) = {path.parent for path in files.build().rglob("model.safetensors")}
    before = (folder / "model.safetensors").stat().st_mtime_ns
    train_supervised(cfg, parts)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    train_supervised(config(n_steps=60, lr=1e-2, seed=1), parts)
    assert len(list(files.build().rglob("model.safetensors"))) == 2


def test_training_is_the_same_bits_and_goes_on_from_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = [answers(PROMPTS, ANSWERS, 1), texts([[3, 4, 5], [6, 7]], 1)]
    first = train_supervised(config(), parts)
    monkeypatch.setenv("SRCLIB_RECOMPUTE", "1")
    files.forget_once.cache_clear()
    again = train_supervised(config(), parts)
    for p, q in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    folders = supervised_checkpoints(config(checkpoint_steps=(0, 3)), parts)
    onwards = train_supervised(config(n_steps=0), parts, start=folders[3])
    for p, q in zip(first.parameters(), onwards.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        (lambda: [], ParameterError, "parts"),
        (lambda: [texts([list(range(3, 12))], 1)], DataError, "longest text of part 0=9"),
        (lambda: [texts([[3, 12]], 1)], DataError, "id in part 0=12"),
        (lambda: [texts([[3]], 1)], DataError, "at least one token to learn"),
        (lambda: [texts([], 1)], ParameterError, "at least 1"),
    ],
)
def test_refusals(parts: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        train_supervised(config(), parts())  # type: ignore[operator]
