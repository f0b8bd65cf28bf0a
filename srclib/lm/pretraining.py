"""Training small language models, kept by content: the same request is computed once.

A stored model is in the layout of the hub (`config.json`, `model.safetensors`), so that
anything that reads hub models reads ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import files, fingerprint, rng
from ..engine import in_processes
from ..errors import DataError, message
from .models import LMConfig, load_model, new_model, save_model


def train_lm(cfg: LMConfig, tokens: Tensor) -> PreTrainedModel:
    """Train on `tokens` [n_rows, context] (ids), or load what an equal call stored.

    AdamW (betas 0.9 and 0.95, weight decay 0.1 for matrices), gradient norm clipped at 1, linear
    warmup, then a cosine down to 0. Step i reads rows that depend on (seed, i) alone, each row
    once per epoch. The same call gives the same bits on one machine. The store is `build/cache`
    (`python -m srclib clean` empties it).

    Raises DataError for tokens of another shape, ids outside the vocabulary, a loss that is no
    number.
    """
    return load_model(_trained(cfg, tokens))


def checkpoints(cfg: LMConfig, tokens: Tensor) -> dict[int, Path]:
    """The folder of each of `cfg.checkpoint_steps`, for `load_model`; trains where needed."""
    folder = _trained(cfg, tokens)
    return {step: folder / _name(step) for step in cfg.checkpoint_steps}


def _trained(cfg: LMConfig, tokens: Tensor) -> Path:
    """The folder of the trained model, with its checkpoints as subfolders."""
    _check(cfg, tokens)
    return kept(_key(cfg, tokens), lambda folder: _train(cfg, tokens, folder))


def kept(key: str, train: Callable[[Path], None]) -> Path:
    """The folder that `train` filled once, on one thread, for the content `key`."""
    place = files.place(key)
    _forget_once(place)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # waits: a study beside this one may be training it
        if not place.is_dir():
            with files.folder_atomic(place) as folder, _one_thread():
                train(folder)
    return place


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The same bits whatever the caller's thread count, and no collapse beside other work.

    Two threads gain a third on an idle one; beside another process they lose a factor of ten.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(cfg: LMConfig, tokens: Tensor, folder: Path) -> None:
    model = new_model(cfg).train()
    adam = _adam(model, cfg)
    for step in tqdm(range(cfg.n_steps), disable=None, leave=False):
        if step in cfg.checkpoint_steps:
            save_model(model, folder / _name(step))
        for group in adam.param_groups:
            group["lr"] = cfg.lr * lr_factor(step, cfg)
        ids = tokens[_rows(cfg, step, len(tokens))].long()  # [n_batch, context]
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        if not math.isfinite(loss.item()):
            fix = "Lower lr or warm up for longer."
            raise DataError(message(f"loss at step {step}", loss.item(), "a finite number", fix))
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    if cfg.n_steps in cfg.checkpoint_steps:
        save_model(model, folder / _name(cfg.n_steps))
    save_model(model, folder)


def _adam(model: PreTrainedModel, cfg: LMConfig) -> torch.optim.AdamW:
    """Not the fused kernel: it gains 2 % here, and misreads gradients of other strides."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]  # decay would undo norms and biases
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(0.9, 0.95))


def lr_factor(step: int, cfg: LMConfig, floor: float = 0.0) -> float:
    """What the peak rate is multiplied by: up linearly, at once above 0, then a cosine to floor."""
    if step < cfg.warmup:
        return (step + 1) / cfg.warmup
    progress = (step - cfg.warmup) / max(1, cfg.n_steps - cfg.warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _rows(cfg: LMConfig, step: int, n_rows: int) -> Tensor:
    """The rows of a step, [n_batch]: epochs one after another, each in an order of its own."""
    epoch, start = divmod(step * cfg.n_batch, n_rows)
    after = _order(cfg.seed, epoch + 1, n_rows)  # a batch may end in the next epoch
    return torch.cat([_order(cfg.seed, epoch, n_rows), after])[start : start + cfg.n_batch]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n_rows: int) -> Tensor:
    return torch.randperm(n_rows, generator=rng.stream(seed, "lm", "epoch", epoch))


def _check(cfg: LMConfig, tokens: Tensor) -> None:
    shape = f"[n_rows >= {cfg.n_batch} (n_batch), {cfg.context} (context)]"
    if tokens.ndim != 2 or len(tokens) < cfg.n_batch or tokens.shape[1] != cfg.context:
        fix = "Cut the corpus into rows of the context's length."
        raise DataError(message("tokens.shape", tuple(tokens.shape), shape, fix))
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise DataError(message("tokens.dtype", tokens.dtype, "an integer type", "Give ids."))
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= cfg.vocab_size:
        fix = "Raise vocab_size or use its tokeniser."
        allowed = f"0 <= id < vocab_size = {cfg.vocab_size}"
        raise DataError(message("tokens", low if low < 0 else high, allowed, fix))


def _key(cfg: LMConfig, tokens: Tensor) -> str:
    content = files.sha256(tokens.cpu().long().contiguous().numpy().tobytes())
    parts = [asdict(cfg), content, _code(), fingerprint.versions()]
    return files.sha256(files.canonical(parts))


@functools.cache
def _code() -> str:
    """Read once: the code that a process runs is the one it loaded, whatever is edited since."""
    return fingerprint.modules_hash(fingerprint.closure(__name__))


@functools.cache
def _forget_once(place: Path) -> None:
    """`run --force` trusts nothing stored; what this process makes after that, it may reuse."""
    if os.environ.get("SRCLIB_RECOMPUTE"):
        shutil.rmtree(place, ignore_errors=True)


def _name(step: int) -> str:
    return f"step_{step:06d}"


Trajectory = dict[int, Path]  # the folder of each checkpoint step, for `load_model`


def train_lms(
    configs: Sequence[LMConfig], tokens: Tensor | Sequence[Tensor], workers: int | None = None
) -> list[Trajectory]:
    """The checkpoints of every configuration, trained where an equal call has not stored them.

    tokens: [n_rows, context] for all, or one corpus per configuration. workers: processes of one
    thread; by default one per core. The bits are those of `checkpoints`, one after
    another. Raises what that raises, DataError when corpora and configurations do not pair up.
    """
    corpora = [tokens] * len(configs) if isinstance(tokens, Tensor) else list(tokens)
    if len(corpora) != len(configs):
        fix = "Give one corpus for all, or one each."
        raise DataError(message("len(tokens)", len(corpora), f"{len(configs)}", fix))
    workers = min(workers or os.cpu_count() or 1, len(configs))
    if workers < 2:
        return list(map(checkpoints, configs, corpora))
    return list(in_processes(workers, checkpoints, configs, corpora))
