"""What the store of runs refuses, and what it does where others store as well."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_memo import CFG, TOY, cache, done, runs, saes, same, trained

from srclib.activations import BatchTopK
from srclib.errors import ParameterError
from srclib.methods.auto_l0 import AutoL0
from srclib.objectives import SquaredError
from srclib.runs import memo
from srclib.runs.keys import key_of
from srclib.runs.memo import train_all
from srclib.runs.run import Run
from srclib.sae import SAE
from srclib.training.control import KSchedule

__all__ = ["cache", "trained"]  # fixtures


def start(k: float = 2.0) -> SAE:
    return SAE(8, 6, BatchTopK(k))


def test_a_trained_run_keeps_the_key_of_its_start() -> None:
    (run,) = runs(2)
    before = key_of(run)
    train_all([run], workers=1)
    assert key_of(run) == before != key_of(Run(run.sae, TOY, CFG))


class Mine(SquaredError):
    """A term that does not say its settings."""

    def __repr__(self) -> str:
        return object.__repr__(self)


class Long(SquaredError):
    """A term whose repr leaves numbers out, as that of a large tensor does."""

    def __repr__(self) -> str:
        return "Long(tensor([0.1, 0.2, ..., 0.9]))"


@pytest.mark.parametrize("term", [Mine(), Long()])
def test_a_term_that_tells_nothing_has_no_key(term: SquaredError) -> None:
    with pytest.raises(ParameterError, match=r"objective=.*a repr that says all of its settings"):
        key_of(Run(start(), TOY, CFG, term))


def test_one_sae_belongs_to_one_run() -> None:
    sae = start()
    with pytest.raises(ParameterError, match="one object in two runs"):
        train_all([Run(sae, TOY, CFG), Run(sae, TOY, CFG)], workers=1)
    train_all([Run(sae, TOY, CFG)], workers=1)
    with pytest.raises(ParameterError, match="one object in two runs"):
        train_all([Run(sae, TOY, CFG)], workers=1)


def test_a_control_with_the_notes_of_a_run_is_refused_and_one_without_is_not() -> None:
    noted, plain = AutoL0(n=2, every=4, window=2), KSchedule(((0, 2.0),))
    for control in (noted, plain):
        train_all([Run(start(), TOY, CFG, control=control)], workers=1)
    train_all([Run(start(), TOY, CFG, control=plain)], workers=1)
    with pytest.raises(ParameterError, match=r"control='one with the notes of a run'"):
        train_all([Run(start(), TOY, CFG, control=noted)], workers=1)


def test_what_another_process_has_stored_meanwhile_is_not_trained_again(
    trained: list[str],
) -> None:
    (first,) = done(2)
    assert len(trained) == 1
    (again,) = runs(2)
    assert list(memo._training([(0, key_of(again), again)])) == []
    assert len(trained) == 1 and not same(again.sae, first.sae), "it is loaded by whoever asked"


def test_a_rank_trains_its_share_and_loads_that_of_the_others(
    monkeypatch: pytest.MonkeyPatch, trained: list[str], cache: Path
) -> None:
    expected = saes(done(1, 2))
    for folder in cache.glob("*/*/sae.*"):
        folder.unlink()
    trained.clear()
    others: list[Any] = []
    met: list[int] = []

    def mine(todo: Sequence[Any]) -> Sequence[Any]:
        others.extend(todo[1:])
        return todo[:1]

    def barrier() -> None:
        """First both have looked at the store; then the other one ends as well."""
        met.append(len(trained))
        for team in others:
            memo._run_here(team)

    for name, value in (("ranks", lambda: 2), ("mine", mine), ("barrier", barrier)):
        monkeypatch.setattr(memo.parallel, name, value)
    monkeypatch.setattr(memo.parallel, "alone", contextlib.nullcontext)
    made = runs(1) + runs(2, lr=CFG.lr, n_batch=CFG.n_batch)
    monkeypatch.setattr(memo, "_chunks", lambda new, keys, _: ([(i, keys[i], new[i])] for i in new))
    train_all(made, workers=1)
    assert met == [0, 1] and len(trained) == 2
    assert all(map(same, saes(made), expected))
