"""Terms against their formulas, and the two routes to their gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import draw, uneven
from torch import Tensor

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.errors import ParameterError
from srclib.objectives import (
    L1,
    AuxK,
    Context,
    L0Target,
    Objective,
    SquaredError,
    TanhSparsity,
    Term,
    default,
)
from srclib.sae import SAE, SAEOutput
from srclib.training.backward import backward

D_IN, D_SAE = 4, 6
START = Context(0, None)


def make(activation: Activation, **keywords: Any) -> SAE:
    return uneven(D_IN, D_SAE, activation, **keywords)


def value(term: Term, sae: SAE, x: Tensor, context: Context = START) -> float:
    return float(term(sae, x, sae(x), context).detach())


def dead_mask(*latents: int) -> Tensor:
    return torch.zeros(D_SAE).index_fill(0, torch.tensor(latents), 1).bool()


def test_squared_error_sums_over_the_width_and_averages_over_the_batch() -> None:
    x = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    silent = SAEOutput(torch.zeros_like(x), torch.zeros(2, D_SAE), torch.zeros(2, D_SAE))
    assert float(SquaredError()(make(ReLU()), x, silent, START)) == (25 + 1) / 2
    perfect = silent._replace(x_hat=x)
    assert float(SquaredError()(make(ReLU()), x, perfect, START)) == 0


def test_penalties_by_hand() -> None:
    sae, x = make(ReLU()), draw(0, 7, D_IN)
    acts, norms = sae.encode(x).detach(), sae.W_dec.detach().norm(dim=1)
    size = sum(float(a * n) for row in acts for a, n in zip(row, norms, strict=True)) / 7
    assert value(L1(0.5), sae, x) == pytest.approx(0.5 * size, rel=1e-5)
    rows = [sum(float(torch.tanh(4 * a * n)) for a, n in zip(r, norms, strict=True)) for r in acts]
    assert value(TanhSparsity(0.5), sae, x) == pytest.approx(0.5 * sum(rows) / 7, rel=1e-5)


def test_tanh_lies_below_l0_and_reaches_it_for_a_steep_slope() -> None:
    sae, x = make(ReLU()), draw(0, 50, D_IN)
    l0 = float((sae.encode(x) > 0).sum() / 50)
    gentle, steep = (value(TanhSparsity(1.0, c=c), sae, x) for c in (1.0, 1e6))
    assert gentle < l0 and steep == pytest.approx(l0, abs=1e-3)


@pytest.mark.parametrize("term", [L1, TanhSparsity])
def test_penalties_do_not_care_how_a_latent_is_scaled(term: Any) -> None:
    """acts times c with rows over c: the same function of the input, the same penalty."""
    sae, x = make(ReLU()), draw(0, 20, D_IN)
    before = value(term(1.0), sae, x)
    with torch.no_grad():
        sae.W_enc.mul_(8)
        sae.W_dec.div_(8)
    assert value(term(1.0), sae, x) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize(("step", "share"), [(0, 0), (5, 0.5), (10, 1), (99, 1)])
def test_warm_up_rises_linearly_and_stays(step: int, share: float) -> None:
    sae, x = make(ReLU()), draw(0, 20, D_IN)
    for term in (L1, TanhSparsity):
        full = value(term(2.0), sae, x)
        warmed = value(term(2.0, warmup=10), sae, x, Context(step, None))
        assert warmed == pytest.approx(share * full)


def test_auxk_is_what_the_dead_leave_of_the_error() -> None:
    """Helpers with a zero row rebuild nothing: the error itself remains, times the weight."""
    sae, x = make(TopK(1)), draw(0, 20, D_IN)
    with torch.no_grad():
        sae.W_dec[4:] = 0
    error = value(SquaredError(), sae, x)
    assert value(AuxK(), sae, x, Context(0, dead_mask(4, 5))) == pytest.approx(error, rel=1e-6)
    half = value(AuxK(3.0), sae, x, Context(0, dead_mask(4)))  # one of d_in // 2 = 2
    assert half == pytest.approx(3.0 * error / 2, rel=1e-6)
    assert value(AuxK(), sae, x, START) == 0


@pytest.mark.parametrize("dead", [(1,), (0, 1, 2), tuple(range(D_SAE))])
def test_auxk_moves_dead_latents_alone(dead: tuple[int, ...]) -> None:
    sae, x = make(TopK(1)), draw(0, 20, D_IN)
    sae.zero_grad()  # autograd adds to what is there
    AuxK()(sae, x, sae(x), Context(0, dead_mask(*dead))).backward()
    moved = sae.W_dec.grad.norm(dim=1) > 0  # type: ignore[union-attr]
    assert bool(torch.isfinite(sae.W_enc.grad).all())  # type: ignore[arg-type]
    assert set(moved.nonzero().flatten().tolist()) == set(dead)


def test_default_objective() -> None:
    assert default(make(ReLU())) == Objective((SquaredError(),))
    assert default(make(JumpReLU())) == Objective((SquaredError(),))
    for activation in (TopK(2), BatchTopK(2)):
        assert default(make(activation)) == Objective((SquaredError(), AuxK(1.0)))


def test_terms_add_up_in_any_grouping_and_say_their_settings() -> None:
    a, b, c = SquaredError(), L1(0.1, warmup=5), TanhSparsity(0.2)
    assert (a + b) + c == a + (b + c) == Objective((a, b, c))
    assert repr(a + b) == "Objective(terms=(SquaredError(), L1(coefficient=0.1, warmup=5)))"


def test_every_term_has_a_name_of_its_own() -> None:
    """Two of one name would be one loss in the history."""
    words = r"names of the terms=\['mse', 'l1', 'l1'\].*Add their coefficients instead"
    with pytest.raises(ParameterError, match=words):
        SquaredError() + L1(0.1) + L1(0.2)


@pytest.mark.parametrize("terms", [(), (AuxK(),)], ids=["nothing", "AuxK"])
def test_an_objective_needs_more_than_auxk(terms: tuple[Term, ...]) -> None:
    with pytest.raises(ParameterError, match=r"terms=.*a term beside AuxK\. Add SquaredError"):
        Objective(terms)


class Nothing:
    """A term that the closed form does not know: it forces autograd and adds nothing."""

    name = "nothing"

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        return 0 * out.x_hat.sum()


@pytest.mark.parametrize("dead", [None, (0, 3)])
@pytest.mark.parametrize(
    "activation", [ReLU(), TopK(2), BatchTopK(1.5), JumpReLU(bandwidth=1.0)], ids=repr
)
def test_both_routes_lead_to_the_same_gradient(
    activation: Activation, dead: tuple[int, ...] | None
) -> None:
    """Closed form and autograd differ by rounding only, in losses and gradients."""
    sae, x = make(activation), draw(0, 20, D_IN)
    context = Context(3, dead_mask(*dead) if dead else None)
    objective = SquaredError() + AuxK(0.5) + L1(0.2) + TanhSparsity(0.1, warmup=6)
    quick = backward(objective, sae, x, context)
    closed = [p.grad.clone() for p in sae.parameters() if p.grad is not None]
    slow = backward(objective + Nothing(), sae, x, context)
    assert slow.losses.keys() - quick.losses.keys() == {"nothing"}
    assert torch.equal(quick.acts, slow.acts) and quick.smallest_kept == slow.smallest_kept
    for name, loss in quick.losses.items():
        torch.testing.assert_close(loss, slow.losses[name])
    for one, parameter in zip(closed, sae.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("penalty", [L1(0.5), TanhSparsity(0.5, c=3.0)], ids=repr)
def test_penalties_have_their_full_slope_at_zero(penalty: Any) -> None:
    """1 and c; an absolute value would have 0 there."""
    value, slope = penalty.f(torch.tensor([0.0, 0.1]))
    assert float(value[0]) == 0 and float(slope[0]) == (3.0 if penalty.name == "tanh" else 1.0)
    assert float(slope[0]) == pytest.approx(float(value[1]) / 0.1, rel=0.1)  # it is the slope


@pytest.mark.parametrize("more", [None, Nothing()], ids=["closed form", "autograd"])
@pytest.mark.parametrize(("penalty", "slope"), [(L1(0.5), 1.0), (TanhSparsity(0.5, c=3.0), 3.0)])
def test_penalties_raise_the_thresholds_of_inactive_latents_near_by(
    penalty: Any, slope: float, more: Term | None
) -> None:
    """With x = 0 nothing fires and nothing is missing: the kernel sees the penalty alone."""
    sae, x = make(JumpReLU(threshold=0.2, bandwidth=1.0)), torch.zeros(20, D_IN)
    objective = SquaredError() + penalty
    result = backward(objective + more if more else objective, sae, x, START)
    assert not result.acts.any() and sae.theta is not None
    expected = -0.2 / 1.0 * 0.5 * slope * sae.W_dec.detach().norm(dim=1)
    torch.testing.assert_close(sae.theta.grad, expected)


@pytest.mark.parametrize("more", [None, Nothing()], ids=["closed form", "autograd"])
def test_a_decoder_row_of_zeros_has_a_finite_gradient(more: Term | None) -> None:
    """The norm of a row has no direction there."""
    sae, x = make(TopK(3), select_by="raw"), draw(0, 20, D_IN)
    with torch.no_grad():
        sae.W_dec[2] = 0
    objective = SquaredError() + L1(0.3)
    backward(objective + more if more else objective, sae, x, START)
    assert all(bool(torch.isfinite(p.grad).all()) for p in sae.parameters() if p.grad is not None)
    assert sae.W_dec.grad is not None and bool(sae.W_dec.grad[2].any())


@pytest.mark.parametrize("more", [TanhSparsity(0.1), Nothing()], ids=["closed form", "autograd"])
@pytest.mark.parametrize("activation", [TopK(2), JumpReLU(threshold=0.2, bandwidth=1.0)], ids=repr)
def test_backward_overwrites_and_detaches(activation: Activation, more: Term) -> None:
    sae, x = make(activation), draw(0, 20, D_IN)
    objective = default(sae) + more
    found = []
    for _ in range(2):
        losses, acts, _ = backward(objective, sae, x, START)
        assert not acts.requires_grad and not any(v.requires_grad for v in losses.values())
        found.append([p.grad.clone() for p in sae.parameters() if p.grad is not None])
    assert len(found[0]) == len(list(sae.parameters()))
    assert all(torch.equal(a, b) and bool(a.any()) for a, b in zip(*found, strict=True))


def test_the_sum_is_the_sum_of_the_gradients() -> None:
    sae, x = make(ReLU()), draw(0, 20, D_IN)
    gradients = []
    for objective in (SquaredError() + L1(0.3), SquaredError() + L1(0.0), Objective((L1(0.3),))):
        backward(objective, sae, x, START)
        gradients.append(sae.W_enc.grad.clone())  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1] + gradients[2])


def test_an_l0_target_needs_thresholds() -> None:
    sae, x = SAE(4, 6, TopK(2)), torch.ones(3, 4)
    with pytest.raises(ParameterError, match=r"L0Target on=TopK.*JumpReLU"):
        L0Target(2)(sae, x, sae(x), Context(0, None))
    with pytest.raises(ParameterError, match=r"target=0.*> 0"):
        L0Target(0)
