"""What a training run is refused for before any compute."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from .activations import BatchTopK
from .config import TrainConfig
from .errors import DataError, ParameterError, SuiteError, message
from .sae import SAE
from .sources import Source


def check(saes: list[SAE], source: Source, cfg: TrainConfig) -> None:
    """Raises ParameterError, DataError, or SuiteError where memory does not suffice."""
    if not saes:
        raise ParameterError("sae=[]: allowed is one SAE or a list of at least one.")
    if len(set(map(id, saes))) < len(saes):
        raise ParameterError("sae: one SAE stands twice in the list. Pass each once, or copies.")
    for sae in saes:
        if sae.d_in != source.d_in:
            raise DataError(
                f"{type(source).__name__} has d_in={source.d_in}, {type(sae).__name__} has "
                f"d_in={sae.d_in}: they must be equal. Make the SAE with d_in={source.d_in}."
            )
        if isinstance(sae.activation, BatchTopK):
            sae.activation.n_kept(cfg.n_batch)
        _check_constraints(sae, cfg)
    if cfg.eval_every:
        source.batch(-1, cfg.n_batch)  # a source without held-out data says so now
    wanted = cfg.n_steps * cfg.n_batch
    if source.n_samples is not None and wanted > source.n_samples:
        raise DataError(
            f"n_steps * n_batch = {wanted} inputs are asked for, {type(source).__name__} has "
            f"{source.n_samples}. Lower n_steps, or let the source repeat."
        )
    needed, there = memory_needed(saes, cfg), _physical_memory()
    if needed > there:
        raise SuiteError(
            f"training needs about {needed / 2**30:.1f} GiB, this machine has "
            f"{there / 2**30:.1f} GiB. Lower d_sae={max(s.d_sae for s in saes)}, "
            f"n_batch={cfg.n_batch} or the number of SAEs ({len(saes)})."
        )


@torch.no_grad()
def _check_constraints(sae: SAE, cfg: TrainConfig) -> None:
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


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
