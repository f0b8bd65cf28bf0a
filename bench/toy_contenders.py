"""The large toy of Sparse but Wrong, and who generates and trains on it.

Every training contender makes the same update: squared error summed over d_in plus AuxK, Adam
with lr 3e-4, total gradient norm clipped at 1, selection by pre_acts times decoder norm. All
start from the weights of srclib's SAE with the same k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, LoggingConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary, SyntheticActivationIterator
from sae_lens.training.sae_trainer import SAETrainer
from small_contenders import D_IN, D_SAE, LR, N_BATCH, N_FEATURES, toy
from torch import Tensor

from srclib.activations import BatchTopK
from srclib.sae import SAE
from srclib.sources import Source, ToyFeatures
from srclib.training.config import TrainConfig
from srclib.training.step import update
from srclib.training.trainer import start

__all__ = ["N_BATCH", "toy"]
N_STEPS = 14_649  # of the paper; a schedule's length, not what is run here
Batches = Callable[[], Tensor]


def saelens_batches(source: ToyFeatures) -> Batches:
    """The same distribution from SAELens' own generator."""
    assert source.corr is not None
    generator = ActivationGenerator(
        N_FEATURES,
        firing_probabilities=source.p.float(),
        std_firing_magnitudes=source.magnitude_std,
        correlation_matrix=source.corr.float(),
    )
    dictionary = FeatureDictionary(N_FEATURES, D_IN, initializer=None)
    dictionary.feature_vectors.data.copy_(source.features)
    return SyntheticActivationIterator(dictionary, generator, batch_size=N_BATCH).next_batch


def srclib_batches(source: Source) -> Batches:
    """Consecutive training batches."""
    steps = iter(range(2**62))
    return lambda: source.batch(next(steps), N_BATCH)


class OneBatch:
    """A source that costs nothing: what remains is the step alone."""

    d_in = D_IN
    n_samples = None
    identity = {"source": "OneBatch"}  # noqa: RUF012  # the protocol asks for a plain value

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def batch(self, step: int, n_batch: int) -> Tensor:
        return self.x


class Srclib:
    """`srclib.train`, step by step: the SAEs share the batch."""

    def __init__(self, source: Source, ks: Sequence[float]) -> None:
        self.source, self.cfg = source, TrainConfig(N_STEPS, N_BATCH, LR)
        self.state = start([_sae(k) for k in ks], self.cfg)

    def step(self) -> None:
        update(self.state, self.state.step, self.source, self.cfg)

    def loss(self) -> float:
        """Mean over the SAEs."""
        return fmean(float(member.newest.losses["mse"]) for member in self.state.members)


class SaeLens:
    """`SAETrainer.step`, what `train_toy_sae` and `MultiSAETrainer` call; without logging."""

    def __init__(self, batches: Batches, ks: Sequence[float], share_batch: bool = False) -> None:
        self.batches, self.share_batch = batches, share_batch
        self.trainers = [_saelens_trainer(k) for k in ks]
        self.losses: list[Tensor] = []

    def step(self) -> None:
        shared = self.batches() if self.share_batch else None
        self.losses = []
        for trainer in self.trainers:
            out = trainer.step(self.batches() if shared is None else shared)
            trainer.n_training_steps += 1  # `fit` does this after its logging
            self.losses.append(out.losses["mse_loss"].detach())

    def loss(self) -> float:
        """Mean over the SAEs."""
        return fmean(float(loss) for loss in self.losses)


def _sae(k: float) -> SAE:
    return SAE(D_IN, D_SAE, BatchTopK(k), seed=0)


def _saelens_trainer(k: float) -> SAETrainer:
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=k))
    start = _sae(k)
    sae.W_enc.data.copy_(start.W_enc.data)
    sae.W_dec.data.copy_(start.W_dec.data)
    cfg = SAETrainerConfig(  # as `train_toy_sae` fills it
        n_checkpoints=0,
        checkpoint_path=None,
        save_final_checkpoint=False,
        total_training_samples=N_STEPS * N_BATCH,
        device="cpu",
        autocast=False,
        lr=LR,
        lr_end=LR,
        lr_scheduler_name="constant",
        lr_warm_up_steps=0,
        lr_decay_steps=0,
        n_restart_cycles=1,
        adam_beta1=0.9,
        adam_beta2=0.999,
        train_batch_size_samples=N_BATCH,
        dead_feature_window=1000,
        feature_sampling_window=2000,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=1000,
    )
    return SAETrainer(cfg=cfg, sae=sae, data_provider=iter(()))


class Gemms:
    """The five matrix products that no training step of an SAE can avoid, and nothing else."""

    def __init__(self, x: Tensor, n_saes: int = 1) -> None:
        self.x, self.n_saes = x, n_saes
        sae = _sae(11)
        self.W_enc, self.W_dec = sae.W_enc.detach(), sae.W_dec.detach()
        self.acts = torch.empty(N_BATCH, D_SAE)
        self.x_hat = torch.empty(N_BATCH, D_IN)
        self.d_acts = torch.empty(N_BATCH, D_SAE)
        self.dW_enc = torch.empty(D_IN, D_SAE)
        self.dW_dec = torch.empty(D_SAE, D_IN)

    def step(self) -> None:
        for _ in range(self.n_saes):
            torch.mm(self.x, self.W_enc, out=self.acts)
            torch.mm(self.acts, self.W_dec, out=self.x_hat)
            torch.mm(self.x_hat, self.W_dec.T, out=self.d_acts)
            torch.mm(self.acts.T, self.x_hat, out=self.dW_dec)
            torch.mm(self.x.T, self.d_acts, out=self.dW_enc)
