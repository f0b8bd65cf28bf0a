"""The closed form of the gradient against autograd, against an independent loss, and the theory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import draw, uneven
from torch import Tensor

from srclib import metrics
from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.methods.mirror import start_from
from srclib.objectives import L1, AuxK, Context, L0Target, SquaredError, TanhSparsity
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.steps.auxk import auxk_support
from srclib.steps.gradients import closed_form_gradients

D_IN, D_SAE = 6, 9
GATED: list[Activation] = [ReLU(), TopK(2), BatchTopK(2.5)]
JUMPS: list[Activation] = [
    JumpReLU(threshold=0.3, bandwidth=0.5, log_threshold=log, through_pre=through)
    for log in (False, True)
    for through in (False, True)
]
PENALTIES: dict[str, list[Any]] = {
    "no penalty": [],
    "L1": [L1(0.3)],
    "tanh": [TanhSparsity(0.3, warmup=8, c=2.0)],
    "both": [L1(0.2, warmup=4), TanhSparsity(0.1)],
}
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
DEAD = {
    "none dead": None,
    "one dead": [4],
    "fewer than AuxK uses": [1, 8],
    "more than AuxK uses": [0, 1, 3, 5, 7, 8],
    "all dead": list(range(D_SAE)),
}


def make(activation: Activation, **keywords: Any) -> SAE:
    """Nothing tied, no bias zero, no two rows of one norm."""
    sae = uneven(D_IN, D_SAE, activation, **keywords)
    with torch.no_grad():
        sae.W_enc.add_(0.2 * draw(3, D_IN, D_SAE))
        sae.b_enc.copy_(0.3 * draw(1, D_SAE))
        sae.b_dec.copy_(0.3 * draw(2, D_IN))
    return sae


def mask(dead: list[int] | None) -> Tensor | None:
    return None if dead is None else torch.zeros(D_SAE).index_fill(0, torch.tensor(dead), 1).bool()


def gradients(sae: SAE) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in sae.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Each gradient to 1e-5 of its own size."""
    assert found.keys() == expected.keys() and set(NAMES) <= found.keys()
    for name in found:
        error = (found[name].double() - expected[name].double()).norm()
        assert error <= 1e-5 * expected[name].norm(), name
        assert expected[name].norm() > 0, name


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
@pytest.mark.parametrize("subtract", [True, False], ids=["x - b_dec", "x"])
@pytest.mark.parametrize("select_by", ["rescaled", "raw"])
@pytest.mark.parametrize("activation", [*GATED, JUMPS[0]], ids=repr)
def test_reconstruction_and_auxk_are_autograd(
    activation: Activation, select_by: str, subtract: bool, dead: list[int] | None
) -> None:
    sae = make(activation, select_by=select_by, subtract_b_dec=subtract)
    terms = [SquaredError(), *([AuxK(0.7)] if dead else [])]
    assert_closed_form_is_autograd(sae, terms, dead)


@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("activation", [*GATED, *JUMPS], ids=repr)
def test_penalties_and_thresholds_are_autograd(
    activation: Activation, penalties: list[Any]
) -> None:
    """At step 3, so that warm-ups count."""
    assert_closed_form_is_autograd(make(activation), [SquaredError(), *penalties], None)


@pytest.mark.parametrize("target", [0.5, 8.0], ids=["L0 too high", "L0 too low"])
@pytest.mark.parametrize("penalties", [[], [L1(0.3)]], ids=["alone", "with L1"])
@pytest.mark.parametrize("l0_on", ["f", "pre"])
@pytest.mark.parametrize("activation", JUMPS, ids=repr)
def test_the_l0_target_is_autograd(
    activation: JumpReLU, l0_on: Any, penalties: list[Any], target: float
) -> None:
    terms = [SquaredError(), *penalties, L0Target(target, coefficient=0.7, warmup=8)]
    sae = make(replace(activation, l0_on=l0_on))
    assert_closed_form_is_autograd(sae, terms, None)


def test_the_l0_target_moves_thresholds_alone_and_towards_the_target() -> None:
    x = draw(0, 400, D_IN)
    for target, sign in ((0.5, -1), (8.0, 1)):  # Adam subtracts: a negative gradient raises theta
        sae = make(JumpReLU(threshold=0.3, bandwidth=0.5))
        sae.zero_grad()
        out = sae(x)
        L0Target(target)(sae, x, out, Context(0, None)).backward()
        assert sae.theta is not None and sae.theta.grad is not None
        assert bool((sign * sae.theta.grad >= 0).all()) and bool((sae.theta.grad != 0).any())
        others = [getattr(sae, name).grad for name in NAMES]
        assert not any(grad is not None and bool(grad.any()) for grad in others)


