"""Language models: small ones from named random streams, stored ones from safetensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.utils import logging

from .. import rng
from ..compute.place import place
from ..errors import DataError, ParameterError, message, whole
from ..store import files, seals

FAMILIES = ("gpt2", "llama", "gemma2", "qwen2", "gpt_neox")

# Attention is written out everywhere. The fused kernels are picked by hardware and mask, so the
# same text would give other bits elsewhere, and Gemma-2's soft caps need the written form anyway.
OF_A_FILE = ("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path")
ATTENTION = "eager"


@dataclass(frozen=True)
class LMConfig:
    """A small language model and how it is trained. Sizes in tokens, `lr` at its peak.

    checkpoint_steps: numbers of updates after which the model is also stored; 0: untrained.

    Raises ParameterError naming the field.
    """

    family: str = "gemma2"
    d_model: int = 64
    n_layers: int = 3
    n_heads: int = 4
    d_mlp: int = 256
    context: int = 128
    vocab_size: int = 800
    n_steps: int = 700
    n_batch: int = 16  # rows of `context` tokens per step
    lr: float = 3e-3
    warmup: int = 50  # steps
    seed: int = 0
    checkpoint_steps: tuple[int, ...] = ()
    tied: bool = False  # embedding and head share one matrix; GPT-2 and Gemma-2 always do

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            allowed = f"one of {', '.join(FAMILIES)}"
            raise ParameterError(message("family", self.family, allowed, "Take one."))
        for name in (field.name for field in fields(self) if field.type == "int"):
            whole(name, getattr(self, name), 0 if name in ("n_steps", "warmup", "seed") else 1)
        if self.d_model % (2 * self.n_heads):  # rotary positions turn pairs of dimensions
            allowed = f"a multiple of 2 * n_heads = {2 * self.n_heads}"
            raise ParameterError(message("d_model", self.d_model, allowed, "Change either."))
        if not 0 < self.lr < math.inf:
            raise ParameterError(message("lr", self.lr, "a finite number > 0", "Use 3e-3."))
        steps = self.checkpoint_steps
        if list(steps) != sorted({s for s in steps if 0 <= s <= self.n_steps}):
            allowed = f"increasing, 0 <= step <= n_steps = {self.n_steps}"
            raise ParameterError(message("checkpoint_steps", steps, allowed, "Sort them."))


def described(config: PretrainedConfig) -> str:
    """What kind of model a configuration is, such as "gemma2, 26 blocks of 2304"."""
    text = config.get_text_config()
    return f"{config.model_type}, {text.num_hidden_layers} blocks of {text.hidden_size}"


def new_model(cfg: LMConfig) -> PreTrainedModel:
    """The untrained model of a configuration, float32, in eval mode.

    Weights come from the stream ("lm", "weights") of `cfg.seed`, by the family's own rules; the
    global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):  # transformers draws from the global generator
        torch.default_generator.manual_seed(rng.derive(cfg.seed, "lm", "weights"))
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            _architecture(cfg), dtype=torch.float32, attn_implementation=ATTENTION
        )
    return model.eval()


def load_model(
    name_or_path: str | Path, revision: str | None = None, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """A causal language model from a folder or the hub's local cache, in eval mode, on the device.

    revision: commit, tag or branch, for a hub model only; without it, the cached `main`.
    dtype: by default the one in which the weights are stored.

    Nothing is downloaded: a run gives the same answer with and without a network, in seconds.
    Raises DataError for what `load_config` refuses, and when the model lacks a weight
    (transformers would draw it at random), has no safetensors or was altered since `save_model`.
    """
    if Path(name_or_path).is_dir():
        seals.check(Path(name_or_path))
    load_config(name_or_path, revision)
    try:
        with quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(name_or_path),
                revision=revision or "main",
                local_files_only=True,
                dtype=dtype or "auto",
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=ATTENTION,
                output_loading_info=True,
            )
        if report["missing_keys"]:
            raise ValueError(f"no weights for {', '.join(sorted(report['missing_keys']))}")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _does_not_load(name_or_path, revision, error) from error
    loaded: PreTrainedModel = model.eval().to(place().device)
    return loaded


