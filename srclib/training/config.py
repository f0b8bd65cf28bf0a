"""How to train, what weights are held to meanwhile, and what is refused before any compute.

A tied SAE has one matrix V [d_sae, d_in]: W_dec = V and W_enc = unit(V)^T, so that |V_m| is the
trained output scale a_m of latent m and unit(V_m) its direction w_m (Group Bias Adaptation:
f(x) = sum_m a_m w_m phi(w_m.x)).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..activations import BatchTopK, JumpReLU
from ..compute.fast import IN_CACHE
from ..compute.place import on_cpu
from ..errors import DataError, ParameterError, SuiteError, message, positive, whole
from ..sae import SAE
from ..sources import Source


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Defaults are those of the Sparse but Wrong toys where these give one."""

    n_steps: int  # updates
    n_batch: int  # inputs per update
    lr: float  # Adam's learning rate at its highest
    seed: int = 0  # which part of the source's stream is read: another seed, other batches
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's moment decays
    eps: float = 1e-8  # Adam's addend to the root of the second moment
    clip: float = 1.0  # largest total gradient norm of one SAE; math.inf switches clipping off
    lr_warmup: int = 0  # steps of linear warm-up from 0
    lr_decay: int = 0  # steps of linear decay to 0 at the end
    unit_decoder: bool = False  # decoder rows stay at norm 1, without gradient along them
    tied: bool = False  # W_enc stays unit(W_dec)^T, and its gradient goes to the decoder
    dead_window: int = 1000  # a latent silent for more steps than this is dead (AuxK revives it)
    log_every: int = 100  # steps between history records; 0: never
    eval_every: int = 0  # steps between evaluations on held-out batches, in `eval()` mode; 0: never
    eval_batches: int = 4  # batches per evaluation
    checkpoint_every: int = 0  # steps between checkpoints; 0: never
    checkpoint_dir: str | Path | None = None  # overwritten unless `resume_from` names it

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_batch", "dead_window", "eval_batches"):
            whole(name, getattr(self, name), 1)
        for name in ("seed", "lr_warmup", "lr_decay", "log_every", "eval_every"):
            whole(name, getattr(self, name))
        whole("checkpoint_every", self.checkpoint_every)
        positive("lr", self.lr, "Try 3e-4.")
        positive("eps", self.eps, "Adam's own is 1e-8.")
        if self.clip != math.inf:
            positive("clip", self.clip, "math.inf switches clipping off.")
        if len(self.betas) != 2 or not all(
            isinstance(b, int | float) and 0 <= b < 1 for b in self.betas
        ):
            fix = "Adam's own are (0.9, 0.999)."
            raise ParameterError(message("betas", self.betas, "two numbers in [0, 1)", fix))
        if self.lr_warmup + self.lr_decay > self.n_steps:
            seen = self.lr_warmup + self.lr_decay
            fix = "Shorten warm-up or decay."
            raise ParameterError(message("lr_warmup + lr_decay", seen, "<= n_steps", fix))
        if self.checkpoint_every and self.checkpoint_dir is None:
            raise ParameterError(message("checkpoint_dir", None, "a folder", "Name a folder."))

    def lr_at(self, step: int) -> float:
        """The learning rate of update `step` (0-based)."""
        rise = min(1.0, step / self.lr_warmup) if self.lr_warmup else 1.0
        fall = min(1.0, (self.n_steps - step) / self.lr_decay) if self.lr_decay else 1.0
        return self.lr * rise * fall


@torch.no_grad()
def constrain_gradients(sae: SAE, cfg: TrainConfig) -> None:
    """Before clipping and Adam: none for frozen parameters or along unit rows, one for tied."""
    if cfg.tied:
        _encoder_gradient_to_decoder(sae)
    for p in sae.parameters():
        if not p.requires_grad:  # then Adam's step is 0, and clipping does not count it
            assert p.grad is not None
            p.grad.zero_()
    if cfg.unit_decoder:  # a gradient along a unit row would only change its norm
        assert sae.W_dec.grad is not None
        for rows in _blocks(sae):
            W, dW = sae.W_dec[rows], sae.W_dec.grad[rows]
            dW -= (dW * W).sum(dim=1, keepdim=True) * W


@torch.no_grad()
def constrain_weights(sae: SAE, cfg: TrainConfig) -> None:
    """After Adam: unit rows, the tied encoder, thresholds that are not negative."""
    if cfg.unit_decoder and sae.W_dec.requires_grad:
        for rows in _blocks(sae):
            W = sae.W_dec.data[rows]
            W /= W.norm(dim=1, keepdim=True)
    if cfg.tied:
        norms = torch.linalg.vector_norm(sae.W_dec, dim=1, keepdim=True)  # [d_sae, 1]
        torch.div(sae.W_dec, norms, out=sae.W_enc.data.T)
    if isinstance(sae.activation, JumpReLU) and not sae.activation.log_threshold:
        sae.jump_threshold().data.clamp_(min=0.0)  # as SAELens: acts are never negative


