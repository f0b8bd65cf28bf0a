"""Steering k while an SAE trains: the schedule's shape, and what a trace writes down."""

from __future__ import annotations

import pytest
import torch
from tiny import batch_topk, k_of

from srclib import metrics
from srclib.errors import ParameterError
from srclib.training.control import KSchedule, Trace

X = torch.zeros(4, 3)


def test_schedule_is_piecewise_linear_and_flat_outside() -> None:
    schedule = KSchedule(((10, 2.0), (20, 11.0), (30, 5.0)))
    expected = {0: 2, 10: 2, 15: 6.5, 20: 11, 25: 8, 30: 5, 999: 5}
    assert {step: schedule.k(step) for step in expected} == expected
    sae = batch_topk(1)
    schedule.before_step(15, sae, X)
    assert k_of(sae) == 6.5


@pytest.mark.parametrize("points", [(), ((10, 1.0), (0, 5.0)), ((0, 0.0),), ((0, 2.0), (5, -1.0))])
def test_schedules_that_are_none(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ParameterError, match=r"points=.*ascending order of step, with k > 0"):
        KSchedule(points)


def test_a_schedule_above_d_sae_is_refused_when_it_gets_there() -> None:
    schedule, sae = KSchedule(((0, 30.0), (10, 50.0))), batch_topk(30)
    schedule.before_step(5, sae, X)
    with pytest.raises(ParameterError, match=r"k=42\.0: allowed is 0 < k <= d_sae=40\. Lower"):
        schedule.before_step(6, sae, X)


def test_schedule_has_no_memory() -> None:
    schedule = KSchedule(((0, 2.0), (10, 3.0)))
    assert schedule.state() == {}
    schedule.load({})
    assert schedule == KSchedule(((0, 2.0), (10, 3.0)))


def test_trace_writes_down_what_the_metrics_say_and_touches_nothing() -> None:
    sae, x = batch_topk(2, d_sae=4), torch.ones(5, 3)
    features = torch.eye(3)
    with torch.no_grad():
        sae.W_dec[:3] = features.roll(1, 0)
    before = sae.W_dec.detach().clone()
    trace = Trace(every=3, n_values=(0, 2), features=features)
    for step in range(7):
        trace.before_step(step, sae, x)
    assert [row["step"] for row in trace.rows] == [0, 3, 6]
    assert trace.rows[0] == {
        "step": 0,
        "k": 2,
        "c_dec": metrics.decoder_pairwise_cosine(sae.W_dec),
        "s_0": metrics.nth_decoder_projection(x, sae.W_dec, sae.b_dec, 0),
        "s_2": metrics.nth_decoder_projection(x, sae.W_dec, sae.b_dec, 2),
        "recovered": 3,
    }
    assert torch.equal(sae.W_dec, before) and k_of(sae) == 2
