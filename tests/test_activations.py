"""Which entries survive, and the straight-through gradients of JumpReLU."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srclib import rng
from srclib.activations import BatchTopK, JumpReLU, ReLU, TopK
from srclib.compute.fast import IN_CACHE, keep_largest, kth_largest
from srclib.errors import ParameterError

few = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 10**6)
widths = st.integers(1, 7)


def scores_of(seed: int, n_batch: int, d_sae: int, ties: bool) -> Tensor:
    """Random scores of both signs; with `ties` many entries are equal."""
    values = torch.randn(n_batch, d_sae, generator=torch.Generator().manual_seed(seed))
    return (2 * values).round() if ties else values


def kept_beat_dropped(scores: Tensor, mask: Tensor) -> bool:
    """No positive entry that was dropped is larger than one that was kept."""
    kept, dropped = scores[mask > 0], scores[(mask == 0) & (scores > 0)]
    return not len(kept) or not len(dropped) or bool(kept.min() >= dropped.max())


@few
@given(seeds, widths, widths, st.booleans())
def test_relu_keeps_exactly_the_positive_scores(seed: int, n: int, d: int, ties: bool) -> None:
    scores = scores_of(seed, n, d, ties)
    assert torch.equal(ReLU().support(scores), (scores > 0).float())


@few
@given(seeds, widths, widths, st.booleans(), st.data())
def test_topk_keeps_the_largest_of_each_row(
    seed: int, n: int, d: int, ties: bool, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, d))
    scores = scores_of(seed, n, d, ties)
    mask = TopK(k).support(scores)
    for row, kept in zip(scores, mask, strict=True):
        assert kept.sum() == min(k, int((row > 0).sum()))
        assert kept_beat_dropped(row, kept)
    assert bool((scores[mask > 0] > 0).all())


@few
@given(seeds, widths, widths, st.booleans(), st.data())
def test_batchtopk_keeps_floor_k_times_batch(
    seed: int, n: int, d: int, ties: bool, data: st.DataObject
) -> None:
    budget = data.draw(st.integers(1, n * d))
    scores = scores_of(seed, n, d, ties)
    mask = BatchTopK(budget / n).support(scores)
    assert mask.sum() == min(budget, int((scores > 0).sum()))
    assert kept_beat_dropped(scores, mask)


@few
@given(seeds, st.integers(2, 6), st.integers(2, 6))
def test_batchtopk_does_not_care_about_order(seed: int, n: int, d: int) -> None:
    scores = scores_of(seed, n, d, ties=False)
    rows, columns = torch.arange(n).roll(1), torch.arange(d).roll(1)
    mask = BatchTopK(1.5).support(scores)
    assert torch.equal(BatchTopK(1.5).support(scores[rows][:, columns]), mask[rows][:, columns])


def test_batchtopk_shares_the_budget_between_inputs() -> None:
    """Two rows, k = 1: the quiet row gets nothing. TopK gives each row one."""
    scores = torch.tensor([[3.0, 2.0], [1.0, 0.5]])
    assert BatchTopK(1).support(scores).tolist() == [[1, 1], [0, 0]]
    assert TopK(1).support(scores).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("d_sae", [1, 2, 5])
def test_topk_of_everything_is_relu(d_sae: int) -> None:
    scores = scores_of(0, 6, d_sae, ties=False)
    for everything in (TopK(d_sae), BatchTopK(d_sae)):
        assert torch.equal(everything.support(scores), ReLU().support(scores))


@few
@given(seeds, widths, st.integers(1, 7))
def test_on_one_input_batchtopk_is_topk(seed: int, d: int, k: int) -> None:
    scores, k = scores_of(seed, 1, d, ties=False), min(k, d)
    assert torch.equal(TopK(k).support(scores), BatchTopK(k).support(scores))


@few
@given(st.integers(1, 2000), st.integers(1, 2000))
def test_n_kept_undoes_division(kept: int, n_batch: int) -> None:
    """floor(k * batch) with k = kept / batch is kept, although the product may round below it."""
    assert BatchTopK(kept / n_batch).n_kept(n_batch) == kept


@pytest.mark.parametrize("hundredths", range(1, 101))
def test_n_kept_takes_decimals_at_their_word(hundredths: int) -> None:
    """0.29 * 100 is 28.999... in floating point; 29 are meant."""
    assert BatchTopK(hundredths / 100).n_kept(100) == hundredths


def test_k_times_batch_below_one_is_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"k \* n_batch=0\.5.*at least 1.*Raise k or the batch"
    ):
        BatchTopK(0.25).n_kept(2)


@pytest.mark.parametrize("k", [0, -1, 1.5, math.nan, math.inf, True])
def test_topk_refuses(k: float) -> None:
    with pytest.raises(ParameterError, match=r"k=.*a whole number >= 1 for TopK.*BatchTopK"):
        TopK(k)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -0.5, math.nan, math.inf, True])
def test_batchtopk_refuses(k: float) -> None:
    with pytest.raises(ParameterError, match=r"k=.*a finite number > 0"):
        BatchTopK(k)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["threshold", "bandwidth"])
def test_jumprelu_refuses(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=rf"{name}={value!r}: allowed is a finite number > 0"):
        JumpReLU(**{name: value})  # type: ignore[arg-type]


def test_jumprelu_names_what_l0_may_look_at() -> None:
    with pytest.raises(ParameterError, match=r"l0_on='acts'.*\"f\" or \"pre\""):
        JumpReLU(l0_on="acts")  # type: ignore[arg-type]


def test_an_activation_is_a_value() -> None:
    """Equal settings are equal objects with equal text; cache keys rely on it."""
    assert TopK(3) == TopK(3) and repr(TopK(3)) == "TopK(k=3)"
    assert TopK(3) != TopK(4) and BatchTopK(3) != TopK(3)


# kernel = 1[|pre - theta| < bandwidth / 2] with theta = (1, 2) and bandwidth 1:
PRE = [[0.6, 2.6], [1.4, 1.8], [1.6, 2.2], [-3.0, 0.0]]
OPEN = [[0, 1], [1, 0], [1, 1], [0, 0]]
KERNEL = [[1, 0], [1, 1], [0, 1], [0, 0]]
THETA = [1.0, 2.0]


def jump_gradients(
    jump: JumpReLU, of: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    pre = torch.tensor(PRE, requires_grad=True)
    theta = torch.tensor(THETA, requires_grad=True)
    of(pre, theta).backward()
    return pre.grad, theta.grad


@pytest.mark.parametrize("through_pre", [False, True])
def test_jump_values_and_gradients_by_hand(through_pre: bool) -> None:
    jump = JumpReLU(bandwidth=1.0, through_pre=through_pre)
    weight = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0], [13.0, 17.0]])
    gate, kernel, theta = torch.tensor(OPEN), torch.tensor(KERNEL), torch.tensor(THETA)
    assert torch.equal(jump.acts(torch.tensor(PRE), theta), torch.tensor(PRE) * gate)

    of_pre, of_theta = jump_gradients(jump, lambda p, t: (weight * jump.acts(p, t)).sum())
    # d acts / d theta = -(theta / bandwidth) kernel, by hand: -(1 + 3) 1 and -(5 + 11) 2
    assert of_theta is not None and of_theta.tolist() == [-4.0, -32.0]
    expected = weight * gate + (weight * theta * kernel if through_pre else 0)
    assert of_pre is not None and torch.equal(of_pre, expected)


@pytest.mark.parametrize(
    ("l0_on", "gradient"),
    [
        ("pre", [-2 / 4, -2 / 4]),  # -(kernel column sums) / batch
        # On the activation: 0.6 and 1.8 are closed, their activation 0 is far from theta.
        ("f", [-1 / 4, -1 / 4]),
    ],
)
def test_differentiable_l0_by_hand(l0_on: str, gradient: list[float]) -> None:
    jump = JumpReLU(bandwidth=1.0, l0_on=l0_on)  # type: ignore[arg-type]

    def l0(pre: Tensor, theta: Tensor) -> Tensor:
        return jump.l0(pre, jump.acts(pre, theta.detach()), theta)

    assert float(l0(torch.tensor(PRE), torch.tensor(THETA))) == 4 / 4  # four open gates, four rows
    of_pre, of_theta = jump_gradients(jump, l0)
    assert of_theta is not None and of_theta.tolist() == gradient
    assert of_pre is None or not of_pre.any()  # the L0 moves the threshold alone


def test_jump_gradient_is_the_smoothed_one() -> None:
    """Averaged over pre-activations of even density, -(theta/bandwidth) kernel is the true slope.

    d/dtheta of the mean of p 1[p > theta] is -theta * density(theta).
    """
    pre = torch.linspace(0, 4, 40_001).unsqueeze(1)  # density 1/4
    theta = torch.tensor([1.5], requires_grad=True)
    JumpReLU(bandwidth=0.5).acts(pre, theta).mean().backward()
    assert theta.grad is not None and float(theta.grad) == pytest.approx(-1.5 / 4, rel=1e-3)


@few
@given(seeds, st.integers(1, 30))
def test_kth_largest_is_the_sorted_entry(seed: int, n: int) -> None:
    values = scores_of(seed, 5, 6, ties=seed % 2 == 0)
    assert kth_largest(values, n) == values.flatten().sort(descending=True).values[n - 1]


LARGE = IN_CACHE + 7


@pytest.mark.parametrize("n", [1, 2, 1000, LARGE // 9, LARGE // 2])
@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "equal", "hidden", "misleading"])
def test_kth_largest_of_a_large_tensor_is_what_a_partition_gives(kind: str, n: int) -> None:
    """Whatever the sample says, which reads every 16th entry."""
    values = rng.normals(0, "large", shape=(LARGE,))
    every = LARGE // 2**15
    assert every == 16
    values = {
        "normal": lambda: values,
        "ties": lambda: values.round(),
        "sorted": lambda: values.sort().values,
        "equal": lambda: torch.ones(LARGE),
        "hidden": lambda: values.index_fill(0, torch.arange(0, LARGE, every), -9.0),
        "misleading": lambda: values.index_fill(0, torch.arange(0, LARGE, every), 9.0),
    }[kind]()
    expected = np.partition(values.numpy(), LARGE - n)[LARGE - n]
    assert kth_largest(values, n) == expected


def test_what_is_not_a_number_counts_as_largest_at_every_size() -> None:
    for size in (10, LARGE):
        values = torch.arange(size, dtype=torch.float32)
        values[3] = math.nan
        assert math.isnan(kth_largest(values, 1)) and kth_largest(values, 2) == size - 1


@pytest.mark.parametrize("n", [0, 5])
def test_kth_largest_refuses_what_is_not_there(n: int) -> None:
    with pytest.raises(ValueError, match=rf"n={n}: allowed is 1\.\.4"):
        kth_largest(torch.zeros(2, 2), n)


def test_ties_are_kept_in_index_order() -> None:
    assert keep_largest(torch.tensor([1.0, 2.0, 1.0, 1.0]), 3)[0].tolist() == [1, 1, 1, 0]
    assert keep_largest(torch.tensor([0.0, 0.0, -1.0]), 2)[0].tolist() == [0, 0, 0]


@few
@given(seeds, widths, widths, st.booleans(), st.data())
def test_the_smallest_kept_score_is_told(
    seed: int, n: int, d: int, ties: bool, data: st.DataObject
) -> None:
    scores = scores_of(seed, n, d, ties)
    mask, smallest = keep_largest(scores, data.draw(st.integers(1, n * d)))
    assert smallest == min(scores[mask > 0].tolist(), default=math.inf)


def test_neighbouring_floats_are_told_apart() -> None:
    """The threshold lies between two adjacent float32 numbers."""
    high = torch.tensor(1.0)
    low = torch.nextafter(high, torch.tensor(0.0))
    assert keep_largest(torch.stack([low, high, low]), 1)[0].tolist() == [0, 1, 0]
