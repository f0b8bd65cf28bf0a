"""Who takes a training step of a wide SAE: this suite, sparsify, dictionary_learning, autograd.

All start from the weights of one srclib SAE, read the same batches in turn and make the same
update: squared error summed over d_in, unit decoder rows without a gradient along them, total
gradient norm clipped at 1, Adam whose first update has lr 0 (as in dictionary_learning).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srclib.activations import JumpReLU, TopK
from srclib.methods.gba import GroupBiases, geometric_targets, hand_over_bias
from srclib.objectives import L0Target, SquaredError
from srclib.sae import SAE
from srclib.steps import sparse
from srclib.training.config import TrainConfig
from srclib.training.step import update
from srclib.training.trainer import start

N_STEPS = 10_000  # a schedule's length, not what is run here
N_BATCHES = 4
Batches = Sequence[Tensor]


class Turns:
    """A source of a few batches in turn, which cost nothing."""

    n_samples = None
    identity = {"source": "Turns"}  # noqa: RUF012  # the protocol asks for a plain value

    def __init__(self, batches: Batches) -> None:
        self.batches, self.d_in = batches, batches[0].shape[1]

    def batch(self, step: int, n_batch: int) -> Tensor:
        return self.batches[step % len(self.batches)]


class Srclib:
    """`srclib.train`, step by step. tables: the readable way, whole tables at every size.

    make: an SAE or a list of them, configuration, objective, control.
    """

    def __init__(self, make: Callable[[], tuple[Any, ...]], batches: Batches, tables: bool) -> None:
        self.source = Turns(batches)
        sae, self.cfg, objective, control = make()
        least, sparse.LEAST = sparse.LEAST, 2**62 if tables else sparse.LEAST
        saes = sae if isinstance(sae, list) else [sae]
        self.state = start(saes, self.cfg, objective, control)
        sparse.LEAST = least

    def step(self) -> None:
        update(self.state, self.state.step, self.source, self.cfg)

    def loss(self) -> float:
        return float(self.state.members[0].newest.losses["mse"])

    def objective(self) -> float:
        """All terms together, which is what dictionary_learning reports of JumpReLU."""
        return sum(float(loss) for loss in self.state.members[0].newest.losses.values())


def topk_sae(d: int, h: int, k: int) -> SAE:
    return SAE(d, h, TopK(k), decoder_norm=1.0, select_by="raw")


def topk(d: int, h: int, k: int, n_batch: int) -> tuple[Any, ...]:
    cfg = TrainConfig(N_STEPS, n_batch, 1e-4, lr_warmup=1, unit_decoder=True)
    return topk_sae(d, h, k), cfg, SquaredError(), None


class Sparsify:
    """`SparseCoder` and what its `Trainer` calls per step; its FVU scaled back to our loss."""

    def __init__(self, d: int, h: int, k: int, batches: Batches) -> None:
        from sparsify.config import SparseCoderConfig
        from sparsify.sparse_coder import SparseCoder

        self.batches, self.n_done = batches, 0
        self.coder = SparseCoder(d, SparseCoderConfig(num_latents=h, k=k))
        begin = topk_sae(d, h, k)
        self.coder.encoder.weight.data.copy_(begin.W_enc.T)
        self.coder.encoder.bias.data.zero_()
        self.coder.W_dec.data.copy_(begin.W_dec)
        self.coder.b_dec.data.zero_()
        self.adam = torch.optim.Adam(self.coder.parameters(), lr=0.0)
        self.newest = torch.zeros(())

    def step(self) -> None:
        x = self.batches[self.n_done % len(self.batches)]
        variance = (x - x.mean(0)).pow(2).sum()
        out = self.coder(x, total_variance=variance)
        loss = out.fvu * variance / len(x)
        loss.backward()
        self.coder.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(self.coder.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        self.coder.set_decoder_norm_to_unit_norm()
        self.adam.param_groups[0]["lr"] = 1e-4
        self.newest, self.n_done = loss.detach(), self.n_done + 1

    def loss(self) -> float:
        return float(self.newest)


class DictionaryLearning:
    """`TopKTrainer.update` or `JumpReluTrainer.update`."""

    def __init__(self, trainer: Any, batches: Batches) -> None:
        self.trainer, self.batches = trainer, batches
        self.n_done, self.newest = 0, 0.0

    def step(self) -> None:
        # from step 1 on: at step 0 the trainer sets b_dec to a geometric median
        x = self.batches[self.n_done % len(self.batches)]
        self.newest = self.trainer.update(self.n_done + 1, x)
        self.n_done += 1

    def loss(self) -> float:
        return self.newest


KNOWN = {"layer": 0, "lm_name": "", "device": "cpu", "warmup_steps": 1}


def dl_topk(d: int, h: int, k: int, batches: Batches) -> DictionaryLearning:
    from dictionary_learning.trainers.top_k import TopKTrainer

    own = {"lr": 1e-4, "threshold_start_step": N_STEPS}
    trainer = TopKTrainer(N_STEPS, d, h, k, **KNOWN, **own)
    begin = topk_sae(d, h, k)
    trainer.ae.encoder.weight.data.copy_(begin.W_enc.T)
    trainer.ae.decoder.weight.data.copy_(begin.W_dec.T)
    return DictionaryLearning(trainer, batches)


def jump_sae(d: int, h: int, threshold: float) -> SAE:
    activation = JumpReLU(threshold=threshold, bandwidth=0.05)
    return SAE(d, h, activation, decoder_norm=1.0, subtract_b_dec=False)


def jumprelu(d: int, h: int, n_batch: int, threshold: float, target: float) -> tuple[Any, ...]:
    cfg = TrainConfig(N_STEPS, n_batch, 7e-5, betas=(0.0, 0.999), lr_warmup=1, unit_decoder=True)
    return jump_sae(d, h, threshold), cfg, SquaredError() + L0Target(target), None


def dl_jumprelu(
    d: int, h: int, batches: Batches, threshold: float, target: float
) -> DictionaryLearning:
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer

    own = {"bandwidth": 0.05, "target_l0": target, "sparsity_warmup_steps": 1}
    trainer = JumpReluTrainer(N_STEPS, d, h, **KNOWN, **own)
    begin = jump_sae(d, h, threshold)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        getattr(trainer.ae, name).data = getattr(begin, name).data.clone()
    trainer.ae.threshold.data.fill_(threshold)
    return DictionaryLearning(trainer, batches)


def gba_sae(d: int, h: int, threshold: float) -> SAE:
    sae = hand_over_bias(SAE(d, h, JumpReLU(), decoder_norm=1.0, subtract_b_dec=False))
    assert sae.theta is not None
    with torch.no_grad():
        sae.theta.fill_(threshold)
    sae.b_dec.requires_grad_(False)
    return sae


def gba(d: int, h: int, n_batch: int, threshold: float) -> tuple[Any, ...]:
    cfg = TrainConfig(N_STEPS, n_batch, 1e-4, lr_warmup=1, clip=float("inf"), tied=True)
    control = GroupBiases(geometric_targets(8, 0.1, 0.001), period=10**6, eps=0.0)
    return gba_sae(d, h, threshold), cfg, SquaredError(), control


class Autograd:
    """The same update of GBA between two events, written plainly: no library has it."""

    def __init__(self, d: int, h: int, batches: Batches, threshold: float) -> None:
        self.batches, self.n_done, self.threshold = batches, 0, threshold
        self.V = nn.Parameter(gba_sae(d, h, threshold).W_dec.detach().clone())
        self.adam = torch.optim.Adam([self.V], lr=0.0)
        self.fired, self.largest = torch.zeros(h, dtype=torch.float64), torch.zeros(h)
        self.newest = torch.zeros(())

    def step(self) -> None:
        x = self.batches[self.n_done % len(self.batches)]
        pre = x @ (self.V / self.V.norm(dim=1, keepdim=True)).T
        acts = pre * (pre > self.threshold)
        loss = (x - acts @ self.V).square().sum(dim=1).mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.adam.param_groups[0]["lr"] = 1e-4
        with torch.no_grad():
            self.fired += (acts > 0).sum(dim=0)
            torch.maximum(self.largest, acts.amax(dim=0), out=self.largest)
        self.newest, self.n_done = loss.detach(), self.n_done + 1

    def loss(self) -> float:
        return float(self.newest)


class Encoder:
    """The encoder product, which no step can avoid, and nothing else: the limit."""

    def __init__(self, x: Tensor, h: int) -> None:
        self.x, self.W = x, torch.randn(x.shape[1], h)
        self.out = torch.empty(len(x), h)

    def step(self) -> None:
        torch.mm(self.x, self.W, out=self.out)
