"""The training loop: nothing that watches changes it, nor do neighbours in a list."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import ACTIVATIONS, CFG, TOY, Watched, a_list, make, same

from srclib.activations import Activation, BatchTopK, ReLU, TopK
from srclib.errors import ParameterError
from srclib.methods.mirror import start_from
from srclib.objectives import L1, SquaredError, TanhSparsity
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.training.control import KSchedule
from srclib.training.trainer import evaluation, train


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_watching_changes_nothing(activation: Activation, tmp_path: Path) -> None:
    """Intervals 1, 7 and never: weights, thresholds and shared records are the same bits."""
    results, histories = [], []
    for every in (1, 7, 0):
        cfg = replace(
            CFG,
            log_every=every,
            eval_every=every,
            checkpoint_every=every,
            checkpoint_dir=tmp_path / str(every),
        )
        result = train(make(activation), TOY, cfg, observe=lambda record: record.clear())
        results.append(result.sae)
        histories.append({record["step"]: record for record in result.history})
    assert all(same(results[0], other) for other in results[1:])  # type: ignore[arg-type]
    assert list(histories[1]) == [7, 14, 21, 28, 30] and not histories[2]
    assert all(histories[0][step] == record for step, record in histories[1].items())


def test_the_same_run_twice_and_another_seed() -> None:
    one, two = (train(make(TopK(2)), TOY, CFG) for _ in range(2))
    assert same(one.sae, two.sae) and one.history == two.history  # type: ignore[arg-type]
    other = train(make(TopK(2)), TOY, replace(CFG, seed=1)).sae
    assert not same(one.sae, other)  # type: ignore[arg-type]


def test_another_number_of_threads_moves_rounding_only() -> None:
    threads, saes = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            saes.append(train(make(BatchTopK(2)), TOY, CFG).sae)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(saes[0].W_dec, saes[1].W_dec, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state, first = torch.get_rng_state(), train(make(TopK(2)), TOY, CFG).sae
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(first, train(make(TopK(2)), TOY, CFG).sae)  # type: ignore[arg-type]


def test_observe_gets_copies() -> None:
    seen: list[dict[str, Any]] = []

    def observe(record: dict[str, Any]) -> None:
        seen.append(dict(record))
        record.update(step=-1, mse="spoiled")

    result = train([make(TopK(2)), make(ReLU())], TOY, CFG, observe=observe)
    assert result.history == seen


def test_in_a_list_or_alone_bit_for_bit() -> None:
    objectives = [SquaredError() + L1(0.1), None, None, SquaredError() + TanhSparsity(0.1), None]
    together = train(a_list(), TOY, CFG, objective=objectives)  # type: ignore[arg-type]
    for index, (sae, objective) in enumerate(zip(a_list(), objectives, strict=True)):
        alone = train(sae, TOY, CFG, objective=objective)
        assert same(together.sae[index], sae)  # type: ignore[index]
        records = [{**record, "sae": index} for record in alone.history]
        assert [r for r in together.history if r["sae"] == index] == records


def test_the_order_of_a_list_does_not_matter() -> None:
    order = [3, 0, 4, 2, 1]
    plain, shuffled = a_list(), [a_list()[i] for i in order]
    train(plain, TOY, CFG)
    train(shuffled, TOY, CFG)
    assert all(same(plain[i], sae) for i, sae in zip(order, shuffled, strict=True))


def test_wide_saes_in_a_list_are_cut_into_threads_like_lonely_ones() -> None:
    """Above the size at which torch splits its work, too."""
    toy, cfg = ToyFeatures(40, 50, 0.1), replace(CFG, n_steps=4, n_batch=64)
    saes = [SAE(50, 401 + i, BatchTopK(5), seed=i) for i in range(4)]
    alone = [train(copy.deepcopy(sae), toy, cfg).sae for sae in saes]
    train(saes, toy, cfg)
    assert all(same(a, b) for a, b in zip(alone, saes, strict=True))  # type: ignore[arg-type]


def test_controls_of_a_list_are_one_per_sae() -> None:
    controls = [KSchedule(((0, 1.0), (29, 3.0))), KSchedule(((0, 2.0),))]
    result = train([make(BatchTopK(1)), make(BatchTopK(1))], TOY, CFG, control=controls)
    assert [sae.activation for sae in result.sae] == [BatchTopK(3.0), BatchTopK(2.0)]  # type: ignore[union-attr]
    # A record tells of the step just made: step 10 is the update with index 9.
    expected = [1 + 2 * step / 29 for step in (9, 19, 29)]
    assert [r["k"] for r in result.history if r["sae"] == 0] == pytest.approx(expected)


def test_one_value_per_sae() -> None:
    with pytest.raises(ParameterError, match=r"len.objective.=1: allowed is 2 values"):
        train([make(TopK(2)), make(TopK(2))], TOY, CFG, objective=[SquaredError()])


def test_training_goes_on_from_the_weights_given() -> None:
    """At the true dictionary with room there is nothing to learn; elsewhere the object moves."""
    at_truth = start_from(make(TopK(6)), TOY.features)
    result = train(at_truth, TOY, replace(CFG, log_every=1), objective=SquaredError())
    assert result.sae is at_truth and result.history[0]["mse"] < 1e-8
    random = make(TopK(6))
    saes = [random]
    assert train(saes, TOY, CFG).sae is saes and saes[0] is random
    assert not torch.equal(random.W_dec, make(TopK(6)).W_dec)


def test_parameters_own_their_memory_again_afterwards() -> None:
    saes = [make(TopK(2)), make(ReLU())]
    train(saes, TOY, CFG)
    parameters = [p for sae in saes for p in sae.parameters()]
    assert len({p.data_ptr() for p in parameters}) == len(parameters)
    assert all(p.grad is None and p.is_leaf and p.is_contiguous() for p in parameters)
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for p in parameters)


def test_evaluation_never_reads_a_training_batch() -> None:
    source = Watched(TOY)
    cfg = replace(CFG, eval_every=10, eval_batches=3, seed=5)
    result = train(make(BatchTopK(2)), source, cfg)
    training = [step for step in source.steps if step >= 0]
    assert training == list(range(training[0], training[0] + 30))
    assert sorted({step for step in source.steps if step < 0}) == [-3, -2, -1]
    assert all({"eval_mse", "eval_l0"} <= record.keys() for record in result.history)


@pytest.mark.parametrize("log_every", [0, 4])
def test_evaluation_keeps_its_own_interval(log_every: int) -> None:
    cfg = replace(CFG, n_steps=12, log_every=log_every, eval_every=5)
    history = train(make(TopK(2)), TOY, cfg).history
    assert [record["step"] for record in history if "eval_mse" in record] == [5, 10, 12]


def test_seeds_read_other_batches() -> None:
    read = []
    for seed in (0, 1, 2):
        source = Watched(TOY)
        train(make(TopK(2)), source, replace(CFG, seed=seed))
        read.append(set(source.steps))
    assert not read[0] & read[1] and not read[1] & read[2] and not read[0] & read[2]


def test_evaluation_is_what_it_says() -> None:
    sae = train(make(BatchTopK(2)), TOY, CFG).sae
    assert isinstance(sae, SAE)
    found = evaluation(sae.train(), TOY, 16, 3)
    assert sae.training  # the mode comes back
    x = torch.cat([TOY.batch(step, 16) for step in (-1, -2, -3)])
    out = sae.eval()(x)
    assert found["eval_mse"] == pytest.approx(
        float((out.x_hat - x).detach().square().sum(1).mean())
    )
    assert found["eval_l0"] == pytest.approx(float((out.acts > 0).sum() / 48))


def test_history_tells_of_each_logged_step() -> None:
    """Against the loop done by hand: the records hold what the step's own batch gave."""
    sae = make(TopK(2))
    history = train(sae, TOY, replace(CFG, n_steps=3, log_every=1)).history
    assert [record["step"] for record in history] == [1, 2, 3]
    start = make(TopK(2))
    out = start(TOY.batch(0, 16))
    mse = float((out.x_hat - TOY.batch(0, 16)).detach().square().sum(1).mean())
    first = history[0]
    assert first == {
        "step": 1,
        "sae": 0,
        "mse": pytest.approx(mse, rel=1e-5),
        "l0": float((out.acts > 0).sum()) / 16,
        "dead": 0,
        "k": 2,
    }
