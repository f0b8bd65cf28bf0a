"""The training loop: nothing that watches changes it, and what it counts is right."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.control import AutoL0, KSchedule
from srclib.errors import CheckpointError, DataError, ParameterError, SuiteError
from srclib.init import start_from
from srclib.objectives import L1, AuxK, SquaredError, TanhSparsity
from srclib.sae import SAE
from srclib.sources.tensor import Rows, Scaled
from srclib.sources.toy import ToyFeatures
from srclib.train import TrainConfig, evaluation, memory_needed, train

TOY = ToyFeatures(6, 8, 0.3)
CFG = TrainConfig(n_steps=30, n_batch=16, lr=1e-2, log_every=10, dead_window=5)
ACTIVATIONS: list[Activation] = [ReLU(), TopK(2), BatchTopK(1.5), JumpReLU(bandwidth=0.1)]


def make(activation: Activation, seed: int = 0, d_sae: int = 6) -> SAE:
    return SAE(8, d_sae, activation, seed=seed)


def contents(sae: SAE) -> list[Tensor]:
    return [tensor.clone() for tensor in sae.state_dict().values()]


def same(a: SAE, b: SAE) -> bool:
    """Bit for bit, threshold and activation included."""
    pairs = zip(contents(a), contents(b), strict=True)
    return a.activation == b.activation and all(torch.equal(x, y) for x, y in pairs)


class Watched:
    """A source that writes down which steps are read."""

    def __init__(self, source: Any) -> None:
        self.source, self.steps = source, list[int]()
        self.d_in, self.n_samples, self.identity = source.d_in, source.n_samples, source.identity

    def batch(self, step: int, n_batch: int) -> Tensor:
        self.steps.append(step)
        return self.source.batch(step, n_batch)  # type: ignore[no-any-return]


class Spoiled(Watched):
    """NaN in one batch."""

    def batch(self, step: int, n_batch: int) -> Tensor:
        x = super().batch(step, n_batch)
        if step == 4:
            x[3, 1] = math.nan
        return x


# --- watching changes nothing -------------------------------------------------------------------


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


# --- lists --------------------------------------------------------------------------------------


def a_list() -> list[SAE]:
    """Every kind, of different widths, so that neighbours differ in size and in moments."""
    return [make(a, seed=i, d_sae=5 + 2 * i) for i, a in enumerate([*ACTIVATIONS, TopK(3)])]


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
    with pytest.raises(ParameterError, match=r"objectives or controls=1: allowed is 2 values"):
        train([make(TopK(2)), make(TopK(2))], TOY, CFG, objective=[SquaredError()])


# --- in place, evaluation -----------------------------------------------------------------------


def test_training_goes_on_from_the_weights_given() -> None:
    """At the true dictionary with room there is nothing to learn; elsewhere the object moves."""
    at_truth = start_from(make(TopK(6)), TOY.features)
    result = train(at_truth, TOY, replace(CFG, log_every=1), objective=SquaredError())
    assert result.sae is at_truth and result.history[0]["mse"] < 1e-8
    random = make(TopK(6))
    saes = [random]
    assert train(saes, TOY, CFG).sae[0] is random  # type: ignore[index]
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


# --- the update ---------------------------------------------------------------------------------


def by_hand(sae: SAE, cfg: TrainConfig) -> None:
    """torch's own Adam and autograd, written plainly."""
    adam = torch.optim.Adam(sae.parameters(), lr=cfg.lr, betas=cfg.betas)
    for step in range(cfg.n_steps):
        x = TOY.batch(step, cfg.n_batch)
        loss = (sae(x).x_hat - x).square().sum(dim=1).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), cfg.clip)
        adam.param_groups[0]["lr"] = cfg.lr_at(step)
        adam.step()


