"""SAE-MD's start: each row is what one neuron writes, in every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import draw
from tiny_lm import FAMILIES, POST_NORM, D, ids, output_of, tiny_lm
from torch import Tensor, nn
from torch.nn import functional as F

from srclib.activations import BatchTopK
from srclib.errors import DataError, ParameterError
from srclib.lm.layouts import LAYOUTS, block, family
from srclib.lm.sites import residual
from srclib.methods.mirror import mirror_decoder, mlp_output_weights, start_from
from srclib.sae import SAE

IDS = ids(0, 3, 7)
PLAIN = [name for name in FAMILIES if name not in POST_NORM]
SIZES = [(name, d_mlp) for name in FAMILIES for d_mlp in (24, D)]  # m > d, and m == d


def writer(model: Any, layer: int) -> nn.Module:
    """The map through which the MLP writes, whichever way it stores its weights."""
    return block(model, layer).get_submodule(LAYOUTS[family(model)].mlp_output)


@torch.no_grad()
def written(model: Any, layer: int, output: Tensor) -> Tensor:
    """What reaches the residual when the MLP's last map returns `output`, [batch, seq, d]."""
    nothing = torch.zeros(D)
    with output_of(writer(model, layer), lambda old: output.expand_as(old)):
        with_it = residual(model, IDS, None, layer)
    with output_of(writer(model, layer), lambda old: nothing.expand_as(old)):
        return with_it - residual(model, IDS, None, layer)


@torch.no_grad()
def neurons(model: Any, layer: int) -> Tensor:
    """Activations of the MLP's neurons, [batch, seq, m]."""
    seen: list[Tensor] = []
    handle = writer(model, layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    residual(model, IDS, None, layer)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(("name", "d_mlp"), SIZES)
def test_column_i_is_what_neuron_i_writes(name: str, d_mlp: int) -> None:
    """Asked of the module itself: its shape does not tell where m equals d."""
    model = tiny_lm(name, d_mlp)
    for layer in (0, 1):
        U, bias = mlp_output_weights(model, layer)
        module = writer(model, layer)
        with torch.no_grad():
            silent, one_each = module(torch.zeros(d_mlp)), module(torch.eye(d_mlp))
        torch.testing.assert_close(one_each - silent, U.T)
        assert U.shape == (D, d_mlp) and not U.requires_grad
        assert (bias is not None) == (name in ("gpt2", "gpt_neox"))
        assert silent.equal(torch.zeros(D) if bias is None else bias)


@pytest.mark.parametrize(("name", "d_mlp"), SIZES)
def test_rows_are_unit_directions_and_their_mirror_images(name: str, d_mlp: int) -> None:
    """md.init.mirror: [U, -U], n = 2m."""
    model = tiny_lm(name, d_mlp)
    U, _ = mlp_output_weights(model, 1)
    W = mirror_decoder(model, 1)
    assert W.shape == (2 * d_mlp, D) and W.dtype == torch.float32 and W.is_contiguous()
    assert W[d_mlp:].equal(-W[:d_mlp])
    torch.testing.assert_close(W.norm(dim=1), torch.ones(2 * d_mlp))
    torch.testing.assert_close(F.cosine_similarity(W[:d_mlp], U.T), torch.ones(d_mlp))
    assert not torch.allclose(W, mirror_decoder(model, 0), atol=0.1)


def identity_error(model: Any, layer: int) -> float:
    """md.decomp.identity: what the block adds through its MLP against U @ neurons + bias."""
    U, bias = mlp_output_weights(model, layer)
    sums = neurons(model, layer) @ U.T + (0 if bias is None else bias)
    with torch.no_grad(), output_of(writer(model, layer), torch.zeros_like):
        without = residual(model, IDS, None, layer)
    with torch.no_grad():
        difference = residual(model, IDS, None, layer) - without - sums
    return float(difference.abs().max())


SEQUENTIAL = ("gpt_neox", {"use_parallel_residual": False})  # beside it by default


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in PLAIN), SEQUENTIAL])
def test_the_block_adds_the_sum_of_what_neurons_write(name: str, changes: dict[str, bool]) -> None:
    for layer in (0, 1):
        assert identity_error(tiny_lm(name, **changes), layer) < 1e-5