def test_an_inactive_latent_inside_the_kernel_counts_when_the_kernel_sees_f() -> None:
    """Four silent rows, |theta| < bandwidth / 2: d L0 / d theta = -1 / bandwidth."""
    sae = SAE(1, 1, JumpReLU(threshold=0.0004, bandwidth=0.001), decoder_norm=1.0)
    out = sae(-torch.ones(4, 1) * sae.W_enc.sign())
    assert sae.theta is not None and not bool(out.acts.any())
    activation = sae.activation
    assert isinstance(activation, JumpReLU)
    activation.l0(out.pre_acts, out.acts, sae.jump_threshold()).backward()
    torch.testing.assert_close(sae.theta.grad, torch.tensor([-1000.0]))


def assert_closed_form_is_autograd(sae: SAE, terms: list[Any], dead: list[int] | None) -> None:
    x, penalties = draw(0, 17, D_IN), [t for t in terms if hasattr(t, "phi")]
    targets = [t for t in terms if isinstance(t, L0Target)]
    losses, acts, smallest = closed_form_gradients(
        sae, x, 3, penalties, targets, mask(dead), aux=0.7
    )
    closed = gradients(sae)

    sae.zero_grad()
    out, context = sae(x), Context(3, mask(dead))
    expected = {term.name: term(sae, x, out, context) for term in terms}
    torch.stack(list(expected.values())).sum().backward()

    assert_same(closed, gradients(sae))
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss.detach())
    assert torch.equal(acts, out.acts.detach())
    if isinstance(sae.activation, BatchTopK):
        kept = sae.scores(acts).detach()[acts > 0]
        assert smallest == pytest.approx(float(kept.min()))
    else:
        assert smallest is None


def test_dead_latents_without_a_coefficient_have_no_say() -> None:
    x = draw(0, 17, D_IN)
    found = []
    for dead, aux in ((None, 0.0), (mask([1, 2]), 0.0), (None, 1.0)):
        sae = make(TopK(2))
        losses, _ = closed_form_gradients(sae, x, dead=dead, aux=aux)[:2]
        assert losses.keys() == {"mse"}
        found.append(gradients(sae))
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in NAMES)


def test_batch_and_weights_are_left_alone() -> None:
    sae, x = make(BatchTopK(2), subtract_b_dec=False), draw(0, 17, D_IN)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    copy = x.clone()
    closed_form_gradients(sae, x, dead=mask([0, 3]), aux=1.0)
    assert torch.equal(x, copy)
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


class NumpyLoss:
    """The loss written again, in float64 with loops, from its definition.

    The support, the dead latents that help and the error that they rebuild are constants of the
    gradient: all are found once, at the parameters of the start.
    """

    def __init__(self, sae: SAE, x: Tensor, dead: list[int], k: int) -> None:
        self.x, self.dead = x.double().numpy(), dead
        self.start = [getattr(sae, name).detach().double().numpy() for name in NAMES]
        W_enc, b_enc, W_dec, b_dec = self.start
        pre = (self.x - b_dec) @ W_enc + b_enc
        scores = pre * np.sqrt((W_dec**2).sum(axis=1))
        self.active = [[i for i in np.argsort(-row)[:k] if row[i] > 0] for row in scores]
        k_aux = D_IN // 2
        self.helpers = [sorted(dead, key=lambda i: -row[i])[:k_aux] for row in pre]
        self.weight = min(len(dead) / k_aux, 1.0)
        self.missing = [self.x[b] - self.rebuilt(b, self.active[b], self.start) for b in self.rows]

    @property
    def rows(self) -> range:
        return range(len(self.x))

    def rebuilt(self, b: int, latents: list[int], parameters: list[Any], bias: bool = True) -> Any:
        W_enc, b_enc, W_dec, b_dec = parameters
        total = b_dec.copy() if bias else np.zeros_like(b_dec)
        for i in latents:
            total = total + ((self.x[b] - b_dec) @ W_enc[:, i] + b_enc[i]) * W_dec[i]
        return total

    def __call__(self, parameters: list[Any]) -> Any:
        total = 0.0
        for b in self.rows:
            error = self.x[b] - self.rebuilt(b, self.active[b], parameters)
            helped = self.rebuilt(b, self.helpers[b], parameters, bias=False) - self.missing[b]
            total = total + (error**2).sum() + self.weight * (helped**2).sum()
        return total / len(self.x)

    def gradient(self) -> dict[str, Tensor]:
        """By complex steps: the derivative of a polynomial without any cancellation."""
        found = {}
        for position, name in enumerate(NAMES):
            values = np.zeros(self.start[position].shape)
            for index in np.ndindex(values.shape):
                moved = [p.astype(complex) for p in self.start]
                moved[position][index] += 1e-30j
                values[index] = self(moved).imag / 1e-30
            found[name] = torch.from_numpy(values)
        return found