@pytest.mark.parametrize("clip", [0.5, 1e9])
@pytest.mark.parametrize("activation", [ReLU(), TopK(2), JumpReLU(bandwidth=0.1)], ids=repr)
def test_an_update_is_adam_on_the_clipped_gradient(activation: Activation, clip: float) -> None:
    cfg = replace(CFG, n_steps=10, clip=clip, lr_warmup=3, lr_decay=4, betas=(0.8, 0.99))
    found, expected = make(activation), make(activation)
    train(found, TOY, cfg, objective=SquaredError())
    by_hand(expected, cfg)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_learning_rate_table() -> None:
    cfg = TrainConfig(n_steps=10, n_batch=1, lr=2.0, lr_warmup=4, lr_decay=5)
    rates = [cfg.lr_at(step) for step in range(10)]
    assert rates == pytest.approx([0, 0.5, 1, 1.5, 2, 2, 1.6, 1.2, 0.8, 0.4])
    assert {TrainConfig(n_steps=10, n_batch=1, lr=2.0).lr_at(step) for step in range(10)} == {2.0}


def test_unit_decoder_keeps_rows_at_norm_one() -> None:
    sae = SAE(8, 6, TopK(2), decoder_norm=1.0)
    norms = []
    cfg = replace(CFG, unit_decoder=True, log_every=1)
    train(sae, TOY, cfg, observe=lambda record: norms.append(sae.W_dec.detach().norm(dim=1)))
    torch.testing.assert_close(torch.stack(norms), torch.ones(30, 6))
    free = SAE(8, 6, TopK(2), decoder_norm=1.0)
    train(free, TOY, CFG)
    assert float((free.W_dec.detach().norm(dim=1) - 1).abs().max()) > 1e-3


def test_threshold_is_the_average_of_the_smallest_kept_score() -> None:
    """The loop by hand, with the start at zero divided out."""
    weights: list[SAE] = [make(BatchTopK(1.5))]
    cfg = replace(CFG, log_every=1)
    trained = make(BatchTopK(1.5))
    train(trained, TOY, cfg, observe=lambda record: weights.append(copy.deepcopy(trained)))
    average = 0.0
    for step, sae in enumerate(weights[:-1]):
        acts = sae.train().encode(TOY.batch(step, 16)).detach()
        scores = acts * sae.W_dec.detach().norm(dim=1)
        average = 0.99 * average + 0.01 * float(scores[acts > 0].min())
        expected = average / (1 - 0.99 ** (step + 1))
        assert float(weights[step + 1].threshold) == pytest.approx(expected, rel=1e-5)


def test_threshold_gives_about_the_l0_it_was_trained_with() -> None:
    sae = make(BatchTopK(1.5))
    history = train(sae, TOY, replace(CFG, n_steps=300, eval_every=300, eval_batches=20)).history
    assert history[-1]["l0"] <= 1.5
    assert history[-1]["eval_l0"] == pytest.approx(1.5, rel=0.15)


@pytest.mark.parametrize("activation", [ReLU(), TopK(2)], ids=repr)
def test_other_activations_have_no_threshold(activation: Activation) -> None:
    sae = make(activation)
    train(sae, TOY, CFG)
    assert float(sae.threshold) == 0


# --- dead latents -------------------------------------------------------------------------------


def with_dead(n_dead: int, activation: Activation) -> SAE:
    """The last latents can never fire: their bias is far below zero."""
    sae = make(activation, d_sae=12)
    with torch.no_grad():
        sae.b_enc[12 - n_dead :] = -100
    return sae


