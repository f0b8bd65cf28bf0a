"""The terms that keep slots and free latents apart, against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import draw
from torch import Tensor

from srclib.methods.alignsae.terms import cross_covariance, independence

B, K, F = 24, 3, 40
SLOTS = draw(1, B, K).double()
FREE = (draw(2, B, F).double() + draw(3, B, 1).double()).relu()  # sparse, and it moves together


def covariances(a: Tensor, b: Tensor) -> np.ndarray:
    """[n, m], number by number: the definition."""
    x, y = a.numpy(), b.numpy()
    return np.array(
        [
            [
                np.mean((x[:, i] - x[:, i].mean()) * (y[:, j] - y[:, j].mean()))
                for j in range(len(y.T))
            ]
            for i in range(len(x.T))
        ]
    )


def test_against_the_definitions() -> None:
    among = covariances(FREE, FREE)
    off_diagonal = (among**2).sum() - (np.diag(among) ** 2).sum()
    across = covariances(SLOTS, FREE)
    assert float(independence(FREE)) == pytest.approx(off_diagonal, rel=1e-12)
    assert float(cross_covariance(SLOTS, FREE)) == pytest.approx((across**2).sum(), rel=1e-12)


def test_float32_agrees_with_float64() -> None:
    slots, free = SLOTS.float(), FREE.float()
    assert float(independence(free)) == pytest.approx(float(independence(FREE)), rel=1e-5)
    expected = float(cross_covariance(SLOTS, FREE))
    assert float(cross_covariance(slots, free)) == pytest.approx(expected, rel=1e-5)


def test_gradients_against_finite_differences() -> None:
    slots, free = SLOTS[:6, :2].clone(), draw(4, 6, 5).double()  # away from the kinks of ReLU
    assert torch.autograd.gradcheck(independence, free.requires_grad_())
    assert torch.autograd.gradcheck(cross_covariance, (slots.requires_grad_(), free))


def test_order_and_level_do_not_matter() -> None:
    loss = cross_covariance
    rows, columns = (torch.randperm(n, generator=torch.Generator().manual_seed(5)) for n in (B, F))
    for free in (FREE[:, columns], FREE + draw(6, F).double(), FREE - 1e3):
        torch.testing.assert_close(loss(SLOTS, free), loss(SLOTS, FREE))
        torch.testing.assert_close(independence(free), independence(FREE))
    torch.testing.assert_close(loss(SLOTS[rows], FREE[rows]), loss(SLOTS, FREE))
    torch.testing.assert_close(independence(FREE[rows]), independence(FREE))
    torch.testing.assert_close(loss(SLOTS + 7, FREE), loss(SLOTS, FREE))


def test_units() -> None:
    """Both are of the fourth degree in the activations."""
    torch.testing.assert_close(independence(3 * FREE), 81 * independence(FREE))
    torch.testing.assert_close(cross_covariance(3 * SLOTS, FREE), 9 * cross_covariance(SLOTS, FREE))


def test_zero_where_nothing_moves_together() -> None:
    """Columns of a Hadamard matrix: mean 0, mutually orthogonal."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    h = torch.kron(torch.kron(two, two), two)[:, 1:]  # [8, 7]
    assert independence(h) == 0 and cross_covariance(h[:, :2], h[:, 2:]) == 0
    assert independence(h[:, :1]) == 0  # a single latent has no partner


def test_a_term_pulls_apart_what_it_names() -> None:
    """A step against the gradient lowers the loss; both sides take part."""
    slots, free = SLOTS.clone().requires_grad_(), FREE.clone().requires_grad_()
    cross_covariance(slots, free).backward()
    assert slots.grad is not None and free.grad is not None
    for moved in ((SLOTS - 0.1 * slots.grad, FREE), (SLOTS, FREE - 0.1 * free.grad)):
        assert cross_covariance(*moved) < cross_covariance(SLOTS, FREE)


def test_wide_scopes_need_no_matrix_of_all_pairs() -> None:
    """F x F numbers would be 40 GB."""
    free = draw(8, 4, 100_000).relu_().requires_grad_()
    loss = independence(free)
    loss.backward()
    assert loss > 0 and free.grad is not None and free.grad.isfinite().all()
