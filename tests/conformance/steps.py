"""Losses and gradients of one update, beside SAELens' training SAEs, in float64.

Both start from the same weights, drawn so that no bias or threshold is zero, and read the same
batch with the same latents dead. Nothing of ours is told what theirs found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from agreement import Row, agree, our_loss
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from srclib import SAE, BatchTopK, JumpReLU, ReLU, TopK
from srclib.methods.gated import GatedSAE
from srclib.methods.gated import objective as gated
from srclib.methods.matryoshka import Nested
from srclib.objectives import L1, AuxK, Context, Objective, SquaredError, TanhSparsity

D_IN, D_SAE, N_BATCH, K = 16, 48, 200, 5
WIDTHS = (8, 20, D_SAE)
JUMP = {"threshold": 0.3, "bandwidth": 0.4}


class Pair(NamedTuple):
    """One update, written by both; theirs is `factor` times ours."""

    name: str
    theirs: Any
    ours: SAE
    objective: Objective
    coefficients: dict[str, float] = {}  # noqa: RUF012  # a value, never changed
    factor: float = 1.0


def pairs() -> Iterator[Pair]:
    size = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float64", "device": "cpu"}
    squares = Objective((SquaredError(),))
    theirs: Any = StandardTrainingSAE(StandardTrainingSAEConfig(**size))
    ours = SAE(D_IN, D_SAE, ReLU())
    yield Pair("ReLU, L1 times decoder norm", theirs, ours, squares + L1(0.7), {"l1": 0.7})
    theirs = TopKTrainingSAE(TopKTrainingSAEConfig(**size, k=K))
    yield Pair("TopK, AuxK", theirs, SAE(D_IN, D_SAE, TopK(K)), squares + AuxK())
    theirs = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size, k=K))
    yield Pair("BatchTopK, AuxK", theirs, SAE(D_IN, D_SAE, BatchTopK(K)), squares + AuxK())

    own = {"jumprelu_init_threshold": JUMP["threshold"], "jumprelu_bandwidth": JUMP["bandwidth"]}
    for to_input in (False, True):
        given = {**own, "jumprelu_ste_to_input": to_input, "jumprelu_sparsity_loss_mode": "tanh"}
        theirs = JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**size, **given))
        ours = SAE(D_IN, D_SAE, JumpReLU(**JUMP, through_pre=to_input))
        told = "JumpReLU, tanh" + ", kernel to the encoder too" * to_input
        yield Pair(told, theirs, ours, squares + TanhSparsity(0.6), {"l0": 0.6})

    size_gated = GatedTrainingSAEConfig(**size)
    theirs = GatedTrainingSAE(size_gated)
    yield Pair("Gated", theirs, GatedSAE(D_IN, D_SAE), gated(0.5), {"l1": 0.5})
    nested = {"matryoshka_widths": list(WIDTHS), "rescale_acts_by_decoder_norm": True}
    config = MatryoshkaBatchTopKTrainingSAEConfig(**size, k=K, **nested)
    ours = SAE(D_IN, D_SAE, BatchTopK(K))
    # theirs is the sum over the widths, ours their mean
    told = f"Matryoshka over BatchTopK, {len(WIDTHS)} widths"
    theirs = MatryoshkaBatchTopKTrainingSAE(config)
    yield Pair(told, theirs, ours, Objective((Nested(WIDTHS),)), factor=len(WIDTHS))


NAMES = {"W_enc": "W_enc", "W_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec"}
OF_JUMPRELU = NAMES | {"theta": "threshold"}
OF_GATED = NAMES | {"b_enc": "b_gate", "b_mag": "b_mag", "r": "r_mag"}


def same_weights(pair: Pair) -> dict[str, str]:
    """Draw the weights of both; returns {our name: their name}."""
    generator = torch.Generator().manual_seed(5)
    theirs = dict(pair.theirs.named_parameters())
    known = OF_GATED if isinstance(pair.ours, GatedSAE) else OF_JUMPRELU
    names = {ours: name for ours, name in known.items() if name in theirs}
    for ours, name in names.items():
        shape, scale = theirs[name].shape, 0.3 if ours.startswith("W") else 0.2
        drawn = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        drawn = 0.1 + drawn.abs() if ours == "theta" else drawn
        if isinstance(pair.ours, GatedSAE) and ours == "W_dec":
            drawn /= drawn.norm(dim=1, keepdim=True)
        theirs[name].data = drawn.to(theirs[name].dtype)
        getattr(pair.ours, ours).data = theirs[name].data.double()
    left = {name for name, _ in pair.theirs.named_parameters()} - set(names.values())
    assert not left, f"{pair.name}: {left} of theirs has no counterpart"
    return names


def rows() -> Iterator[Row]:
    x = torch.randn(N_BATCH, D_IN, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[::6] = True
    for pair in pairs():
        names = same_weights(pair)
        has_aux = any(isinstance(term, AuxK) for term in pair.objective.terms)
        mask = dead if has_aux else None
        given = TrainStepInput(x, dict(pair.coefficients), mask, 1, False)
        out = pair.theirs.training_forward_pass(given)
        held = isinstance(pair.ours, GatedSAE)
        (constant_decoder(pair.theirs, out, x) if held else out.loss).backward()
        sae = pair.ours
        total = pair.factor * our_loss(sae, pair.objective, x, Context(1, mask))
        yield agree("loss of a step", pair.name, "SAELens", out.loss.detach(), total)
        theirs = dict(pair.theirs.named_parameters())
        for ours, name in names.items():
            own, other = pair.factor * getattr(sae, ours).grad, theirs[name].grad
            if across := held and ours == "W_dec":
                own, other = _across(own, sae.W_dec), _across(other, sae.W_dec)
            what = f"gradient of {ours}" + ", across its unit rows" * across
            yield agree(what, pair.name, "SAELens", other, own)


def constant_decoder(theirs: Any, out: Any, x: Tensor) -> Tensor:
    """SAELens' loss of a gated SAE, the decoder of its last term a constant as the paper has it.

    SAELens lets that term train the decoder: there the two programs differ, by intent of both.
    """
    gate = torch.relu((x - theirs.b_dec) @ theirs.W_enc + theirs.b_gate)
    error = gate @ theirs.W_dec.detach() + theirs.b_dec.detach() - x
    found: Tensor = out.loss - out.losses["auxiliary_reconstruction_loss"]
    return found + error.square().sum(1).mean()


def _across(gradient: Tensor, unit_rows: Tensor) -> Tensor:
    """What a step along unit rows may use; SAELens' penalty has a part along them."""
    return gradient - (gradient * unit_rows).sum(1, keepdim=True) * unit_rows
