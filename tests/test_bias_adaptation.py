"""Bias adaptation: one event by hand, the stream against a stored buffer, and its life in training.

The rule stands a second time below, as a loop over latents in plain Python.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from srclib.activations import Activation, JumpReLU, ReLU, TopK
from srclib.errors import DataError, ParameterError, SuiteError
from srclib.methods.gba import (
    GroupBiases,
    adapt,
    biases,
    calibrated_targets,
    ceiling_l0,
    geometric_targets,
    group_index,
    hand_over_bias,
)
from srclib.sae import SAE
from srclib.sources import SparseCodes
from srclib.training.config import TrainConfig
from srclib.training.trainer import train

SOURCE = SparseCodes(12, 8, 2)
TARGETS = (0.4, 0.1)
BOTH = pytest.mark.parametrize("activation", [ReLU(), JumpReLU()], ids=["relu", "jump"])

TABLE = [  # group, b, firing rate, largest y, b after the event; gamma 0.1, TAFs 0.5 and 0.1
    (0, -0.20, 0.60, 0.80, -0.28),  # too often: -0.2 - 0.1 * 0.8
    (0, -0.95, 0.90, 0.90, -1.00),  # too often, clamped
    (0, -0.30, 0.00, -0.10, -0.23),  # dead: -0.3 + 0.1 * mean(0.8, 0.9, 0.4)
    (0, -0.40, 0.50, 0.40, -0.40),  # exactly at the ceiling
    (1, -0.02, 0.00, -0.02, 0.00),  # dead, clamped: 0.1 * mean(0.5, 0.3, 0.4) is 0.04
    (1, -0.50, 0.10, 0.50, -0.50),  # exactly at the ceiling
    (1, -0.50, 0.20, 0.30, -0.53),  # too often
    (1, -0.60, 0.01, 0.40, -0.60),  # far below the ceiling, and alive at exactly eps
]


def columns(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """The table as arguments of `adapt`."""
    group, b, rate, largest, _ = zip(*TABLE, strict=True)
    numbers = {"b": b, "firing_rate": rate, "max_pre": largest}
    table: dict[str, Any] = {n: torch.tensor(v, dtype=dtype) for n, v in numbers.items()}
    table["group"] = torch.tensor(group)
    return table | {"target": torch.tensor([0.5, 0.1], dtype=dtype), "gamma": 0.1, "eps": 0.01}


def rule(
    b: list[float], p: list[float], y: list[float], group: list[int], TAF: list[float], gamma: float
) -> list[float]:
    """The rule of the paper, one latent after the other."""
    r = [max(0.0, each) for each in y]
    alive = [each for each in r if each > 0]
    after = []
    for m, k in enumerate(group):
        own = [r[i] for i in range(len(b)) if group[i] == k and r[i] > 0] or alive or [0.0]
        if p[m] > TAF[k]:
            after.append(max(b[m] - gamma * r[m], -1.0))
        elif p[m] < 1e-6:
            after.append(min(b[m] + gamma * sum(own) / len(own), 0.0))
        else:
            after.append(b[m])
    return after


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_event_is_the_table(dtype: torch.dtype) -> None:
    found = adapt(**columns(dtype))
    assert found.dtype == dtype
    expected = torch.tensor([row[-1] for row in TABLE], dtype=dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_an_event_changes_nothing_that_is_passed() -> None:
    given, kept = columns(), columns()
    given["b"].requires_grad_(True)
    given["b"].grad = torch.full_like(given["b"], 7.0)
    found = adapt(**given)
    assert not found.requires_grad and bool((given["b"].grad == 7).all())
    assert all(torch.equal(given[n], kept[n]) for n in ("firing_rate", "max_pre", "group"))
    assert torch.equal(given["b"].detach(), kept["b"])


@pytest.mark.parametrize("seed", range(12))
def test_adapt_is_the_rule_latent_by_latent(seed: int) -> None:
    """Groups of any size and order, a silent group now and then, steps that reach both clamps."""
    generator = torch.Generator().manual_seed(seed)
    n, n_groups = 23, 4
    b = -torch.rand(n, generator=generator).double()
    p = torch.rand(n, generator=generator).double() * (torch.rand(n, generator=generator) < 0.6)
    group = torch.randint(n_groups, (n,), generator=generator)
    y = torch.where(p > 0, p.sqrt(), -p - 0.1)
    y[group == seed % n_groups] = -0.3
    p[group == seed % n_groups] = 0.0
    b[:2], p[:2], y[:2] = torch.tensor([-0.99, -0.01]), torch.tensor([0.9, 0.0]), y[:2].abs()
    TAF = [0.6, 0.3, 0.2, 0.05]
    expected = rule(b.tolist(), p.tolist(), y.tolist(), group.tolist(), TAF, 0.5)
    found = adapt(b, p, y, group, torch.tensor(TAF), gamma=0.5)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert {-1.0, 0.0} <= set(expected)


def test_a_silent_group_rises_by_the_mean_over_all_and_silence_everywhere_changes_nothing() -> None:
    b = torch.tensor([-0.5, -0.5, -0.5, -0.5]).double()
    p = torch.tensor([0.2, 0.2, 0.0, 0.0]).double()
    y = torch.tensor([0.2, 0.4, -0.1, -0.2]).double()
    group = torch.tensor([0, 0, 1, 1])
    found = adapt(b, p, y, group, (0.3, 0.1), gamma=0.1)
    torch.testing.assert_close(found, torch.tensor([-0.5, -0.5, -0.47, -0.47]).double())
    silent = adapt(b, 0 * p, -y.abs(), group, (0.3, 0.1), gamma=0.1)
    assert torch.equal(silent, b)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": (0.1, 0.5)}, r"target=\[0.1, 0.5\]: allowed is .* decreasing"),
        ({"target": (0.5, 0.5)}, "decreasing"),
        ({"target": (1.0, 0.5)}, r"each in \(0, 1\)"),
        ({"target": (0.5, 0.0)}, r"each in \(0, 1\)"),
        ({"target": (0.5, math.nan)}, r"each in \(0, 1\)"),
        ({"target": ()}, "one TAF per group"),
        ({"target": (0.5,)}, r"of group=\(0, 1\): allowed is 0\.\.0"),
        ({"gamma": 0.0}, "gamma=0.0: allowed is a finite number > 0"),
        ({"gamma": -0.01}, "gamma=-0.01"),
        ({"gamma": math.inf}, "gamma=inf"),
        ({"eps": 0.2}, r"eps=0.2: allowed is 0 <= eps <= 0\.1, the lowest TAF"),
        ({"eps": math.nan}, "eps=nan"),
        ({"max_pre": torch.zeros(7)}, r"shapes of .*\(7,\).*: allowed is one number per latent"),
        ({"firing_rate": torch.zeros(8, 1)}, r"shapes of .*\(8, 1\)"),
        ({"group": torch.arange(8) - 1}, r"of group=\(-1, 6\)"),
    ],
)
def test_events_that_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises((ParameterError, DataError), match=words):
        adapt(**columns() | change)


def test_geometric_targets_have_one_ratio_and_the_given_ends() -> None:
    targets = geometric_targets(10, 0.1, 0.001)
    assert (targets[0], targets[-1], len(targets)) == (0.1, 0.001, 10)
    ratios = [a / b for a, b in itertools.pairwise(targets)]
    assert ratios == pytest.approx([100 ** (1 / 9)] * 9)


@pytest.mark.parametrize("case", [(1, 0.1, 0.01), (3, 0.01, 0.1), (3, 0.1, 0.0), (3, 1.0, 0.1)])
def test_targets_that_are_none(case: tuple[int, float, float]) -> None:
    with pytest.raises(ParameterError, match=r"n_groups=1|0 < lowest < highest < 1"):
        geometric_targets(*case)


def test_groups_are_equal_and_all_there() -> None:
    assert group_index(12, 3).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for d_sae, n_groups in ((256, 10), (4, 5), (4, 0)):
        with pytest.raises(ParameterError, match=rf"n_groups={n_groups}: .* d_sae={d_sae}"):
            group_index(d_sae, n_groups)
    with pytest.raises(ParameterError, match=r"Take 8 groups"):
        group_index(256, 10)


def test_ceiling_l0_is_what_the_targets_add_up_to() -> None:
    targets = geometric_targets(4, 0.2, 0.01)
    each = torch.tensor(targets).double()[group_index(20, 4)]
    assert ceiling_l0(20, targets) == pytest.approx(float(each.sum()))
    with pytest.raises(ParameterError, match="n_groups=4"):
        ceiling_l0(21, targets)


def make(activation: Activation, d_sae: int = 16) -> SAE:
    return hand_over_bias(SAE(8, d_sae, activation, decoder_norm=1.0))


def show(control: GroupBiases, step: int, sae: SAE, x: Tensor) -> None:
    """One step as the trainer makes it, without an update."""
    control.before_step(step, sae, x)
    control.after_pass(step, sae, sae.encode(x))


@BOTH
def test_a_handed_over_bias_acts_as_the_paper_writes_it(activation: Activation) -> None:
    """ReLU: relu(w.x + b). JumpReLU: w.x where w.x + b > 0. Both start at b = 0."""
    sae, x = make(activation), SOURCE.batch(0, 50)
    assert not bool(biases(sae).any())
    b = -torch.rand(16, generator=torch.Generator().manual_seed(1)) / 2
    with torch.no_grad():
        holder = sae.b_enc if sae.theta is None else sae.theta
        holder.copy_(b if sae.theta is None else -b)
    assert torch.equal(biases(sae), b)
    product = x @ sae.W_enc
    gate = product + b > 0
    expected = gate * (product + b if isinstance(activation, ReLU) else product)
    torch.testing.assert_close(sae.encode(x), expected)
    assert gate.any() and not gate.all()


@pytest.mark.parametrize("activation", [TopK(2), JumpReLU(log_threshold=True)])
def test_activations_without_such_a_bias(activation: Activation) -> None:
    with pytest.raises(ParameterError, match=r"activation=TopK|log_threshold=True"):
        hand_over_bias(SAE(8, 16, activation))


@BOTH
def test_the_stream_gives_what_a_stored_buffer_gives(activation: Activation) -> None:
    """Counts and maxima against all pre-activations, bit for bit, while the weights change."""
    sae, control, buffer = make(activation), GroupBiases(TARGETS, period=4, gamma=0.3), []
    generator, events = torch.Generator().manual_seed(0), 0
    for step in range(40):
        expected = before = biases(sae)
        if len(buffer) == 4:
            y = torch.cat(buffer)  # [4 * batch, d_sae]
            rate = (y > 0).double().mean(dim=0)
            expected = adapt(before, rate, y.amax(dim=0), group_index(16, 2), TARGETS, gamma=0.3)
            buffer, events = [], events + int(not torch.equal(expected, before))
        x = SOURCE.batch(step, 32)
        show(control, step, sae, x)
        assert torch.equal(biases(sae), expected)
        buffer.append((sae.pre_acts(x) + (0 if sae.theta is None else expected)).detach())
        with torch.no_grad():
            sae.W_enc += 0.05 * torch.randn(sae.W_enc.shape, generator=generator)
    assert events == 9 and [row["step"] for row in control.rows] == list(range(4, 40, 4))


@BOTH
def test_events_bring_firing_rates_under_their_ceiling(activation: Activation) -> None:
    sae, control = make(activation), GroupBiases(TARGETS, period=2, gamma=0.05)
    for step in range(300):
        show(control, step, sae, SOURCE.batch(step, 64))
    first, last = control.rows[0], control.rows[-1]
    for k, TAF in enumerate(TARGETS):
        assert first["firing_rate"][k] > TAF * 1.1 and 0 < last["firing_rate"][k] < TAF * 1.1
        assert last["bias"][k] < first["bias"][k] == 0
    rates = (sae.encode(SOURCE.batch(-1, 4000)) > 0).double().mean(dim=0)
    assert float(rates.sum()) < 1.1 * ceiling_l0(16, TARGETS)


def cfg(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"n_steps": 40, "n_batch": 32, "lr": 1e-2, "log_every": 10} | changes)


@BOTH
def test_the_optimiser_leaves_the_bias_to_the_control(activation: Activation) -> None:
    idle, steered = make(activation), make(activation)
    train(idle, SOURCE, cfg(), control=GroupBiases(TARGETS, period=1000))
    assert not bool(biases(idle).any()) and not bool(idle.b_enc.any())
    control = GroupBiases(TARGETS, period=5, gamma=0.2)
    train(steered, SOURCE, cfg(), control=control)
    b = biases(steered)
    assert len(control.rows) == 7 and -1 <= float(b.min()) < 0 and float(b.max()) <= 0
    assert not torch.equal(idle.W_dec, make(activation).W_dec)


def test_a_bias_with_two_masters_is_refused() -> None:
    for name in ("b_enc", "theta"):
        sae = make(JumpReLU())
        sae.get_parameter(name).requires_grad_(True)
        with pytest.raises(ParameterError, match="Call hand_over_bias"):
            train(sae, SOURCE, cfg(), control=GroupBiases(TARGETS))


def test_a_control_with_notes_of_another_run_is_refused() -> None:
    control = GroupBiases(TARGETS, period=5)
    train(make(ReLU()), SOURCE, cfg(n_steps=3), control=control)
    with pytest.raises(ParameterError, match=r"notes of another run: .* Make a new one"):
        train(make(ReLU()), SOURCE, cfg(), control=control)


@pytest.mark.parametrize("at", [27, 36])
def test_a_resumed_run_has_the_bytes_of_the_undisturbed_one(at: int, tmp_path: Path) -> None:
    """Cut after five and after seven events, with two batches and one in the next buffer."""
    whole, control = make(JumpReLU()), GroupBiases(TARGETS, period=5, gamma=0.2)
    train(whole, SOURCE, cfg(), control=control)
    saved = {"checkpoint_dir": tmp_path, "checkpoint_every": 9}
    head = GroupBiases(TARGETS, period=5, gamma=0.2)
    train(make(JumpReLU()), SOURCE, cfg(**saved), control=head)
    later, resumed = GroupBiases(TARGETS, period=5, gamma=0.2), make(JumpReLU())
    train(resumed, SOURCE, cfg(), control=later, resume_from=tmp_path / f"step-{at:09d}")
    assert torch.equal(resumed.W_dec, whole.W_dec) and torch.equal(biases(resumed), biases(whole))
    assert later.rows == control.rows


def test_state_survives_json_and_the_name_in_cache_keys_says_the_settings_alone() -> None:
    sae, control = make(ReLU()), GroupBiases(TARGETS, period=3)
    name = repr(control)
    for step in range(5):
        show(control, step, sae, SOURCE.batch(step, 32))
    again = GroupBiases(TARGETS, period=3)
    again.load(json.loads(json.dumps(control.state())))
    assert again.state() == control.state() and control.n_batches == 2
    assert repr(control) == repr(again) == name
    assert repr(GroupBiases(TARGETS, period=4)) != name
    show(control, 5, sae, SOURCE.batch(5, 32))
    assert again.state() != control.state(), "two controls share their notes"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"targets": (0.1, 0.2)}, "decreasing"),
        ({"gamma": 0.0}, "gamma=0.0"),
        ({"period": 0}, "period=0: allowed is a whole number >= 1"),
        ({"period": 2.5}, "period=2.5"),
        ({"eps": 0.01, "period": 4}, r"eps=0.01: allowed is <= 1 / \(period \* n_batch\) = 0.0078"),
        ({"targets": (0.3, 0.2, 0.1)}, "n_groups=3: allowed is a divisor of d_sae=16"),
    ],
)
def test_settings_are_refused_before_the_first_update(settings: dict[str, Any], words: str) -> None:
    sae = make(ReLU())
    before = sae.W_dec.detach().clone()
    with pytest.raises(ParameterError, match=words):
        train(sae, SOURCE, cfg(), control=GroupBiases(**{"targets": TARGETS} | settings))
    assert torch.equal(sae.W_dec, before)


def test_eps_of_exactly_one_input_means_never() -> None:
    control = GroupBiases(TARGETS, period=4, eps=1 / 128)
    show(control, 0, make(ReLU()), SOURCE.batch(0, 32))


def silence(sae: SAE, latents: slice) -> SAE:
    with torch.no_grad():
        sae.W_enc[:, latents] = 0
    return sae


def test_a_dead_group_is_counted_and_lifted_by_the_others() -> None:
    sae, control = silence(make(ReLU()), slice(8, 16)), GroupBiases(TARGETS, period=1, gamma=0.1)
    with torch.no_grad():
        sae.b_enc[8:] = -0.5
    show(control, 0, sae, SOURCE.batch(0, 32))
    show(control, 1, sae, SOURCE.batch(1, 32))
    assert control.rows[0]["dead"] == [0, 8]
    assert bool((biases(sae)[8:] > -0.5).all())


def test_when_nothing_fires_at_all_the_run_stops() -> None:
    control = GroupBiases(TARGETS, period=2)
    with pytest.raises(SuiteError, match="step 2: no latent fired in the last 64 inputs"):
        train(silence(make(ReLU()), slice(16)), SOURCE, cfg(), control=control)


def test_a_batch_with_nan_stops_the_run_naming_step_and_source() -> None:
    class Broken(SparseCodes):
        def batch(self, step: int, n_batch: int) -> Tensor:
            return super().batch(step, n_batch) * (math.nan if step == 7 else 1)

    with pytest.raises(DataError, match=r"Broken: the batch of step 7 holds NaN"):
        train(make(JumpReLU()), Broken(12, 8, 2), cfg(), control=GroupBiases(TARGETS, period=3))


def test_equal_agreement_leaves_the_targets_and_one_group_draws_them_near() -> None:
    targets = geometric_targets(5, 0.1, 0.001)
    assert calibrated_targets(targets, [0.4] * 5) == pytest.approx(targets)
    near = calibrated_targets(targets, [0, 0, 1, 0, 0])
    assert all(a > b for a, b in itertools.pairwise(near))
    assert max(abs(math.log(t / targets[2])) for t in near) < math.log(targets[1] / targets[2])
    for wrong in ([1.0] * 4, [1, 1, 1, 1, -1], [1, 1, 1, 1, math.nan]):
        with pytest.raises(ParameterError, match="agreement"):
            calibrated_targets(targets, wrong)