def load_config(name_or_path: str | Path, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a local model; no weights are read.

    Raises ParameterError for a revision of a folder; DataError when the model is not there
    (naming the command that fetches it), brings code of its own or is of a type that
    transformers does not know.
    """
    if revision is not None and Path(name_or_path).is_dir():
        fix = "Leave it out, or name a hub model."
        raise ParameterError(message("revision", revision, "None for a folder", fix))
    name, where = str(name_or_path), {"revision": revision or "main", "local_files_only": True}
    try:
        config, _ = PretrainedConfig.get_config_dict(name, **where)
    except OSError as error:
        if (Path(name) / "config.json").is_file():
            raise _does_not_load(name, revision, error) from error
        seen = f"model={name!r}, revision={where['revision']!r}"
        raise DataError(
            f"{seen}: neither a folder with a config.json nor in the hub's local cache (a "
            "path is taken as it is written: `~` and variables stand for nothing). "
            f"{_remedy(name, revision)} The profiles smoke and laptop need no such model."
        ) from error
    if "auto_map" in config:
        fix = "Take a model whose architecture transformers itself has."
        raise DataError(f"{name}: brings code of its own, which never runs here. {fix}")
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
    except (ValueError, KeyError, TypeError) as error:
        raise _does_not_load(name, revision, error) from error


def _does_not_load(name: str | Path, revision: str | None, error: Exception) -> DataError:
    reason = str(error).strip().partition("\n")[0]
    allowed = "a complete model in safetensors; pickled weights are refused unread"
    fix = _remedy(name, revision)
    return DataError(f"{name}: does not load ({reason}). Allowed is {allowed}. {fix}")


def _remedy(name: str | Path, revision: str | None) -> str:
    if Path(name).is_dir():
        return "Save it again with save_pretrained."
    return (
        f"With a network: `hf download {name} --revision {revision or 'main'}`; of a gated model "
        "accept the licence on its page of the hub first, and log in with `hf auth login`."
    )


@dataclass(frozen=True)
class Reference:
    """Where a model lies, in place of its weights: what a task carries to a worker."""

    name: str
    revision: str | None
    dtype: torch.dtype
    weights: str  # their hash
    config: str  # and that of its configuration

    def load(self) -> PreTrainedModel:
        """The model. Raises DataError where it is not there, or other weights are."""
        model = load_model(self.name, self.revision, self.dtype)
        weights = files.tensors_sha256(model.state_dict().values())
        if (weights, hash_of(model.config)) != (self.weights, self.config):
            raise DataError(
                f"{self.name}: other weights or settings than those of the process that sent the "
                "task. Allowed is the same model on every worker: bring it there again."
            )
        return model


def reference(model: PreTrainedModel, weights: str) -> Reference:
    """weights: the hash of the model's, which is saved in the store if it has no folder."""
    name = str(model.name_or_path)
    if not name:
        folder = files.place(files.sha256(f"reference {weights}"))
        if not folder.is_dir():
            with files.folder_atomic(folder) as new:
                save_model(model, new)
        name = str(folder)
    revision = getattr(model.config, "_commit_hash", None)
    known = None if Path(name).is_dir() else revision
    return Reference(name, known, model.dtype, weights, hash_of(model.config))


def hash_of(config: PretrainedConfig) -> str:
    """Of what weights do not tell: heads, rope, norms, the nonlinearity."""
    told = {name: value for name, value in config.to_diff_dict().items() if name not in OF_A_FILE}
    return files.sha256(repr(sorted(told.items(), key=str)))


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """In the layout of the hub, for `load_model` and for anything else that reads it; sealed."""
    with quiet():
        model.save_pretrained(folder)
    seals.close(Path(folder))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers: in a notebook each leaves its lines for ever."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _architecture(cfg: LMConfig) -> PretrainedConfig:
    """The Hugging Face configuration: the family's defaults, no dropout, no special tokens."""
    shared: dict[str, Any] = {
        "vocab_size": cfg.vocab_size,
        "bos_token_id": None,  # the families' defaults would be words of a small vocabulary
        "eos_token_id": None,
        "pad_token_id": None,
        # GPT-2's 0.02 at its width 768, and the same size of activations at any other width
        "initializer_range": 0.02 * math.sqrt(768 / cfg.d_model),
        "tie_word_embeddings": cfg.tied or cfg.family in ("gpt2", "gemma2"),
    }
    if cfg.family == "gpt2":
        sizes = {"n_embd": cfg.d_model, "n_layer": cfg.n_layers, "n_head": cfg.n_heads}
        sizes |= {"n_inner": cfg.d_mlp, "n_positions": cfg.context}
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2Config(**sizes, **dropout, **shared)
    shared |= {
        "hidden_size": cfg.d_model,
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "intermediate_size": cfg.d_mlp,
        "max_position_embeddings": cfg.context,
        "attention_dropout": 0.0,
    }
    if cfg.family == "gpt_neox":
        return GPTNeoXConfig(hidden_dropout=0.0, **shared)
    shared["num_key_value_heads"] = cfg.n_heads
    if cfg.family != "gemma2":
        return (LlamaConfig if cfg.family == "llama" else Qwen2Config)(**shared)
    head = cfg.d_model // cfg.n_heads
    # every second block of Gemma-2 looks back over a window: here over the whole context
    window = {"sliding_window": cfg.context}
    return Gemma2Config(head_dim=head, query_pre_attn_scalar=head, **window, **shared)
