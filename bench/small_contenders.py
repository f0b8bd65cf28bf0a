"""The toy of Sparse but Wrong, and who trains on it without SAELens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from wide_contenders import KNOWN, N_STEPS, Batches, DictionaryLearning

from srclib.activations import BatchTopK
from srclib.objectives import SquaredError
from srclib.sae import SAE
from srclib.sources import ToyFeatures, random_correlation
from srclib.training.config import TrainConfig

N_FEATURES, D_IN, D_SAE, N_BATCH, LR = 50, 100, 50, 1024, 3e-4


def toy() -> ToyFeatures:
    """50 features in 100 dimensions, correlated firing, true L0 10.95."""
    p = 0.345 * torch.arange(N_FEATURES - 1, -1, -1) / N_FEATURES + 0.05
    return ToyFeatures(N_FEATURES, D_IN, p, random_correlation(N_FEATURES, seed=42))


def toy_sae(k: int) -> SAE:
    return SAE(D_IN, D_SAE, BatchTopK(k), decoder_norm=1.0, select_by="raw")


def toy_list(n: int) -> tuple[Any, ...]:
    """SAEs with k = 1 to n that share the batches; of one alone k is the features' 11."""
    saes = [toy_sae(k) for k in range(1, n + 1)] if n > 1 else [toy_sae(11)]
    cfg = TrainConfig(N_STEPS, N_BATCH, LR, lr_warmup=1, unit_decoder=True)
    return saes, cfg, SquaredError(), None


def dl_toy(batches: Batches) -> DictionaryLearning:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

    trainer = BatchTopKTrainer(N_STEPS, D_IN, D_SAE, 11, **KNOWN, lr=LR, threshold_start_step=0)
    begin = toy_sae(11)
    trainer.ae.encoder.weight.data.copy_(begin.W_enc.T)
    trainer.ae.decoder.weight.data.copy_(begin.W_dec.T)
    return DictionaryLearning(trainer, batches)


class Drawn(Sequence[Tensor]):
    """All batches of a source, each drawn when it is asked for."""

    def __init__(self, source: ToyFeatures, n_batch: int) -> None:
        self.source, self.n_batch = source, n_batch

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: Any) -> Any:
        return self.source.batch(step, self.n_batch)
