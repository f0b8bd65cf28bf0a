"""A toy and a run so small that a test of the trainer takes a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.sae import SAE
from srclib.sources import ToyFeatures
from srclib.training.trainer import TrainConfig

TOY = ToyFeatures(6, 8, 0.3)
CFG = TrainConfig(n_steps=30, n_batch=16, lr=1e-2, log_every=10, dead_window=5)
ACTIVATIONS: list[Activation] = [ReLU(), TopK(2), BatchTopK(1.5), JumpReLU(bandwidth=0.1)]


def make(activation: Activation, seed: int = 0, d_sae: int = 6) -> SAE:
    return SAE(8, d_sae, activation, seed=seed)


def batch_topk(k: float, d_sae: int = 40) -> SAE:
    """An SAE that a control of k may steer, for batches of width 3."""
    return SAE(3, d_sae, BatchTopK(k))


def k_of(sae: SAE) -> float:
    assert isinstance(sae.activation, BatchTopK)
    return sae.activation.k


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(d_in: int, d_sae: int, activation: Activation, **keywords: Any) -> SAE:
    """No two decoder rows of one norm; gradients exist and must be overwritten, not added to."""
    sae = SAE(d_in, d_sae, activation, decoder_norm=1.0, **keywords)
    with torch.no_grad():
        sae.W_dec.mul_(torch.linspace(0.5, 1.5, d_sae).unsqueeze(1))
    for parameter in sae.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    return sae


def a_list() -> list[SAE]:
    """Every kind, of different widths, so that neighbours differ in size and in moments."""
    return [make(a, seed=i, d_sae=5 + 2 * i) for i, a in enumerate([*ACTIVATIONS, TopK(3)])]


def same(a: SAE, b: SAE) -> bool:
    """Bit for bit, threshold and activation included."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return a.activation == b.activation and all(torch.equal(x, y) for x, y in pairs)


class Watched:
    """A source that writes down which steps are read."""

    def __init__(self, source: Any) -> None:
        self.source, self.steps = source, list[int]()
        self.d_in, self.n_samples, self.identity = source.d_in, source.n_samples, source.identity

    def batch(self, step: int, n_batch: int) -> Tensor:
        self.steps.append(step)
        return self.source.batch(step, n_batch)  # type: ignore[no-any-return]