def _encoder_gradient_to_decoder(sae: SAE) -> None:
    """dV_m += (I - w_m w_m^T) dW_enc_m / |V_m| for every latent m; dW_enc = 0.

    By columns of W_enc, whose layout is contiguous: half the time of the same by rows of V.
    """
    assert sae.W_enc.grad is not None and sae.W_dec.grad is not None
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1)
    for rows in _blocks(sae):
        w, dw = sae.W_enc[:, rows], sae.W_enc.grad[:, rows]  # [d_in, latents of the block]
        along = (dw * w).sum(dim=0)
        sae.W_dec.grad[rows] += torch.addcmul(dw, w, along, value=-1).div_(norms[rows]).T
        dw.zero_()


def _blocks(sae: SAE) -> Iterator[slice]:
    """Latents whose weights fit into a processor's cache: what is made of a block stays there."""
    step = max(1, IN_CACHE // sae.d_in) if on_cpu(sae.W_dec) else sae.d_sae
    return (slice(first, first + step) for first in range(0, sae.d_sae, step))


def check(saes: list[SAE], source: Source, cfg: TrainConfig) -> None:
    """Raises ParameterError, DataError, or SuiteError where memory does not suffice."""
    if not saes or len(set(map(id, saes))) < len(saes):
        seen = "one SAE stands twice in the list" if saes else "[] is empty"
        raise ParameterError(f"sae: {seen}. Pass one SAE, or a list with each once.")
    for place, sae in enumerate(saes):
        try:
            _check_sae(sae, source, cfg)
        except SuiteError as error:
            error.member = place  # type: ignore[attr-defined]
            raise
    if cfg.eval_every:
        source.batch(-1, cfg.n_batch)  # a source without held-out data says so now
    wanted = cfg.n_steps * cfg.n_batch
    if source.n_samples is not None and wanted > source.n_samples:
        raise DataError(
            f"n_steps * n_batch = {wanted} inputs are asked for, {type(source).__name__} has "
            f"{source.n_samples}. Lower n_steps, or let the source repeat."
        )
    device = saes[0].W_dec.device
    needed, there = memory_needed(saes, cfg), memory_of(device)
    if needed > there:
        raise SuiteError(
            f"training needs about {needed / 2**30:.1f} GiB, the {device.type} of this machine has "
            f"{there / 2**30:.1f} GiB. Lower d_sae={max(s.d_sae for s in saes)}, "
            f"n_batch={cfg.n_batch} or the number of SAEs ({len(saes)})."
        )


def _check_sae(sae: SAE, source: Source, cfg: TrainConfig) -> None:
    if sae.d_in != source.d_in:
        raise DataError(
            f"{type(source).__name__} has d_in={source.d_in}, {type(sae).__name__} has "
            f"d_in={sae.d_in}: they must be equal. Make the SAE with d_in={source.d_in}."
        )
    if isinstance(sae.activation, BatchTopK):
        sae.activation.n_kept(cfg.n_batch)
    _check_start(sae, cfg)


@torch.no_grad()
def _check_start(sae: SAE, cfg: TrainConfig) -> None:
    """What training holds must hold before the first step, or that step follows another rule."""
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1, keepdim=True)
    fix = "Make the SAE with decoder_norm=1.0."
    if cfg.unit_decoder and not torch.allclose(norms, torch.ones_like(norms), atol=1e-4):
        seen = f"{float(norms.min()):.3g} to {float(norms.max()):.3g}"
        allowed = "1, where unit_decoder=True"
        raise ParameterError(message("norms of W_dec's rows", seen, allowed, fix))
    if cfg.tied and not torch.allclose(sae.W_enc, (sae.W_dec / norms).T, atol=1e-4):
        allowed = "unit(W_dec)^T at the start, where tied=True"
        raise ParameterError(message("W_enc", "another matrix", allowed, fix))


def memory_needed(saes: Sequence[SAE], cfg: TrainConfig) -> int:
    """Bytes: weights, gradients and two moments of every SAE, activations of the widest."""
    weights = 16 * sum(p.numel() for sae in saes for p in sae.parameters())
    return weights + max(4 * cfg.n_batch * (5 * s.d_sae + 5 * s.d_in) for s in saes)


def memory_of(device: torch.device) -> int:
    """Bytes of a device; of this machine for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
