"""The model itself: identities that hold for every SAE, scales, starts, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.errors import DataError, ParameterError
from srclib.methods.mirror import start_from
from srclib.sae import SAE

ACTIVATIONS = [
    ReLU(),
    TopK(2),
    BatchTopK(1.5),
    JumpReLU(threshold=0.3),
    JumpReLU(threshold=0.3, log_threshold=True),
]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(activation: Activation, **keywords: Any) -> SAE:
    """d_in 5, d_sae 7, with biases that are not zero and rows of different norms."""
    sae = SAE(5, 7, activation, decoder_norm=1.0, **keywords)
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 2.0, 7).unsqueeze(1))
        sae.b_enc.copy_(0.3 * draw(1, 7))
        sae.b_dec.copy_(0.3 * draw(2, 5))
        sae.threshold.fill_(0.4)
    return sae


@pytest.mark.parametrize("training", [True, False])
@each_activation
def test_forward_is_encode_then_decode(activation: Activation, training: bool) -> None:
    sae, x = make(activation).train(training), draw(0, 20, 5)
    out = sae(x)
    assert torch.equal(out.acts, sae.encode(x))
    assert torch.equal(out.x_hat, sae.decode(out.acts))
    torch.testing.assert_close(out.x_hat, out.acts @ sae.W_dec + sae.b_dec)
    chosen = out.acts != 0
    assert bool(chosen.any()) and torch.equal(out.acts[chosen], out.pre_acts[chosen])


@each_activation
def test_forward_changes_nothing(activation: Activation) -> None:
    sae, x = make(activation), draw(0, 20, 5)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    first, copy = sae(x).x_hat, x.clone()
    assert torch.equal(sae(x).x_hat, first) and torch.equal(x, copy)
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


def test_pre_activations_by_hand() -> None:
    x = draw(0, 4, 5)
    for subtract in (True, False):
        sae = make(ReLU(), subtract_b_dec=subtract)
        centred = x - sae.b_dec if subtract else x
        torch.testing.assert_close(sae(x).pre_acts, centred @ sae.W_enc + sae.b_enc)


@each_activation
def test_shifting_input_and_b_dec_together_shifts_the_output(activation: Activation) -> None:
    sae, x = make(activation), draw(0, 20, 5)
    before, shift = sae(x), draw(9, 5)
    with torch.no_grad():
        sae.b_dec.add_(shift)
    torch.testing.assert_close(sae(x + shift).x_hat, before.x_hat + shift)


@pytest.mark.parametrize("activation", [TopK(2), BatchTopK(1.5)], ids=repr)
def test_rescaled_selection_ignores_how_a_latent_is_scaled(activation: Activation) -> None:
    """A latent times 4 in the encoder and divided by 4 in the decoder is the same latent."""
    for select_by, same in (("rescaled", True), ("raw", False)):
        sae, x = make(activation, select_by=select_by), draw(0, 20, 5)
        before = sae(x)
        with torch.no_grad():
            sae.W_dec[0] /= 4  # powers of two are exact
            sae.W_enc[:, 0] *= 4
            sae.b_enc[0] *= 4
        after = sae(x)
        assert torch.allclose(after.x_hat, before.x_hat, atol=1e-6) is same
        assert torch.equal(after.acts.sign(), before.acts.sign()) is same


def test_batchtopk_selects_over_the_batch_only_in_training() -> None:
    sae, x = make(BatchTopK(1.5)), draw(0, 20, 5)
    assert int((sae.train().encode(x) > 0).sum()) == 30
    acts = sae.eval().encode(x)
    expected = (sae.scores(sae(x).pre_acts) > sae.threshold).float()
    assert torch.equal(acts.sign(), expected) and bool(expected.any())
    alone = torch.cat([sae.encode(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(alone, acts)  # an input's code does not depend on its neighbours


def test_topk_of_everything_is_the_relu_sae() -> None:
    x = draw(0, 20, 5)
    expected = make(ReLU())(x)
    for everything in (TopK(7), BatchTopK(7)):
        assert torch.equal(make(everything)(x).x_hat, expected.x_hat)


def test_start_is_tied_unit_free_and_named_by_its_seed() -> None:
    sae = SAE(5, 7, ReLU(), seed=3, decoder_norm=0.25)
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.full((7,), 0.25))
    assert not sae.b_enc.any() and not sae.b_dec.any()
    assert torch.equal(SAE(5, 7, TopK(1), seed=3, decoder_norm=0.25).W_dec, sae.W_dec)
    assert not torch.equal(SAE(5, 7, ReLU(), seed=4, decoder_norm=0.25).W_dec, sae.W_dec)


def test_start_neither_reads_nor_moves_the_global_generator() -> None:
    torch.manual_seed(1)
    first, state = SAE(5, 7, ReLU()), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(SAE(5, 7, ReLU()).W_dec, first.W_dec)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("log_threshold", [True, False])
def test_jumprelu_starts_at_its_threshold(log_threshold: bool) -> None:
    sae = SAE(5, 7, JumpReLU(threshold=0.3, log_threshold=log_threshold))
    torch.testing.assert_close(sae.jump_threshold(), torch.full((7,), 0.3))
    assert SAE(5, 7, ReLU()).theta is None


@pytest.mark.parametrize("factor", [0.25, 3.7])
@pytest.mark.parametrize("subtract", [True, False])
@each_activation
def test_folded_scale_gives_the_same_sae_in_other_units(
    activation: Activation, subtract: bool, factor: float
) -> None:
    """Trained on `factor * x`; folded, it codes x: same support, everything over `factor`."""
    sae, x = make(activation, subtract_b_dec=subtract).eval(), draw(0, 50, 5)
    scaled = sae(factor * x)
    folded = sae.fold_input_scale(factor)(x)
    assert torch.equal(folded.acts.sign(), scaled.acts.sign())
    torch.testing.assert_close(folded.acts * factor, scaled.acts)
    torch.testing.assert_close(folded.x_hat * factor, scaled.x_hat)


@each_activation
def test_folding_a_scale_and_its_inverse_changes_nothing(activation: Activation) -> None:
    sae = make(activation)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    sae.fold_input_scale(4.0).fold_input_scale(0.25)
    for name, tensor in sae.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_start_from_a_dictionary() -> None:
    sae, W = make(ReLU()), draw(5, 7, 5)
    assert start_from(sae, W) is sae
    assert torch.equal(sae.W_dec, W) and torch.equal(sae.W_enc, W.T)
    assert not sae.b_enc.any() and not sae.b_dec.any()
    W.zero_()
    assert sae.W_dec.any()  # a copy


def test_start_from_refuses_another_width_by_naming_both() -> None:
    with pytest.raises(ParameterError, match=r"\(6, 5\).*needs \(7, 5\).*d_in=5, d_sae=6"):
        start_from(make(ReLU()), draw(0, 6, 5))


def test_inputs_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match="inputs have width 4, the SAE has d_in=5"):
        make(ReLU())(draw(0, 3, 4))


@pytest.mark.parametrize("width", [0, -1, 2.0, True, math.nan, math.inf])
@pytest.mark.parametrize("name", ["d_in", "d_sae"])
def test_widths_that_are_none(name: str, width: Any) -> None:
    with pytest.raises(ParameterError, match=rf"{name}=.*a whole number >= 1"):
        SAE(**{"d_in": 5, "d_sae": 7, name: width}, activation=ReLU())


@pytest.mark.parametrize("activation", [TopK(8), BatchTopK(7.5)], ids=repr)
def test_k_above_d_sae_is_refused(activation: Activation) -> None:
    with pytest.raises(ParameterError, match=r"k=.*0 < k <= d_sae=7\. Lower k or raise d_sae"):
        make(activation)


def test_unknown_selection_is_refused() -> None:
    with pytest.raises(ParameterError, match="select_by='norm'"):
        make(TopK(2), select_by="norm")


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan, math.inf])
def test_decoder_norms_that_are_none(norm: float) -> None:
    with pytest.raises(ParameterError, match=r"decoder_norm=.*a finite number > 0"):
        SAE(5, 7, ReLU(), decoder_norm=norm)


@torch.no_grad()
def test_relu_does_not_ask_how_long_a_decoder_row_is() -> None:
    sae = SAE(8, 6, ReLU(), seed=1)
    sae.W_dec[2] = 0
    out = sae(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(out.acts, torch.relu(out.pre_acts))
    assert bool((out.acts[:, 2] > 0).any())
