"""A run that was stopped goes on to the same bytes, or is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import CFG, TOY, Watched, a_list, make, same
from torch import Tensor

from srclib.activations import BatchTopK, TopK
from srclib.errors import CheckpointError
from srclib.methods.auto_l0 import AutoL0
from srclib.objectives import SquaredError
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.training.control import KSchedule
from srclib.training.trainer import TrainConfig, train


class Stopping(Watched):
    """Ctrl-C when the batch of one step is read."""

    def __init__(self, source: Any, stop: int) -> None:
        super().__init__(source)
        self.stop = stop

    def batch(self, step: int, n_batch: int) -> Tensor:
        if step == self.stop:
            raise KeyboardInterrupt
        return super().batch(step, n_batch)


RUNS: dict[str, Callable[[], tuple[list[SAE], dict[str, Any]]]] = {
    "one of each": lambda: (a_list(), {}),
    "k is steered": lambda: (
        [make(BatchTopK(3)), make(BatchTopK(2))],
        {"control": [AutoL0(n=3, every=4, window=3), KSchedule(((0, 1.0), (29, 3.0)))]},
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_resumed_from_any_checkpoint_bit_for_bit(run: Any, tmp_path: Path) -> None:
    """Stop after 6, 12, 18 or 24 steps (also in the middle of AutoL0's window), then go on."""
    saes, keywords = run()
    cfg = replace(CFG, log_every=4, eval_every=8)
    whole = train(saes, TOY, cfg, **keywords)
    for stop in (6, 12, 18, 24):
        cfg = replace(cfg, checkpoint_every=6, checkpoint_dir=tmp_path / str(stop))
        first, keywords = run()
        with pytest.raises(KeyboardInterrupt):
            train(first, Stopping(TOY, stop), cfg, **keywords)
        again, keywords = run()
        for sae in again:  # what the fresh objects hold does not matter
            sae.W_dec.data.zero_()
        resumed = train(again, TOY, cfg, resume_from=tmp_path / str(stop), **keywords)
        assert all(same(a, b) for a, b in zip(saes, again, strict=True))
        assert resumed.history == whole.history


def checkpointed(folder: Path, **changes: Any) -> TrainConfig:
    cfg = replace(CFG, checkpoint_every=10, checkpoint_dir=folder)
    return replace(cfg, **changes)


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    done = train(make(TopK(2)), TOY, checkpointed(tmp_path))
    again = train(make(TopK(2)), TOY, checkpointed(tmp_path), resume_from=tmp_path)
    assert same(done.sae, again.sae) and done.history == again.history  # type: ignore[arg-type]


def test_two_newest_checkpoints_stay_and_a_named_one_is_taken(tmp_path: Path) -> None:
    done = train(make(TopK(2)), TOY, checkpointed(tmp_path)).sae
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000020", "step-000000030"]
    source = Watched(TOY)
    folder = tmp_path / "step-000000020"
    again = train(make(TopK(2)), source, checkpointed(tmp_path), resume_from=folder).sae
    assert source.steps == list(range(20, 30)) and same(done, again)  # type: ignore[arg-type]


def test_a_new_run_takes_the_folder_over(tmp_path: Path) -> None:
    train(make(TopK(2)), TOY, checkpointed(tmp_path, n_steps=50))
    train(make(TopK(3)), TOY, checkpointed(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000020", "step-000000030"]


def test_a_run_resumed_into_another_folder_takes_that_over(tmp_path: Path) -> None:
    """A longer run's checkpoints would be the newest ones there for ever."""
    train(make(TopK(2)), TOY, checkpointed(tmp_path / "b", n_steps=50))
    train(make(TopK(2)), TOY, checkpointed(tmp_path / "a"))
    source = tmp_path / "a" / "step-000000020"
    train(make(TopK(2)), TOY, checkpointed(tmp_path / "b"), resume_from=source)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["step-000000030"]


def test_a_run_without_clipping_resumes(tmp_path: Path) -> None:
    """Infinity is no JSON."""
    cfg = checkpointed(tmp_path, clip=math.inf)
    train(make(TopK(2)), TOY, cfg)
    train(make(TopK(2)), TOY, cfg, resume_from=tmp_path)
    with pytest.raises(CheckpointError, match=r"clip: inf then, 1\.0 now"):
        train(make(TopK(2)), TOY, checkpointed(tmp_path), resume_from=tmp_path)


OTHER_RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "lr": ({"lr": 2e-2}, {}, "lr: 0.01 then, 0.02 now"),
    "seed": ({"seed": 3}, {}, "seed: 0 then, 3 now"),
    "n_batch": ({"n_batch": 8}, {}, "n_batch: 16 then, 8 now"),
    "n_steps": ({"n_steps": 40}, {}, "n_steps: 30 then, 40 now"),
    "dead_window": ({"dead_window": 6}, {}, "dead_window: 5 then, 6 now"),
    "source": ({}, {"source": ToyFeatures(6, 8, 0.4)}, "source: {.*} then, {.*} now"),
    "activation": ({}, {"sae": TopK(3)}, r"sae 0: SAE 8x6 TopK\(k=2\).*now"),
    "objective": ({}, {"objective": SquaredError()}, "objective 0: .*AuxK.* now"),
    "control": ({}, {"control": KSchedule(((0, 2.0),))}, "control 0: None then.*KSchedule"),
}


@pytest.mark.parametrize(("changes", "arguments", "words"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_a_checkpoint_of_another_run_is_refused(
    changes: dict[str, Any], arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    train(make(TopK(2)), TOY, checkpointed(tmp_path))
    sae, source = make(arguments.pop("sae", TopK(2))), arguments.pop("source", TOY)
    cfg = checkpointed(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=f"step-000000030 belongs to another run .*{words}"):
        train(sae, source, cfg, resume_from=tmp_path, **arguments)


def test_every_differing_field_is_listed(tmp_path: Path) -> None:
    train(make(TopK(2)), TOY, checkpointed(tmp_path))
    cfg = checkpointed(tmp_path, lr=1.0, seed=9, clip=2.0)
    with pytest.raises(CheckpointError) as caught:
        train(make(TopK(2)), TOY, cfg, resume_from=tmp_path)
    text = str(caught.value)
    named = [f for f in ("lr", "seed", "clip", "betas", "n_batch", "source") if f"{f}: " in text]
    assert named == ["lr", "seed", "clip"] and "Resume with the same settings" in text


def test_watching_otherwise_is_the_same_run(tmp_path: Path) -> None:
    train(make(TopK(2)), TOY, checkpointed(tmp_path))
    cfg = checkpointed(tmp_path, log_every=1, eval_every=3, checkpoint_every=7)
    train(make(TopK(2)), TOY, cfg, resume_from=tmp_path)


def test_resuming_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no step-\* checkpoint"):
        train(make(TopK(2)), TOY, CFG, resume_from=tmp_path)
