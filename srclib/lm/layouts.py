"""Where families of language models keep their blocks and MLPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ..errors import DataError, ParameterError, message

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Layout:
    """Where a family of models keeps its parts."""

    blocks: str  # the list of blocks, below the decoder
    mlp_output: str  # below a block: the linear map through which the MLP writes
    mlp_input: str  # below a block: what first reads the stream that the MLP's term joins
    post_norm: str | None = None  # below a block: a norm between that map and the residual
    norm_shift: float = 0.0  # that norm multiplies by norm_shift + weight


_DOWN, _NORM = "mlp.down_proj", "post_feedforward_layernorm"
_LLAMA = Layout("layers", _DOWN, "post_attention_layernorm")
_GEMMA = Layout("layers", _DOWN, "pre_feedforward_layernorm", _NORM, norm_shift=1.0)
LAYOUTS = {
    "gpt2": Layout("h", "mlp.c_proj", "ln_2"),
    "gpt_neox": Layout("layers", "mlp.dense_4h_to_h", "post_attention_layernorm"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "olmo2": Layout("layers", _DOWN, "mlp", _NORM),
}


def family(model: PreTrainedModel | PretrainedConfig) -> str:
    """The model type by its Hugging Face name, such as "gemma2". Raises DataError for others."""
    config: PretrainedConfig = getattr(model, "config", model)
    name = str(config.get_text_config().model_type)
    if name not in LAYOUTS:
        fix = "Take a model of one of these, or add its module paths to srclib/lm/layouts.py."
        raise DataError(message("model_type", name, f"one of {', '.join(LAYOUTS)}", fix))
    return name


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer blocks in order.

    Of a family outside `LAYOUTS` the one list of as many modules as the model has layers. Raises
    DataError where there is none, or several.
    """
    decoder, config = model.get_decoder(), model.config.get_text_config()
    if config.model_type in LAYOUTS:
        found = decoder.get_submodule(LAYOUTS[config.model_type].blocks)
        assert isinstance(found, nn.ModuleList)
        return found
    lists = {
        name: each
        for name, each in decoder.named_modules()
        if isinstance(each, nn.ModuleList) and len(each) == config.num_hidden_layers
    }
    if len(lists) != 1:
        allowed = f"one list of {config.num_hidden_layers} blocks (num_hidden_layers)"
        fix = "Add the family and the path of its blocks to layouts.LAYOUTS."
        raise DataError(message(f"{config.model_type}: blocks", sorted(lists), allowed, fix))
    return next(iter(lists.values()))


def block(model: PreTrainedModel, layer: int) -> nn.Module:
    """Block `layer`, from 0. Raises ParameterError when there is none; -1 is none."""
    found = blocks(model)
    check_layer(layer, len(found))
    return found[layer]


def check_layer(layer: object, n_layers: int) -> None:
    """Raises ParameterError for what is no block's number."""
    if isinstance(layer, bool) or not isinstance(layer, int) or not 0 <= layer < n_layers:
        fix = "Blocks count from 0."
        raise ParameterError(message("layer", layer, f"0 <= layer < {n_layers}", fix))