@pytest.mark.parametrize("name", POST_NORM)
@torch.no_grad()
def test_behind_a_post_norm_the_sum_holds_only_after_it(name: str) -> None:
    model = tiny_lm(name)
    assert identity_error(model, 1) > 0.1
    U, _ = mlp_output_weights(model, 1)
    norm = block(model, 1).post_feedforward_layernorm
    plain, sums = residual(model, IDS, None, 1), neurons(model, 1) @ U.T
    with output_of(writer(model, 1), torch.zeros_like):
        without = residual(model, IDS, None, 1)
    torch.testing.assert_close(plain - without, norm(sums), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POST_NORM)
@torch.no_grad()
def test_folding_gives_the_directions_that_reach_the_residual(name: str) -> None:
    """Asked of the block: neuron i alone writes; with a norm far from 1 it matters."""
    model = tiny_lm(name, d_mlp=6)
    scale = draw(0, D).exp()  # log-normal, sd 1: Gemma-2's own training keeps toys near 1
    shift = 1.0 if name.startswith("gemma") else 0.0
    block(model, 1).post_feedforward_layernorm.weight.copy_(scale - shift)
    U, _ = mlp_output_weights(model, 1)
    raw, folded = mirror_decoder(model, 1), mirror_decoder(model, 1, fold_post_norm=True)
    for i in range(6):
        for row, sign in ((folded[i], 1), (folded[i + 6], -1)):
            reached = written(model, 1, sign * U[:, i])
            torch.testing.assert_close(
                F.cosine_similarity(reached, row, dim=-1), torch.ones(3, 7), rtol=0, atol=1e-5
            )
    assert F.cosine_similarity(raw, folded).max() < 0.99
    torch.testing.assert_close(folded.norm(dim=1), torch.ones(12))


@pytest.mark.parametrize("name", PLAIN)
def test_folding_is_refused_without_a_post_norm(name: str) -> None:
    words = f"fold_post_norm=True: allowed is True only for gemma2, gemma3_text, olmo2. {name} adds"
    with pytest.raises(ParameterError, match=words):
        mirror_decoder(tiny_lm(name), 0, fold_post_norm=True)


@torch.no_grad()
def test_a_neuron_that_writes_nothing_is_refused_by_name() -> None:
    model = tiny_lm("gpt2")
    module = writer(model, 1)
    module.weight[5] = 0
    with pytest.raises(DataError, match=r"layer 1, .* MLP neuron 5 writes=0.0: .* 1 such"):
        mirror_decoder(model, 1)
    module.weight[5] = 1e-30  # its square is 0 in float32
    assert mirror_decoder(model, 1)[5].norm() == pytest.approx(1)
    module.weight[5, 0] = float("nan")
    with pytest.raises(DataError, match="neuron 5 writes=nan"):
        mirror_decoder(model, 1)


@torch.no_grad()
def test_the_models_weights_are_copied() -> None:
    for name in ("gpt2", "gpt_neox"):
        model = tiny_lm(name)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        U, bias = mlp_output_weights(model, 0)
        U.zero_()
        bias.zero_()
        mirror_decoder(model, 1).zero_()
        assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_bfloat16_weights_give_float32_rows() -> None:
    model = tiny_lm("gemma2").bfloat16()
    for fold in (False, True):
        W = mirror_decoder(model, 0, fold_post_norm=fold)
        assert W.dtype == torch.float32
        torch.testing.assert_close(W.norm(dim=1), torch.ones(48))


def test_other_layers_and_modules_are_refused() -> None:
    model = tiny_lm("llama")
    with pytest.raises(ParameterError, match="layer=2: allowed is 0 <= layer < 2"):
        mirror_decoder(model, 2)
    mlp = model.model.layers[0].mlp
    mlp.down_proj = nn.Bilinear(2, 2, 2)
    with pytest.raises(DataError, match=r"mlp.down_proj='Bilinear': allowed is nn.Linear"):
        mirror_decoder(model, 0)


def test_gpt2_without_a_named_width_has_four_times_its_own() -> None:
    assert mirror_decoder(tiny_lm("gpt2", d_mlp=None), 0).shape == (8 * D, D)


def test_an_sae_starts_there() -> None:
    W = mirror_decoder(tiny_lm("gemma2"), 0)
    sae = start_from(SAE(D, len(W), BatchTopK(4)), W)
    assert sae.W_dec.equal(W) and sae.W_enc.equal(W.T)
    x = draw(0, 50, D)
    active = (x @ sae.W_enc + sae.b_enc > 0).float()
    assert active.sum(1).eq(24).all(), "of each pair one is active"
    with pytest.raises(ParameterError, match=r"\(48, 16\), the SAE needs \(40, 16\)"):
        start_from(SAE(D, 40, BatchTopK(4)), W)
