"""What the MLP adds to the output of its block: the term that SAE-MD starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...lm.sites import LAYOUTS, block, family, measuring, residual

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# the norm before the MLP, by family
NORMS = ("pre_feedforward_layernorm", "ln_2", "post_attention_layernorm")


class MLPPass(NamedTuple):
    """One pass through a block; out = stream + term, up to rounding."""

    neurons: Tensor
    """[batch, seq, m] activations of the MLP's neurons, sigma"""
    stream: Tensor
    """[batch, seq, d_in] the residual stream that the term joins"""
    term: Tensor
    """[batch, seq, d_in] all that the MLP adds; in Gemma-2 behind the post-FFN norm"""
    out: Tensor
    """[batch, seq, d_in] what the block returns"""


def mlp_pass(model: PreTrainedModel, layer: int, ids: Tensor) -> MLPPass:
    """The parts of block `layer`'s output on rows of text. ids: [batch, seq].

    The stream is what enters the norm before the MLP; in GPT-NeoX, whose attention and MLP read
    the same input, it is that input plus the attention's output. Raises what `block` raises.
    """
    seen: dict[str, Tensor] = {}
    here, layout = block(model, layer), LAYOUTS[family(model)]
    parts = dict(here.named_children())
    parallel = parts.get("attention")  # GPT-NeoX
    before = next((parts[name] for name in NORMS if name in parts), here)

    def entering(name: str) -> Callable[..., None]:
        return lambda _, args: seen.update({name: args[0]})

    hooks = [
        here.get_submodule(layout.mlp_output).register_forward_pre_hook(entering("neurons")),
        here.get_submodule(layout.post_norm or "mlp").register_forward_hook(
            lambda _, args, out: seen.update(term=out)
        ),
        parallel.register_forward_hook(lambda _, args, out: seen.update(stream=out[0]))
        if parallel
        else before.register_forward_pre_hook(entering("stream")),
    ]
    try:
        with measuring(model):
            out = residual(model, ids, None, layer)
            if parallel:
                seen["stream"] = seen["stream"] + residual(model, ids, None, layer, "in")
    finally:
        for hook in hooks:
            hook.remove()
    return MLPPass(seen["neurons"], seen["stream"], seen["term"], out)


@torch.no_grad()
def mlp_share(model: PreTrainedModel, layer: int, ids: Tensor) -> dict[str, float]:
    """How much of a block's output is its MLP's term f, of the rest x - f; over all tokens.

        share = E|f|^2 / E|x|^2    residual = E|x - f|^2 / E|x|^2    cosine = E cos(f, x)

    negative: share of (neuron, token) entries below 0. float64.
    """
    seen = mlp_pass(model, layer, ids)
    out, term = seen.out.flatten(0, 1).double(), seen.term.flatten(0, 1).double()
    power = out.square().sum()
    return {
        "share": float(term.square().sum() / power),
        "residual": float((out - term).square().sum() / power),
        "cosine": float(torch.nn.functional.cosine_similarity(term, out).mean()),
        "negative": float((seen.neurons < 0).double().mean()),
    }