@pytest.mark.parametrize("n_dead", [0, 1, 4, 7, 12])
@pytest.mark.parametrize("activation", [TopK(2), BatchTopK(2)], ids=repr)
def test_dead_latents_are_counted_and_stay_finite(activation: Activation, n_dead: int) -> None:
    """None, some, more than AuxK's d_in // 2 = 4, all: right counts, finite losses, no 0/0."""
    sae = with_dead(n_dead, activation)
    cfg = replace(CFG, n_steps=12, log_every=1, lr=1e-4, dead_window=5)
    history = train(sae, TOY, cfg).history
    numbers = [v for record in history for v in record.values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    assert all(bool(torch.isfinite(p).all()) for p in sae.parameters())
    dead = [record["dead"] for record in history]
    assert dead[:5] == [0] * 5 and min(dead[5:]) >= n_dead
    # Silent for 6 > dead_window steps after step 6, so step 7 is the first with a loss for them.
    assert [("auxk" in record) for record in history[:7]] == [False] * 6 + [dead[5] > 0]


def test_auxk_moves_what_nothing_else_would() -> None:
    found = []
    for objective in (SquaredError() + AuxK(), SquaredError()):
        sae = with_dead(4, TopK(2))
        before = sae.W_dec[8:].detach().clone()
        train(sae, TOY, replace(CFG, dead_window=2), objective=objective)
        found.append(torch.equal(sae.W_dec[8:], before))
    assert found == [False, True]


# --- resuming -----------------------------------------------------------------------------------

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


class Stopping(Watched):
    """Ctrl-C when the batch of one step is read."""

    def __init__(self, source: Any, stop: int) -> None:
        super().__init__(source)
        self.stop = stop

    def batch(self, step: int, n_batch: int) -> Tensor:
        if step == self.stop:
            raise KeyboardInterrupt
        return super().batch(step, n_batch)


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


OTHER_RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "lr": ({"lr": 2e-2}, {}, "lr: 0.01 then, 0.02 now"),
    "seed": ({"seed": 3}, {}, "seed: 0 then, 3 now"),
    "n_batch": ({"n_batch": 8}, {}, "n_batch: 16 then, 8 now"),
    "n_steps": ({"n_steps": 40}, {}, "n_steps: 30 then, 40 now"),
    "dead_window": ({"dead_window": 6}, {}, "dead_window: 5 then, 6 now"),
    "source": ({}, {"source": ToyFeatures(6, 8, 0.4)}, "source: {.*} then, {.*} now"),
    "activation": ({}, {"sae": TopK(3)}, r"sae 0: '8x6 TopK\(k=2\).*now"),
    "objective": ({}, {"objective": SquaredError()}, "objective 0: .*AuxK.* now"),
    "control": ({}, {"control": KSchedule(((0, 2.0),))}, "control 0: 'None' then.*KSchedule"),
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


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *[({"lr": v}, "lr=") for v in (0.0, -1.0, math.nan, math.inf, True)],
        *[({"clip": v}, "clip=") for v in (0.0, -1.0, math.nan)],
        *[
            ({name: 0}, f"{name}=0: allowed is a whole number >= 1")
            for name in ("n_steps", "n_batch", "dead_window", "eval_batches")
        ],
        *[
            ({name: -1}, f"{name}=-1: allowed is a whole number >= 0")
            for name in (
                "seed",
                "log_every",
                "eval_every",
                "checkpoint_every",
                "lr_warmup",
                "lr_decay",
            )
        ],
        *[({"n_steps": v}, "n_steps=") for v in (2.0, math.nan, math.inf, True)],
        ({"lr_warmup": 20, "lr_decay": 11}, r"lr_warmup \+ lr_decay=31: allowed is <= n_steps"),
        ({"checkpoint_every": 5}, "checkpoint_dir=None: allowed is a folder"),
    ],
    ids=str,
)
def test_impossible_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        replace(CFG, **changes)


def test_widths_that_differ_are_named_with_their_owners() -> None:
    with pytest.raises(DataError, match="ToyFeatures has d_in=8, SAE has d_in=5.*d_in=8"):
        train(SAE(5, 6, ReLU()), TOY, CFG)


def test_no_sae_at_all() -> None:
    with pytest.raises(ParameterError, match=r"sae=\[\]"):
        train([], TOY, CFG)


