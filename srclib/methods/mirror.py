"""Where an SAE starts when it does not start at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import DataError, ParameterError, message
from ..sae import SAE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def start_from(sae: SAE, W_dec: Tensor) -> SAE:
    """Set the decoder to `W_dec` [d_sae, d_in], the encoder to its transpose, biases to 0.

    In place; returns the SAE. Raises ParameterError when the widths differ.
    """
    if W_dec.shape != sae.W_dec.shape:
        raise ParameterError(
            f"W_dec has shape {tuple(W_dec.shape)}, the SAE needs {tuple(sae.W_dec.shape)}: "
            f"one row per latent. Make the SAE with d_in={W_dec.shape[1]}, d_sae={len(W_dec)}."
        )
    sae.W_dec.copy_(W_dec)
    sae.W_enc.copy_(W_dec.T)
    sae.b_enc.zero_()
    sae.b_dec.zero_()
    return sae


@torch.no_grad()
def mirror_decoder(model: PreTrainedModel, layer: int, fold_post_norm: bool = False) -> Tensor:
    """`[U, -U]` of the MLP of block `layer` as decoder rows, [2m, d_in] float32, unit norm.

    SAE-MD (section 3): row i is the direction that MLP neuron i writes into the residual stream,
    row i + m its mirror image, since a latent is never negative and a neuron may be. With
    `fold_post_norm` the directions are those behind the norm that follows the MLP (Gemma:
    multiplied by 1 + w, OLMo-2: by w); that norm also scales by a positive number per token,
    which leaves a direction as it is.

    Raises ParameterError for a layer that does not exist or a family without that norm, and
    DataError for an unknown architecture or a neuron that writes nothing.
    """
    U, _ = mlp_output_weights(model, layer)
    rows = U.T.double()  # [m, d_in]
    if fold_post_norm:
        rows = rows * _post_norm_scale(model, layer)
    norms = rows.norm(dim=1, keepdim=True)
    without = (~((norms > 0) & norms.isfinite())).flatten().nonzero()
    if len(without):
        name = f"layer {layer}, norm of what MLP neuron {int(without[0])} writes"
        fix = f"{len(without)} such neurons: take another layer, or a model without pruning."
        raise DataError(message(name, float(norms[without[0]]), "finite and > 0", fix))
    rows = (rows / norms).float()
    return torch.cat([rows, -rows])


def mlp_output_weights(model: PreTrainedModel, layer: int) -> tuple[Tensor, Tensor | None]:
    """What the MLP of block `layer` writes: `(U [d_in, m], bias [d_in] or None)`, float32 copies.

    Column i is written by neuron i: MLP(x) = U @ neurons(x) + bias. The type of the module says
    how it stores U: `nn.Linear` as it is, GPT-2's `Conv1D` transposed. Shapes would not say it
    where m == d_in. Raises DataError for another module.
    """
    from transformers.pytorch_utils import Conv1D

    # here, so that a study of toys that starts from a dictionary does not depend on `lm`
    from ..lm.layouts import LAYOUTS, block, family

    path = LAYOUTS[family(model)].mlp_output
    module = block(model, layer).get_submodule(path)
    if not isinstance(module, nn.Linear | Conv1D) or not module.weight.is_floating_point():
        fix = "Load the model without quantisation or adapters."
        allowed = "nn.Linear or Conv1D of floats"
        raise DataError(message(f"layer {layer} {path}", type(module).__name__, allowed, fix))
    weight, bias = module.weight.detach(), module.bias
    U = (weight.T if isinstance(module, Conv1D) else weight).to("cpu", torch.float32, copy=True)
    return U, None if bias is None else bias.detach().to("cpu", torch.float32, copy=True)


def _post_norm_scale(model: PreTrainedModel, layer: int) -> Tensor:
    """What the norm behind the MLP multiplies each dimension by, [d_in] float64."""
    from ..lm.layouts import LAYOUTS, block, family

    name = family(model)
    layout = LAYOUTS[name]
    if layout.post_norm is None:
        with_norm = ", ".join(each for each, its in LAYOUTS.items() if its.post_norm)
        fix = f"{name} adds the MLP's output to the residual as it is: use False."
        raise ParameterError(message("fold_post_norm", True, f"True only for {with_norm}", fix))
    weight = block(model, layer).get_submodule(layout.post_norm).get_parameter("weight")
    return (layout.norm_shift + weight.detach().cpu().float()).double()
