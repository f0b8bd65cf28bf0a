"""Training small language models, kept by content: the same request is computed once.

The loop is in `loop`. `train_lm` learns every token of packed rows; `train_supervised` reads
several parts at once and learns some tokens only, such as the answers of questions. A stored model
is in the layout of the hub (`config.json`, `model.safetensors`): what reads hub models reads ours.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..compute.place import place
from ..engines import estimate
from ..engines.engine import compute, is_local
from ..errors import DataError, ParameterError, message
from ..store import files, fingerprint, locks
from .loop import PRETRAINING, learn, name
from .loop import Recipe as Recipe
from .models import LMConfig, hash_of, load_model
from .parts import Part, packed
from .parts import answers as answers
from .parts import texts as texts

Trajectory = dict[int, Path]  # the folder of each checkpoint step, for `load_model`


def train_lm(cfg: LMConfig, tokens: Tensor) -> PreTrainedModel:
    """Train on `tokens` [n_rows, context] (ids), or load what an equal call stored.

    `PRETRAINING`, gradient norm clipped at 1. Step i reads rows that depend on (seed, i) alone,
    each row once per epoch. The same call gives the same bits on one machine. The store is
    `build/cache` (`python -m srclib clean` empties it). Raises DataError for tokens of another
    shape, ids outside the vocabulary, a loss that is no number.
    """
    return load_model(_trained(cfg, [packed(cfg, tokens)], PRETRAINING))


def checkpoints(cfg: LMConfig, tokens: Tensor) -> Trajectory:
    """The folder of each of `cfg.checkpoint_steps`, for `load_model`; trains where needed."""
    return _by_step(cfg, _trained(cfg, [packed(cfg, tokens)], PRETRAINING))


def train_lms(
    configs: Sequence[LMConfig], tokens: Tensor | Sequence[Tensor], workers: int | None = None
) -> list[Trajectory]:
    """The checkpoints of every configuration, trained where an equal call has not stored them.

    tokens: [n_rows, context] for all, or one corpus per configuration. workers: processes of one
    thread; by default one per core. The bits are those of `checkpoints`, one after another.
    """
    corpora = [tokens] * len(configs) if isinstance(tokens, Tensor) else list(tokens)
    if len(corpora) != len(configs):
        fix = "Give one corpus for all, or one each."
        raise DataError(message("len(tokens)", len(corpora), f"{len(configs)}", fix))
    workers = min(workers or os.cpu_count() or 1, len(configs))
    wanted = list(zip(configs, corpora, strict=True))
    keys = [[_key(c, [packed(c, each)], PRETRAINING, None)] for c, each in wanted]
    missing = [i for i, (key,) in enumerate(keys) if not files.place(key).is_dir()]
    if len(missing) > 1 and (workers > 1 or not is_local()):
        own = [keys[i] for i in missing]
        for _ in compute(_checkpoints, [wanted[i] for i in missing], own, workers):
            pass
    return list(itertools.starmap(checkpoints, wanted))


def _checkpoints(task: tuple[LMConfig, Tensor]) -> None:
    checkpoints(*task)


def train_supervised(
    cfg: LMConfig,
    parts: Sequence[Part],
    recipe: Recipe | None = None,
    start: str | Path | None = None,
) -> PreTrainedModel:
    """Train on the learnt tokens of `parts`, or load what an equal call stored.

    Loss of a step: the sum over parts of the mean cross entropy of their learnt tokens; gradient
    norm clipped at 1. `cfg.n_batch` is not read: each part has its own.
    start: a model to continue from (folder or hub name, see `load_model`); by default the
        untrained model of `cfg`.

    Raises DataError for ids outside the vocabulary, texts beyond the context, no learnt token.
    """
    return load_model(_trained(cfg, parts, recipe or Recipe(), start))


def supervised_checkpoints(
    cfg: LMConfig,
    parts: Sequence[Part],
    recipe: Recipe | None = None,
    start: str | Path | None = None,
) -> Trajectory:
    """The folder of each of `cfg.checkpoint_steps`, for `load_model`; trains where needed."""
    return _by_step(cfg, _trained(cfg, parts, recipe or Recipe(), start))


def _trained(
    cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None = None
) -> Path:
    """The folder of the trained model, with its checkpoints as subfolders."""
    _check(cfg, parts)
    key = _key(cfg, parts, recipe, start)
    home = files.place(key)
    for stored in (home, home.with_suffix(".partial")):
        files.forget_once(stored)
    estimate.found([key])
    if home.is_dir():
        return home
    # a study beside this one may be training it
    with locks.lock(home.with_suffix(".lock"), "this language model", wait=True):
        if not home.is_dir():
            partial = files.make(home.with_suffix(".partial"))
            with _one_thread():
                learn(cfg, parts, recipe, start, partial)
            os.replace(partial, home)
    return home


def _check(cfg: LMConfig, parts: Sequence[Part]) -> None:
    if not parts:
        raise ParameterError(message("parts", [], "at least one", "Give texts or questions."))
    for i, part in enumerate(parts):
        if part.ids.shape[1] > cfg.context:
            fix = "Raise the context or cut the texts."
            allowed = f"at most {cfg.context} tokens (context)"
            raise DataError(message(f"longest text of part {i}", part.ids.shape[1], allowed, fix))
        low, high = int(part.ids.min()), int(part.ids.max())
        if low < 0 or high >= cfg.vocab_size:
            fix = "Raise vocab_size or use the tokeniser of this model."
            allowed = f"0 <= id < vocab_size = {cfg.vocab_size}"
            raise DataError(message(f"id in part {i}", low if low < 0 else high, allowed, fix))


def _key(cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None) -> str:
    tensors = [[p.ids] if p.learnt is None else [p.ids, p.learnt] for p in parts]
    content = [
        [*part.ids.shape, part.n_batch, len(each), files.tensors_sha256(each)]
        for part, each in zip(parts, tensors, strict=True)
    ]
    from_what = None if start is None else _content(start)
    settings = [asdict(cfg), asdict(recipe), content, from_what]
    where = place().identity
    return files.sha256(files.canonical([settings, _code(), fingerprint.versions(), where]))


@functools.cache
def _content(start: str | Path) -> list[str]:
    """Hashes of the weights that training starts from, and of what they do not tell."""
    model = load_model(start)
    return [files.tensors_sha256(model.parameters()), hash_of(model.config)]


@functools.cache
def _code() -> str:
    """Read once: the code that a process runs is the one it loaded, whatever is edited since."""
    return fingerprint.modules_hash(fingerprint.closure(__name__))


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


def _by_step(cfg: LMConfig, folder: Path) -> Trajectory:
    return {step: folder / name(step) for step in cfg.checkpoint_steps}
