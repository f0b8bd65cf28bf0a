"""The one loop that trains language models: AdamW, a rate that rises and falls, checkpoints."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from ..compute.place import place
from ..engines import estimate
from ..errors import CheckpointError, DataError, message
from ..store import checkpoint, files
from .models import LMConfig, load_model, new_model, save_model
from .parts import Part, batch, part_loss

STATE = "state"  # a folder in that of an unfinished model


@dataclass(frozen=True)
class Recipe:
    """AdamW beyond `LMConfig`: its `lr` rises over `warmup` steps, then a cosine to `floor` lr."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    eps: float = 1e-8
    floor: float = 0.05
    decay_vectors: bool = True  # also norms and biases


PRETRAINING = Recipe((0.9, 0.95), weight_decay=0.1, floor=0.0, decay_vectors=False)


def learn(
    cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None, folder: Path
) -> None:
    """The one loop; model and checkpoints are saved in `folder`, where a killed call goes on."""
    # in eval mode: dropout (0.1 in hub models of GPT-2) would draw from the global generator
    model = new_model(cfg) if start is None else load_model(start)
    model.to(place().training)
    adam = _adam(model, cfg, recipe)
    begin, every = _resumed(folder / STATE, model, adam), max(500, cfg.n_steps // 10)
    tokens = sum(part.n_batch * part.ids.shape[1] for part in parts)
    n_bytes = 4 * sum(p.numel() for p in model.parameters())
    sizes = (tokens, 4 * n_bytes, n_bytes * (1 + len(cfg.checkpoint_steps)))
    kind = (*asdict(replace(cfg, seed=0)).values(), len(parts))
    steps = estimate.steps("language models", kind, begin, cfg.n_steps, *sizes)
    for step in tqdm(steps, total=cfg.n_steps - begin, disable=None, leave=False):
        if step and step % every == 0 and step > begin:
            _keep_state(folder / STATE, step, model, adam)
        if step in cfg.checkpoint_steps:
            _save(model, folder / name(step))
        for group in adam.param_groups:
            group["lr"] = cfg.lr * lr_factor(step, cfg, recipe.floor)
        loss = torch.stack([part_loss(model, *batch(cfg, p, i, step)) for i, p in enumerate(parts)])
        if not math.isfinite(loss.sum().item()):
            fix = "Lower lr or warm up for longer."
            raise DataError(message(f"loss at step {step}", loss.tolist(), "finite", fix))
        adam.zero_grad()
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    for step in cfg.checkpoint_steps:  # the last one; all that an estimate has left out
        if not (folder / name(step)).exists():
            _save(model, folder / name(step))
    save_model(model, folder)
    shutil.rmtree(folder / STATE, ignore_errors=True)


def _save(model: PreTrainedModel, folder: Path) -> None:
    """A checkpoint, whole or absent."""
    with files.folder_atomic(folder) as new:
        save_model(model, new)


def _keep_state(folder: Path, step: int, model: PreTrainedModel, adam: torch.optim.AdamW) -> None:
    """What the loop needs to go on from `step` to the same bytes."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for i, state in enumerate(adam.state.values()):
        tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
    with files.folder_atomic(folder) as new:
        checkpoint.write_tensors(new, "state", tensors, {"step": step})


def _resumed(folder: Path, model: PreTrainedModel, adam: torch.optim.AdamW) -> int:
    """Fill model and optimiser from what a killed call left; the step to go on at, 0 for none."""
    try:
        tensors, meta = checkpoint.read_tensors(folder, "state")
    except CheckpointError:  # none, or a damaged one
        return 0
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
    for i, p in enumerate(p for group in adam.param_groups for p in group["params"]):
        names = ("step", "exp_avg", "exp_avg_sq")
        adam.state[p] = {each: tensors[f"adam.{i}.{each}"].to(p.device) for each in names}
        adam.state[p]["step"] = adam.state[p]["step"].cpu()
    return int(meta["step"])


def _adam(model: PreTrainedModel, cfg: LMConfig, recipe: Recipe) -> torch.optim.AdamW:
    """Not the fused kernel: it gains 2 % here, and misreads gradients of other strides."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]  # decay would undo norms and biases
    decay = recipe.weight_decay
    groups = [
        {"params": matrices, "weight_decay": decay},
        {"params": vectors, "weight_decay": decay if recipe.decay_vectors else 0.0},
    ]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=recipe.betas, eps=recipe.eps)


def lr_factor(step: int, cfg: LMConfig, floor: float = 0.0) -> float:
    """What the peak rate is multiplied by: up linearly, at once above 0, then a cosine to floor."""
    if step < cfg.warmup:
        return (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / max(1, cfg.n_steps - cfg.warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def name(step: int) -> str:
    return f"step_{step:06d}"
