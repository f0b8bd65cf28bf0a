"""The search of L0 in training: its moves, its end, and that it survives a restart."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from tiny import batch_topk, k_of
from torch import Tensor

from srclib.errors import ParameterError
from srclib.methods import auto_l0
from srclib.methods.auto_l0 import AutoL0
from srclib.sae import SAE
from srclib.training.control import Control, Trace

X = torch.zeros(4, 3)


def search(
    monkeypatch: pytest.MonkeyPatch,
    auto: Control,
    sae: SAE,
    steps: range,
    optimum: float = 11,
) -> list[float]:
    """k after every step, where s_n is a valley around `optimum`."""

    def valley(x: Tensor, W_dec: Tensor, b_dec: Tensor, n: int) -> float:
        return 0.1 * abs(k_of(sae) - optimum)

    monkeypatch.setattr(auto_l0, "nth_decoder_projection", valley)
    found = []
    for step in steps:
        auto.before_step(step, sae, X)
        found.append(k_of(sae))
    return found


def test_first_move_is_down_by_the_largest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = AutoL0(n=3, every=5, window=2, max_step=2.5)
    found = search(monkeypatch, auto, batch_topk(20), range(9))
    assert found == [20] * 4 + [17.5] * 5


def test_moves_come_every_so_many_steps_and_keep_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = AutoL0(n=3, every=10, window=3, min_step=0.2, max_step=1.0)
    found = [20.0, *search(monkeypatch, auto, batch_topk(20), range(200))]
    moves = [(i, b - a) for i, (a, b) in enumerate(itertools.pairwise(found)) if a != b]
    assert [step for step, _ in moves] == list(range(9, 200, 10))
    assert all(0.2 - 1e-9 <= abs(size) <= 1.0 + 1e-9 for _, size in moves)


def test_only_the_last_batches_before_a_move_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    auto, sae = AutoL0(n=3, every=10, window=3), batch_topk(20)
    counts = []
    for step in range(20):
        search(monkeypatch, auto, sae, range(step, step + 1))
        counts.append(len(auto.state()["recent"]))
    assert counts == 2 * [0, 0, 0, 0, 0, 0, 0, 1, 2, 0]


@pytest.mark.parametrize("start", [20.0, 14.0])
def test_the_search_ends_in_the_valley(start: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(monkeypatch, AutoL0(n=3, every=3, window=1), batch_topk(start), range(600))
    assert abs(sum(found[-100:]) / 100 - 11) < 1.5


def test_where_the_score_is_flat_it_goes_down_by_the_smallest_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auto_l0, "nth_decoder_projection", lambda *_: 0.25)
    auto, sae = AutoL0(n=3, every=2, window=1, min_step=0.2, max_step=1.0), batch_topk(20)
    found = []
    for step in range(10):
        auto.before_step(step, sae, X)
        found.append(k_of(sae))
    assert found[1::2] == pytest.approx([19.0, 18.8, 18.6, 18.4, 18.2])


def test_the_bias_is_against_going_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slopes that change sign every time: without a bias no drift to speak of, with one upwards."""

    def drift(bias: float, sign: float) -> float:
        auto, sae, score = AutoL0(n=3, every=1, window=1, bias=bias), batch_topk(20), [0.0]

        def alternating(x: Tensor, W_dec: Tensor, b_dec: Tensor, n: int) -> float:
            score.append(score[-1] + sign * (-1) ** len(score) * 0.5 * auto.delta)
            return score[-1]

        monkeypatch.setattr(auto_l0, "nth_decoder_projection", alternating)
        for step in range(41):
            auto.before_step(step, sae, X)
        return k_of(sae) - 19  # after the first move, which is always down by 1

    without, biased = (sum(drift(bias, sign) for sign in (1, -1)) for bias in (0.0, 0.5))
    assert abs(without) < 1 and biased > 5


def test_k_stays_between_one_and_d_sae(monkeypatch: pytest.MonkeyPatch) -> None:
    for optimum, end in ((-50.0, 1.0), (50.0, 6.0)):
        auto = AutoL0(n=3, every=2, window=1)
        found = search(monkeypatch, auto, batch_topk(3, d_sae=6), range(400), optimum)
        assert all(1 <= k <= 6 for k in found)
        assert found[-1] == pytest.approx(end, abs=1.1)


def test_a_saved_search_goes_on_as_if_nothing_had_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """State through JSON text, cut in the middle of a window as well as between moves."""
    whole = search(monkeypatch, AutoL0(n=3, every=10, window=4), batch_topk(20), range(100))
    for cut in (3, 8, 45, 58):
        first, sae = AutoL0(n=3, every=10, window=4), batch_topk(20)
        head = search(monkeypatch, first, sae, range(cut))
        second = AutoL0(n=3, every=10, window=4)
        second.load(json.loads(json.dumps(first.state())))
        assert head + search(monkeypatch, second, sae, range(cut, 100)) == whole


def test_what_is_noted_at_a_bound_is_the_move_that_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto, sae = AutoL0(n=3, every=5, window=2), batch_topk(1.25)
    search(monkeypatch, auto, sae, range(5))
    assert k_of(sae) == 1.0 and auto.delta == -0.25  # wished for: -1
    search(monkeypatch, auto, sae, range(5, 10))
    assert 1 <= k_of(sae) == 1 + auto.delta


def test_the_name_in_cache_keys_says_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = AutoL0(n=3, every=5, window=2, lr=0.7)
    before = repr(auto)
    search(monkeypatch, auto, batch_topk(20), range(40))
    assert auto.state() != AutoL0(n=3).state() and repr(auto) == before
    assert repr(AutoL0(n=3, every=5, window=2, lr=0.8)) != before


def test_an_impossible_n_is_refused_by_the_metric() -> None:
    with pytest.raises(ParameterError, match=r"n=40.*0 <= n < d_sae=40"):
        AutoL0(n=40, every=1, window=1).before_step(0, batch_topk(2), X)


def test_trace_lets_another_control_steer_and_saves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced() -> Trace:
        return Trace(every=4, inner=AutoL0(n=3, every=5, window=2))

    whole, steered = traced(), batch_topk(20)
    plain = search(monkeypatch, AutoL0(n=3, every=5, window=2), batch_topk(20), range(30))
    assert search(monkeypatch, whole, steered, range(30)) == plain
    assert [row["k"] for row in whole.rows] == [plain[step] for step in range(0, 30, 4)]

    first, second, sae = traced(), traced(), batch_topk(20)
    head = search(monkeypatch, first, sae, range(17))
    second.load(json.loads(json.dumps(first.state())))
    assert head + search(monkeypatch, second, sae, range(17, 30)) == plain
    assert second.rows == whole.rows