@pytest.mark.parametrize("dead", [[2, 5], [0, 2, 4, 5, 8]], ids=["few dead", "many dead"])
def test_closed_form_is_the_derivative_of_an_independent_loss(dead: list[int]) -> None:
    sae, x = make(TopK(3)), draw(0, 4, D_IN)
    losses, _ = closed_form_gradients(sae, x, dead=mask(dead), aux=1.0)[:2]
    independent = NumpyLoss(sae, x, dead, k=3)
    assert float(sum(losses.values())) == pytest.approx(independent(independent.start), rel=1e-5)
    assert_same(gradients(sae), independent.gradient())


def test_auxk_uses_the_largest_raw_pre_activations() -> None:
    dead_pre = torch.tensor([[-1.0, -3.0, -2.0], [5.0, 4.0, 6.0]])
    gate, weight = auxk_support(dead_pre, d_in=4)  # d_in // 2 = 2 helpers, also negative ones
    assert gate.tolist() == [[1, 0, 1], [1, 0, 1]] and weight == 1.0
    gate, weight = auxk_support(dead_pre[:, :1], d_in=4)
    assert gate.tolist() == [[1], [1]] and weight == 0.5
    assert auxk_support(dead_pre, d_in=1)[0].sum() == 2  # at least one helper per input


def corr_with_feature_0(rho: float) -> Tensor:
    corr = torch.eye(5, dtype=torch.float64)
    corr[0, 1:] = corr[1:, 0] = rho
    return corr


def gradient_at_truth(rho: float) -> tuple[Tensor, Tensor]:
    """[latent, feature] gradient of the true dictionary's rows, and 2 Cov(e_i, h_j) beside it."""
    toy = ToyFeatures(5, 20, 0.4, corr=corr_with_feature_0(rho))
    codes, x = toy.codes(0, 50_000), toy.batch(0, 50_000)
    # The encoder sees x itself, so that the best b_dec does not depend on itself.
    sae = start_from(SAE(20, 5, BatchTopK(1.8), subtract_b_dec=False), toy.features)
    h = sae.encode(x).detach()
    with torch.no_grad():
        sae.b_dec.copy_((x - h @ toy.features).mean(dim=0))
    for parameter in sae.parameters():
        parameter.grad = torch.zeros_like(parameter)
    closed_form_gradients(sae, x)
    assert sae.W_dec.grad is not None
    e = (h - codes).double()
    covariance = (e - e.mean(0)).T @ (h.double() - h.double().mean(0)) / len(x)
    return (sae.W_dec.grad @ toy.features.T).double(), 2 * covariance.T


def test_what_low_l0_rewards_at_the_true_dictionary() -> None:
    """Too low an L0 pulls row j along f_i by 2 Cov(e_i, h_j), with the sign of the correlation."""
    pull = {}
    for rho in (-0.4, 0.0, 0.4):
        found, theory = gradient_at_truth(rho)
        assert (found - theory).abs().max() <= 1e-4 * theory.abs().max()
        pull[rho] = -float(found[1:, 0].mean())  # descent mixes f_0 into the others
    assert pull[-0.4] < 0 < pull[0.4]
    assert abs(pull[0.0]) < 0.2 * min(-pull[-0.4], pull[0.4])


def test_the_true_dictionary_with_room_has_no_loss() -> None:
    toy = ToyFeatures(5, 20, 0.4)
    x = toy.batch(0, 500)
    for activation in (ReLU(), TopK(5), BatchTopK(5)):
        sae = start_from(SAE(20, 5, activation), toy.features)
        assert metrics.mse(x, sae(x).x_hat) < 1e-10