def test_k_times_batch_below_one() -> None:
    source = Watched(TOY)
    with pytest.raises(ParameterError, match=r"k \* n_batch=0\.5"):
        train(make(BatchTopK(0.25)), source, replace(CFG, n_batch=2))
    assert source.steps == []


def test_data_that_would_end_early_is_refused_before_compute() -> None:
    """30 steps of 16 need 480 rows."""
    x = torch.randn(479, 8)
    source = Watched(Rows(x, repeat=False))
    with pytest.raises(DataError, match=r"n_steps \* n_batch = 480 inputs.*has 479.*Lower n_steps"):
        train(make(TopK(2)), source, CFG)
    assert source.steps == []
    with pytest.raises(DataError, match=r"480 inputs.*Scaled has 479"):
        train(make(TopK(2)), Scaled(Rows(x, repeat=False), 2.0), CFG)
    train(make(TopK(2)), Rows(x, repeat=True), CFG)
    train(make(TopK(2)), Rows(torch.randn(480, 8), repeat=False), CFG)


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the first batch, with an estimate and the parameters to lower."""
    saes, source = [make(TopK(2), d_sae=d) for d in (6, 9)], Watched(TOY)
    needed = memory_needed(saes, CFG)
    module = sys.modules[train.__module__]
    monkeypatch.setattr(module, "_physical_memory", lambda: needed - 1)
    words = r"needs about .* GiB, this machine has .* GiB\. Lower d_sae=9, n_batch=16.*SAEs \(2\)"
    with pytest.raises(SuiteError, match=words):
        train(saes, source, CFG)
    assert source.steps == []
    monkeypatch.setattr(module, "_physical_memory", lambda: needed)
    train(saes, source, CFG)


def test_memory_grows_with_what_the_message_names() -> None:
    base = memory_needed([make(TopK(2))], CFG)
    assert memory_needed([make(TopK(2), d_sae=60)], CFG) > base
    assert memory_needed([make(TopK(2))] * 2, CFG) > base
    assert memory_needed([make(TopK(2))], replace(CFG, n_batch=99)) > base
    weights = sum(p.numel() for p in make(TopK(2)).parameters())
    assert base >= 16 * weights  # values, gradients, two moments, in float32


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_nan_in_a_batch_stops_the_run_with_finite_weights(activation: Activation) -> None:
    sae = make(activation)
    words = "Spoiled: the batch of step 4 holds NaN or infinity.*clean the source"
    with pytest.raises(DataError, match=words):
        train(sae, Spoiled(TOY), CFG)
    expected = train(make(activation), TOY, replace(CFG, n_steps=4)).sae
    assert same(sae, expected)  # type: ignore[arg-type]  # the four good updates, nothing else


def test_divergence_is_not_blamed_on_the_data() -> None:
    sae = make(ReLU())
    with torch.no_grad():
        sae.W_dec.mul_(1e30)
    with pytest.raises(SuiteError, match=r"loss is not finite at step 0.*Lower lr") as caught:
        train(sae, TOY, CFG)
    assert not isinstance(caught.value, DataError)


def test_constant_activations_train_without_a_crash() -> None:
    rows = Rows(torch.full((50, 8), 0.5))
    for activation in ACTIVATIONS:
        history = train(make(activation), rows, CFG).history
        assert all(math.isfinite(record["mse"]) for record in history)


def test_an_sae_trained_on_scaled_rows_folds_back() -> None:
    """Trained on 4 x, folded: codes of x over 4, and the same share of the variance."""
    sae = make(BatchTopK(2))
    train(sae, Scaled(TOY, 4.0), CFG)
    sae.eval()
    x = TOY.batch(-1, 50)
    scaled = sae(4 * x)
    folded = sae.fold_input_scale(4.0)(x)
    assert torch.equal(folded.acts, scaled.acts / 4)  # powers of two are exact
    torch.testing.assert_close(folded.x_hat, scaled.x_hat / 4)
