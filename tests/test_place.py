"""Devices: what is told, what is refused, and that no step of training waits for one."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

import srclib
from srclib import SAE, BatchTopK, JumpReLU, ReLU, TopK, TrainConfig
from srclib.compute import place as places
from srclib.errors import ParameterError
from srclib.methods.alignsae import AlignSAE, labels, terms
from srclib.methods.gba import GroupBiases, geometric_targets, hand_over_bias
from srclib.objectives import L1, AuxK, L0Target, SquaredError, TanhSparsity
from srclib.sources.rows import Rows
from srclib.training.step import update
from srclib.training.trainer import start

D_IN, D_SAE, N_BATCH = 8, 24, 16
CFG = TrainConfig(1000, N_BATCH, 1e-3, dead_window=2, log_every=0)


@pytest.fixture
def rows() -> Rows:
    x = torch.randn(200, D_IN, generator=torch.Generator().manual_seed(0))
    relation = torch.arange(200) % 3
    return Rows(x / x.norm(dim=1, keepdim=True), labels=labels(relation, relation, 3))


ARMS: dict[str, Callable[[], tuple[SAE, object, object]]] = {
    "ReLU": lambda: (SAE(D_IN, D_SAE, ReLU()), SquaredError() + L1(0.1), None),
    "TopK": lambda: (SAE(D_IN, D_SAE, TopK(3)), None, None),
    "BatchTopK": lambda: (SAE(D_IN, D_SAE, BatchTopK(3)), None, None),
    "BatchTopK, autograd": lambda: (
        SAE(D_IN, D_SAE, BatchTopK(3)),
        SquaredError() + AuxK() + terms.Sparsity(1e-3),
        None,
    ),
    "JumpReLU": lambda: (
        SAE(D_IN, D_SAE, JumpReLU()),
        SquaredError() + TanhSparsity(0.1) + L0Target(3.0),
        None,
    ),
    "GBA": lambda: (
        hand_over_bias(SAE(D_IN, D_SAE, JumpReLU(), decoder_norm=1.0)),
        None,
        GroupBiases(geometric_targets(4, 0.3, 0.01), period=50),
    ),
    "AlignSAE": lambda: (AlignSAE(D_IN, D_SAE, 3, 3), terms.objective(0), None),
}


@pytest.mark.parametrize("arm", ARMS)
def test_no_step_between_two_looks_reads_a_number_from_the_device(arm: str, rows: Rows) -> None:
    """On the device `meta` there are no numbers: to read one, or to count, is an error."""
    sae, objective, control = ARMS[arm]()
    state = start([sae.to("meta")], CFG, objective, control)
    for dead in (False, True):
        state.members[0].any_dead = dead
        update(state, 1, rows, CFG)


def test_a_look_at_meta_is_an_error(rows: Rows) -> None:
    """The test above can fail."""
    state = start([SAE(D_IN, D_SAE, TopK(3)).to("meta")], CFG)
    with pytest.raises((RuntimeError, NotImplementedError)):
        update(state, places.LOOK_EVERY - 1, rows, CFG)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "AlignSAE"])
def test_what_an_accelerator_computes_is_what_the_cpu_computes(
    arm: str, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forms without a look, run on the CPU, end in the same weights to rounding."""
    made = [ARMS[arm]() for _ in range(2)]
    ends = []
    for there, (sae, objective, control) in zip((False, True), made, strict=True):
        with monkeypatch.context() as patch:
            for module in ("compute.fast", "steps.auxk", "training.backward", "training.step"):
                patch.setattr(f"srclib.{module}.on_cpu", lambda tensor, there=there: not there)
            patch.setattr("srclib.training.step.LOOK_EVERY", 1)  # dead latents are found at once
            state = start([sae], CFG, objective, control)
            for step in range(60):
                update(state, step, rows, CFG)
        ends.append((state.members[0], copy.deepcopy(sae.state_dict())))
    (here, own), (there_, others) = ends
    assert here.any_dead == there_.any_dead
    for name, tensor in own.items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-4, atol=1e-6)
    assert float(there_.ema) == pytest.approx(float(here.ema), rel=1e-4)


def test_dead_latents_are_found_at_a_look(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srclib.training.step.on_cpu", lambda _: False)
    state = start([SAE(D_IN, D_SAE, TopK(1), seed=1)], CFG)
    for step in range(places.LOOK_EVERY):
        update(state, step, rows, CFG)
        assert state.members[0].any_dead == (step + 1 == places.LOOK_EVERY)


def test_a_loss_that_is_no_number_is_found_at_the_next_look(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srclib.training.step.on_cpu", lambda _: False)
    sae = SAE(D_IN, D_SAE, TopK(1))
    with torch.no_grad():
        sae.W_dec[0] = torch.nan
    state = start([sae], CFG)
    update(state, 0, rows, CFG)
    with pytest.raises(srclib.SuiteError, match="not finite"):
        update(state, places.LOOK_EVERY - 1, rows, CFG)


def test_the_place_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_DEVICE", "cpu")
    assert places.place() == (torch.device("cpu"), None)
    assert places.place().identity == {"device": "cpu", "dtype": "as stored"}
    monkeypatch.setenv("SRCLIB_DTYPE", "bfloat16")
    assert places.place().identity == {"device": "cpu", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SRCLIB_DEVICE", "cuda:99", "device"),
        ("SRCLIB_DEVICE", "tpu", "device"),
        ("SRCLIB_DTYPE", "float64", "dtype"),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=told):
        places.place()


def test_a_refused_place_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRCLIB_DEVICE", "cpu")
    monkeypatch.delenv("SRCLIB_DTYPE", raising=False)
    with pytest.raises(ParameterError, match="device"):
        places.use("tpu", "float32")
    assert places.place().identity == {"device": "cpu", "dtype": "as stored"}
