"""What `train` refuses, before it computes where that is possible."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import ACTIVATIONS, CFG, TOY, Watched, make, same
from torch import Tensor

from srclib.activations import Activation, BatchTopK, ReLU, TopK
from srclib.errors import DataError, ParameterError, SuiteError
from srclib.methods.auto_l0 import AutoL0
from srclib.sae import SAE
from srclib.sources import Rows, Scaled
from srclib.training.config import TrainConfig, memory_needed
from srclib.training.control import Trace
from srclib.training.trainer import train


def test_a_control_with_notes_of_another_run_or_of_another_sae_is_refused() -> None:
    toy = {"n_steps": 12, "n_batch": 16, "lr": 1e-2}
    for control in (AutoL0(n=3, every=3, window=1), Trace(every=2)):
        train(make(BatchTopK(2)), TOY, TrainConfig(**toy), control=control)  # type: ignore[arg-type]
        with pytest.raises(ParameterError, match="notes of another run"):
            train(make(BatchTopK(2)), TOY, TrainConfig(**toy), control=control)  # type: ignore[arg-type]
    auto = AutoL0(n=3, every=3, window=1)
    with pytest.raises(ParameterError, match="one object twice"):
        two = [make(BatchTopK(2)), make(BatchTopK(3))]
        train(two, TOY, CFG, control=[auto, auto])


def test_weights_that_training_would_hold_otherwise_are_refused() -> None:
    loose, tied = SAE(8, 6, ReLU()), SAE(8, 6, ReLU(), decoder_norm=1.0)
    for name in ("unit_decoder", "tied"):
        cfg = replace(CFG, **{name: True})
        train(SAE(8, 6, ReLU(), decoder_norm=1.0), TOY, cfg)
        broken = loose if name == "unit_decoder" else tied
        with torch.no_grad():
            tied.W_enc[0, 0] += 0.5
        with pytest.raises(ParameterError, match=f"{name}=True.*decoder_norm=1.0"):
            train(broken, TOY, cfg)


class Spoiled(Watched):
    """NaN in one batch."""

    def batch(self, step: int, n_batch: int) -> Tensor:
        x = super().batch(step, n_batch)
        if step == 4:
            x[3, 1] = math.nan
        return x


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *[({"lr": v}, "lr=") for v in (0.0, -1.0, math.nan, math.inf, True, "1e-3")],
        *[({"clip": v}, "clip=") for v in (0.0, -1.0, math.nan, "1")],
        *[
            ({"betas": v}, r"betas=.*two numbers in \[0, 1\)")
            for v in ((0.9, math.nan), (1.0, 0.999), (0.9, -0.1), (0.9,), ("0.9", 0.999))
        ],
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
    with pytest.raises(DataError, match=r"ToyFeatures has d_in=8, SAE has d_in=5.*d_in=8"):
        train(SAE(5, 6, ReLU()), TOY, CFG)


def test_no_sae_at_all() -> None:
    with pytest.raises(ParameterError, match=r"sae: \[\] is empty"):
        train([], TOY, CFG)


def test_an_sae_twice_in_a_list() -> None:
    """Both would be views of one vector, and only one of them the SAE's."""
    sae, source = make(TopK(2)), Watched(TOY)
    with pytest.raises(ParameterError, match=r"one SAE stands twice in the list\. Pass one"):
        train([sae, make(TopK(2)), sae], source, CFG)
    assert source.steps == []


def test_k_times_batch_below_one() -> None:
    source = Watched(TOY)
    with pytest.raises(ParameterError, match=r"k \* n_batch=0\.5"):
        train(make(BatchTopK(0.25)), source, replace(CFG, n_batch=2))
    assert source.steps == []


def test_a_control_that_keeps_notes_is_not_shared() -> None:
    source, auto = Watched(TOY), AutoL0(n=3, every=5, window=3)
    with pytest.raises(ParameterError, match=r"one object twice.*one per SAE.*Make one control"):
        train([make(BatchTopK(3)), make(BatchTopK(4))], source, CFG, control=auto)
    assert source.steps == [] and auto == AutoL0(n=3, every=5, window=3)


def test_evaluation_without_held_out_rows_is_refused_before_compute() -> None:
    source = Watched(Rows(torch.randn(32, 8)))
    with pytest.raises(DataError, match="held_out=0: allowed is at least 1 row for evaluation"):
        train(make(TopK(2)), source, replace(CFG, eval_every=4))
    assert source.steps == [-1]


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
    module = sys.modules[memory_needed.__module__]
    monkeypatch.setattr(module, "memory_of", lambda _: needed - 1)
    words = r"needs about .* GiB, the cpu of this machine has .* GiB\. "
    words += r"Lower d_sae=9, n_batch=16.*SAEs \(2\)"
    with pytest.raises(SuiteError, match=words):
        train(saes, source, CFG)
    assert source.steps == []
    monkeypatch.setattr(module, "memory_of", lambda _: needed)
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
