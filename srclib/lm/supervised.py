"""Training a language model on some tokens of a text only, such as the answers of questions.

`pretraining` learns packed rows, every token of them. Here a step reads several parts at once,
each padded on the right with a mask of what is learnt; the losses of the parts are added.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import files, fingerprint, rng
from ..errors import DataError, ParameterError, message
from .models import LMConfig, load_model, new_model, save_model
from .pretraining import kept, lr_factor

PAD = 0  # never read: nothing attends to what comes later, and the mask leaves it out


@dataclass(frozen=True)
class Part:
    """Texts of one kind and how many of them a step reads.

    ids: [n_texts, length] int64, padded on the right. learnt: [n_texts, length] bool, the tokens
    to predict; never the first.
    """

    ids: Tensor
    learnt: Tensor
    n_batch: int


def answers(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], n: int) -> Part:
    """Questions, `n` a step, of which only the answers are learnt."""
    pairs = list(zip(prompts, answers, strict=True))
    return _part([[*p, *a] for p, a in pairs], [len(p) for p, _ in pairs], n)


def texts(tokens: Sequence[Sequence[int]], n: int) -> Part:
    """Whole texts, `n` a step, of which every token after the first is learnt."""
    return _part([list(text) for text in tokens], [1] * len(tokens), n)


@dataclass(frozen=True)
class Recipe:
    """AdamW beyond `LMConfig`: its `lr` rises over `warmup` steps, then a cosine to `floor` lr."""

    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    eps: float = 1e-8
    floor: float = 0.05


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
) -> dict[int, Path]:
    """The folder of each of `cfg.checkpoint_steps`, for `load_model`; trains where needed."""
    folder = _trained(cfg, parts, recipe or Recipe(), start)
    return {step: folder / f"step_{step:06d}" for step in cfg.checkpoint_steps}


def _part(rows: list[list[int]], first_learnt: list[int], n_batch: int) -> Part:
    if n_batch < 1 or not rows:
        seen = (len(rows), n_batch)
        fix = "Give some texts."
        raise ParameterError(message("(texts, n_batch)", seen, "at least 1 each", fix))
    ids = torch.full((len(rows), max(map(len, rows))), PAD)
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    for i, (row, first) in enumerate(zip(rows, first_learnt, strict=True)):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        learnt[i, first : len(row)] = True
    if not learnt.any(dim=1).all():
        i = int((~learnt.any(dim=1)).nonzero()[0])
        raise DataError(message(f"text {i}", rows[i], "at least one token to learn", "Drop it."))
    return Part(ids, learnt, n_batch)


def _trained(
    cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None
) -> Path:
    """The folder of the trained model, with its checkpoints as subfolders."""
    _check(cfg, parts)
    key = _key(cfg, parts, recipe, start)
    return kept(key, lambda folder: _train(cfg, parts, recipe, start, folder))


def _train(
    cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None, folder: Path
) -> None:
    # in eval mode: dropout (0.1 in hub models of GPT-2) would draw from the global generator
    model = new_model(cfg) if start is None else load_model(start)
    adam = torch.optim.AdamW(
        model.parameters(),
        lr=cfg.lr,
        betas=recipe.betas,
        eps=recipe.eps,
        weight_decay=recipe.weight_decay,
    )
    for step in tqdm(range(cfg.n_steps), disable=None, leave=False):
        if step in cfg.checkpoint_steps:
            save_model(model, folder / f"step_{step:06d}")
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
    if cfg.n_steps in cfg.checkpoint_steps:
        save_model(model, folder / f"step_{cfg.n_steps:06d}")
    save_model(model, folder)


def part_loss(model: PreTrainedModel, ids: Tensor, learnt: Tensor) -> Tensor:
    """Mean cross entropy in nats of the learnt tokens of a batch [n, length]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    here = learnt[:, 1:]
    return F.cross_entropy(logits[here], ids[:, 1:][here])


def batch(cfg: LMConfig, part: Part, index: int, step: int) -> tuple[Tensor, Tensor]:
    """What step `step` reads of part `index`: epochs one after another, cut to the longest row."""
    n = len(part.ids)
    epoch, first = divmod(step * part.n_batch, n)
    picks, missing = list[Tensor](), part.n_batch
    while missing > 0:
        generator = rng.stream(cfg.seed, "lm", "part", index, epoch)
        picks.append(torch.randperm(n, generator=generator)[first : first + missing])
        missing -= len(picks[-1])
        epoch, first = epoch + 1, 0
    rows = torch.cat(picks)
    learnt = part.learnt[rows]
    length = int(learnt.any(dim=0).nonzero()[-1]) + 1
    return part.ids[rows, :length], learnt[:, :length]


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
            allowed = f"0 <= id < vocab_size = {cfg.vocab_size}"
            fix = "Use the tokenizer of this model."
            raise DataError(message(f"id in part {i}", low if low < 0 else high, allowed, fix))


def _key(cfg: LMConfig, parts: Sequence[Part], recipe: Recipe, start: str | Path | None) -> str:
    tensors = [t.contiguous().numpy().tobytes() for p in parts for t in (p.ids, p.learnt)]
    content = [files.sha256(each) for each in tensors]
    sizes = [[*part.ids.shape, part.n_batch] for part in parts]
    from_what = None if start is None else _weights(start)
    settings = [asdict(cfg), asdict(recipe), sizes, from_what, content]
    return files.sha256(files.canonical([settings, _code(), fingerprint.versions()]))


@functools.cache
def _weights(start: str | Path) -> str:
    """Hash of the weights that training starts from."""
    return files.tensors_sha256(load_model(start).parameters())


@functools.cache
def _code() -> str:
    """Read once: the code that a process runs is the one it loaded, whatever is edited since."""
    return fingerprint.modules_hash(fingerprint.closure(__name__))
