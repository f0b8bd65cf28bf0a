"""How to train: one frozen value object, refused at once where it makes no sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from .errors import ParameterError, message, whole


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are those of the Sparse but Wrong toys where these give one."""

    n_steps: int
    """updates"""
    n_batch: int
    """inputs per update"""
    lr: float
    """Adam's learning rate at its highest"""
    seed: int = 0
    """which part of the source's stream is read: another seed, other batches"""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moment decays"""
    eps: float = 1e-8
    """Adam's addend to the root of the second moment"""
    clip: float = 1.0
    """largest total gradient norm of one SAE; math.inf switches clipping off"""
    lr_warmup: int = 0
    """steps of linear warm-up from 0"""
    lr_decay: int = 0
    """steps of linear decay to 0 at the end"""
    unit_decoder: bool = False
    """keep decoder rows at norm 1: drop the parallel gradient, renormalise after each update"""
    tied: bool = False
    """tied weights: W_enc stays unit(W_dec)^T and its gradient goes to the decoder"""
    dead_window: int = 1000
    """a latent silent for more steps than this is dead (AuxK revives it)"""
    log_every: int = 100
    """steps between history records; 0: never"""
    eval_every: int = 0
    """steps between evaluations on held-out batches, in `eval()` mode; 0: never"""
    eval_batches: int = 4
    """batches per evaluation"""
    checkpoint_every: int = 0
    """steps between checkpoints; 0: never"""
    checkpoint_dir: str | Path | None = None
    """where checkpoints go; overwritten unless `resume_from` names it"""

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_batch", "dead_window", "eval_batches"):
            whole(name, getattr(self, name), 1)
        for name in ("seed", "lr_warmup", "lr_decay", "log_every", "eval_every"):
            whole(name, getattr(self, name))
        whole("checkpoint_every", self.checkpoint_every)
        if not _is_number(self.lr) or not 0 < self.lr < math.inf:
            raise ParameterError(message("lr", self.lr, "a finite number > 0", "Try 3e-4."))
        if not _is_number(self.clip) or not self.clip > 0:
            fix = "math.inf switches clipping off."
            raise ParameterError(message("clip", self.clip, "a number > 0", fix))
        if len(self.betas) != 2 or not all(_is_number(b) and 0 <= b < 1 for b in self.betas):
            fix = "Adam's own are (0.9, 0.999)."
            raise ParameterError(message("betas", self.betas, "two numbers in [0, 1)", fix))
        if not _is_number(self.eps) or not 0 < self.eps < math.inf:
            fix = "Adam's own is 1e-8."
            raise ParameterError(message("eps", self.eps, "a finite number > 0", fix))
        if self.lr_warmup + self.lr_decay > self.n_steps:
            seen = self.lr_warmup + self.lr_decay
            fix = "Shorten warm-up or decay."
            raise ParameterError(message("lr_warmup + lr_decay", seen, "<= n_steps", fix))
        if self.checkpoint_every and self.checkpoint_dir is None:
            fix = "Name a folder."
            raise ParameterError(message("checkpoint_dir", None, "a folder", fix))

    def lr_at(self, step: int) -> float:
        """The learning rate of update `step` (0-based)."""
        rise = min(1.0, step / self.lr_warmup) if self.lr_warmup else 1.0
        fall = min(1.0, (self.n_steps - step) / self.lr_decay) if self.lr_decay else 1.0
        return self.lr * rise * fall


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
