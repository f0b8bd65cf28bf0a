"""Language models of a few thousand random weights, one for each architecture we know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from tiny import draw
from torch import Tensor, nn

D, N_LAYERS, N_IDS, CONTEXT = 16, 2, 30, 12
ROTARY = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "olmo2": "Olmo2",
    "gpt_neox": "GPTNeoX",
}
FAMILIES = ("gpt2", *ROTARY)
POST_NORM = ("gemma2", "gemma3_text", "olmo2")


def tiny_lm(family: str, d_mlp: int = 24, **changes: Any) -> Any:
    """Every weight random, norms and biases too: else a forgotten one would show nowhere."""
    sizes: dict[str, Any] = {"vocab_size": N_IDS, "attn_implementation": "eager", **changes}
    sizes |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    if family == "gpt2":
        sizes |= {"n_embd": D, "n_layer": N_LAYERS, "n_head": 2, "n_positions": CONTEXT}
        config = transformers.GPT2Config(n_inner=d_mlp, **sizes)
    else:
        sizes |= {"hidden_size": D, "num_hidden_layers": N_LAYERS, "num_attention_heads": 2}
        sizes |= {"max_position_embeddings": CONTEXT, "intermediate_size": d_mlp}
        if family != "gpt_neox":
            sizes |= {"num_key_value_heads": 1, "head_dim": 8}
        config = getattr(transformers, f"{ROTARY[family]}Config")(**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(0.3 * draw(index, *parameter.shape))
    return model.eval()


def ids(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, N_IDS, shape, generator=generator)


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@contextmanager
def output_of(module: nn.Module, value: Any) -> Iterator[None]:
    """Inside, the module returns `value(its output)`."""
    handle = module.register_forward_hook(lambda _, __, output: value(output))
    try:
        yield
    finally:
        handle.remove()
