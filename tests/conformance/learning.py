"""Losses and gradients of one update, beside dictionary_learning's trainers, in float64.

What its trainers do to gradients and weights afterwards is compared by `nox -s bench`, where both
train side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from agreement import Row, agree, our_loss
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import TopKTrainer
from torch import Tensor

from srclib import SAE, BatchTopK, JumpReLU, ReLU, TopK
from srclib.methods.gated import GatedSAE
from srclib.methods.gated import objective as gated
from srclib.methods.matryoshka import Nested
from srclib.objectives import L1, Context, L0Target, Objective, SquaredError

D_IN, D_SAE, N_BATCH, K, STEP = 16, 48, 200, 5, 3
WIDTHS = (8, 20, D_SAE)
KNOWN = {"steps": 1000, "activation_dim": D_IN, "dict_size": D_SAE, "layer": 0, "lm_name": "",
         "device": "cpu"}  # fmt: skip
LINEAR = {"W_enc": "encoder.weight", "W_dec": "decoder.weight", "b_enc": "encoder.bias",
          "b_dec": "b_dec"}  # fmt: skip
APRIL = LINEAR | {"b_dec": "bias"}
OF_GATED = LINEAR | {
    "b_enc": "gate_bias",
    "b_mag": "mag_bias",
    "r": "r_mag",
    "b_dec": "decoder_bias",
}
PLAIN = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}


class Pair(NamedTuple):
    """One update, written by both. names: of ours, and of theirs."""

    name: str
    trainer: Any
    ours: SAE
    objective: Objective
    names: dict[str, str]


def pairs() -> Iterator[Pair]:
    squares, raw = Objective((SquaredError(),)), {"select_by": "raw"}
    # every trainer warms its penalty up; at the first steps of a warm-up of one it is whole
    warm = {"warmup_steps": 1, "sparsity_warmup_steps": 1}
    trainer: Any = StandardTrainerAprilUpdate(**KNOWN, **warm, l1_penalty=0.7)
    ours = SAE(D_IN, D_SAE, ReLU())
    yield Pair("ReLU, L1 times decoder norm", trainer, ours, squares + L1(0.7), APRIL)
    trainer = TopKTrainer(**KNOWN, k=K, warmup_steps=1)
    yield Pair("TopK", trainer, SAE(D_IN, D_SAE, TopK(K), **raw), squares, LINEAR)
    trainer = BatchTopKTrainer(**KNOWN, k=K, warmup_steps=1)
    yield Pair("BatchTopK", trainer, SAE(D_IN, D_SAE, BatchTopK(K), **raw), squares, LINEAR)
    trainer = JumpReluTrainer(**KNOWN, **warm, bandwidth=0.4, target_l0=6.0, sparsity_penalty=30.0)
    ours = SAE(D_IN, D_SAE, JumpReLU(bandwidth=0.4), subtract_b_dec=False)
    pulled = squares + L0Target(6.0, coefficient=30.0)
    names = PLAIN | {"theta": "threshold"}
    yield Pair("JumpReLU, pulled to a target L0", trainer, ours, pulled, names)
    trainer = GatedSAETrainer(**KNOWN, **warm, l1_penalty=0.5)
    yield Pair("Gated", trainer, GatedSAE(D_IN, D_SAE), gated(0.5), OF_GATED)
    shares = [b / D_SAE - a / D_SAE for a, b in zip((0, *WIDTHS), WIDTHS, strict=False)]
    given = {"k": K, "group_fractions": shares, "group_weights": [1.0] * len(WIDTHS)}
    trainer = MatryoshkaBatchTopKTrainer(**KNOWN, **given, warmup_steps=1)
    ours = SAE(D_IN, D_SAE, BatchTopK(K), **raw)
    told = f"Matryoshka over BatchTopK, {len(WIDTHS)} widths"
    yield Pair(told, trainer, ours, Objective((Nested(WIDTHS),)), PLAIN)


def same_weights(pair: Pair) -> None:
    """Draw the weights of both, so that no bias or threshold is zero."""
    generator = torch.Generator().manual_seed(9)
    theirs = dict(pair.trainer.ae.double().named_parameters())
    assert set(theirs) == set(pair.names.values()), f"{pair.name}: {set(theirs)}"
    for ours, name in pair.names.items():
        p, scale = getattr(pair.ours, ours), 0.3 if ours.startswith("W") else 0.2
        drawn = scale * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        drawn = 0.1 + drawn.abs() if ours == "theta" else drawn
        if ours == "W_dec":  # its trainers keep rows of norm 1, and select by raw pre-activations
            drawn /= drawn.norm(dim=1, keepdim=True)
        p.data = drawn
        theirs[name].data = _turned(drawn, name).clone()


def _turned(table: Tensor, name: str) -> Tensor:
    """nn.Linear keeps [out, in]."""
    return table.T if name.endswith("weight") else table


def rows() -> Iterator[Row]:
    x = torch.randn(N_BATCH, D_IN, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    for pair in pairs():
        same_weights(pair)
        loss = pair.trainer.loss(x, step=STEP)
        loss.backward()
        sae, against = pair.ours, "dictionary_learning"
        total = our_loss(sae, pair.objective, x, Context(STEP, None))
        yield agree("loss of a step", pair.name, against, loss, total)
        theirs = dict(pair.trainer.ae.named_parameters())
        for ours, name in pair.names.items():
            gradient = _turned(theirs[name].grad, name)
            what = f"gradient of {ours}"
            yield agree(what, pair.name, against, gradient, getattr(sae, ours).grad)
