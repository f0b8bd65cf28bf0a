"""Language models trained side by side are those trained one after another."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from srclib import rng
from srclib.engines import engine
from srclib.errors import DataError, SuiteError
from srclib.lm import loop
from srclib.lm.models import LMConfig, load_model, new_model
from srclib.lm.parts import answers
from srclib.lm.several import supervised_beside
from srclib.lm.train import checkpoints, supervised_checkpoints, train_lms
from srclib.store import files

CONFIG = LMConfig(
    "llama", 16, 1, 2, 24, 8, 20, n_steps=3, n_batch=4, warmup=1, checkpoint_steps=(0, 3), tied=True
)
TOKENS = torch.randint(0, 20, (12, 8), generator=rng.stream(0, "tokens"))


@pytest.fixture(autouse=True)
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A store of our own, and one thread instead of processes, which would not know of it."""
    asked = list[int]()

    def one_thread(workers: int) -> ThreadPoolExecutor:
        asked.append(workers)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(files, "build", lambda: tmp_path)
    monkeypatch.setattr(engine, "_pool", functools.cache(one_thread))
    return asked


def test_side_by_side_in_the_order_asked(pools: list[int]) -> None:
    configs = [replace(CONFIG, seed=1), CONFIG]
    side_by_side = train_lms(configs, TOKENS, workers=4)
    assert pools == [2], "no more processes than models"
    files = [folder / "model.safetensors" for each in side_by_side for folder in each.values()]
    assert len({file.read_bytes() for file in files}) == 4  # two seeds, before and after
    assert side_by_side == [checkpoints(c, TOKENS) for c in configs]
    assert train_lms(configs, [TOKENS, TOKENS], workers=1) == side_by_side and pools == [2]


def test_lessons_side_by_side_are_those_of_one_after_another(pools: list[int]) -> None:
    parts = [answers([[3, 4], [5, 6]], [[7], [8]], 2)]
    lessons = [(replace(CONFIG, seed=s), parts) for s in (1, 0)]
    side_by_side = supervised_beside(lessons, workers=4)
    assert pools == [2], "no more processes than models"
    assert side_by_side == [supervised_checkpoints(*lesson) for lesson in lessons]
    assert len({folder for each in side_by_side for folder in each.values()}) == 4
    assert supervised_beside(lessons[:1]) == side_by_side[:1] and pools == [2]


def test_a_broken_pool_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(ThreadPoolExecutor, "map", broken)
    with pytest.raises(SuiteError, match="workers=1"):
        train_lms([CONFIG, replace(CONFIG, seed=1)], TOKENS, workers=2)
    assert engine._pool.cache_info().currsize == 0


def test_a_tied_model_has_one_matrix() -> None:
    tied, free = new_model(CONFIG), new_model(replace(CONFIG, tied=False))
    assert tied.lm_head.weight is tied.get_input_embeddings().weight
    assert free.lm_head.weight is not free.get_input_embeddings().weight
    trained = load_model(train_lms([CONFIG], TOKENS)[0][3])
    assert torch.equal(trained.lm_head.weight, trained.get_input_embeddings().weight)


def test_corpora_and_configurations_pair_up() -> None:
    with pytest.raises(DataError, match="len"):
        train_lms([CONFIG], [TOKENS, TOKENS])


def test_a_killed_language_model_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed beyond a checkpoint of its trajectory, which the resumed one writes again."""
    config = replace(CONFIG, seed=3, vocab_size=40, n_steps=520, checkpoint_steps=(0, 505))
    rows = torch.randint(40, (30, 8), generator=torch.Generator().manual_seed(0))

    def weights(folder: str) -> dict[int, dict[str, torch.Tensor]]:
        monkeypatch.setattr(files, "build", lambda: tmp_path / folder)
        made = checkpoints(config, rows)
        return {step: load_file(at / "model.safetensors") for step, at in made.items()} | {
            520: load_file(made[0].parent / "model.safetensors")
        }

    calm, real = weights("calm"), loop.batch

    def killed(*arguments: Any) -> Any:
        if arguments[3] == 510:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        weights("killed")
    steps: list[int] = []
    monkeypatch.setattr(loop, "batch", lambda *a: (steps.append(a[3]), real(*a))[1])
    resumed = weights("killed")
    assert steps[0] == 500 and len(calm) == 3
    for step, tensors in calm.items():
        assert all(torch.equal(tensors[name], resumed[step][name]) for name in tensors)
