"""One sparse autoencoder for every paper.

    pre_acts = (x - b_dec) W_enc + b_enc        [batch, d_sae]
    acts     = activation(pre_acts)             [batch, d_sae]
    x_hat    = acts W_dec + b_dec               [batch, d_in]

`encode`, `decode` and `forward` are pure: counters, thresholds and schedules belong to the
trainer. An activation function selects; it never rescales what it lets through.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from . import rng
from .activations import Activation, BatchTopK, JumpReLU, TopK
from .errors import DataError, ParameterError, message, positive, whole


class SAEOutput(NamedTuple):
    """What one forward pass returns."""

    x_hat: Tensor  # [batch, d_in] reconstruction
    acts: Tensor  # [batch, d_sae] after the activation function
    pre_acts: Tensor  # [batch, d_sae] before it


class SAE(nn.Module):
    """A sparse autoencoder with `d_sae` latents on inputs of width `d_in` (float32).

    activation: `ReLU()`, `TopK(k)`, `BatchTopK(k)` or `JumpReLU(...)`.
    subtract_b_dec: encode `x - b_dec` (SAELens) or `x` (dictionary_learning's JumpReLU).
    select_by: TopK and BatchTopK compare `pre_acts` times the norm of the latent's decoder row
        ("rescaled", what unit rows would give) or plain `pre_acts` ("raw").
    seed: start of the decoder: Kaiming-uniform rows rescaled to `decoder_norm`;
        `W_enc` starts as its transpose, biases at zero (SAELens).

    BatchTopK keeps the largest scores of the batch while `training`, and in `eval()` the
    scores above `threshold`, a float64 buffer that the trainer maintains.

    Raises ParameterError for a width, an activation or a norm that is not allowed.
    """

    W_enc: nn.Parameter  # [d_in, d_sae]
    b_enc: nn.Parameter  # [d_sae]
    W_dec: nn.Parameter  # [d_sae, d_in], row i is the direction of latent i
    b_dec: nn.Parameter  # [d_in]
    theta: nn.Parameter | None  # [d_sae], JumpReLU only: the threshold, or its logarithm
    threshold: Tensor  # [], float64, BatchTopK only: scores above it are active at inference

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        activation: Activation,
        *,
        seed: int = 0,
        decoder_norm: float = 0.1,
        subtract_b_dec: bool = True,
        select_by: Literal["rescaled", "raw"] = "rescaled",
    ) -> None:
        super().__init__()
        whole("d_in", d_in, 1)
        whole("d_sae", d_sae, 1)
        if isinstance(activation, TopK | BatchTopK) and activation.k > d_sae:
            fix = "Lower k or raise d_sae."
            raise ParameterError(message("k", activation.k, f"0 < k <= d_sae={d_sae}", fix))
        positive("decoder_norm", decoder_norm, "0.1 is SAELens' start, 1 gives unit rows.")
        if select_by not in ("rescaled", "raw"):
            allowed = '"rescaled" or "raw"'
            raise ParameterError(message("select_by", select_by, allowed, 'Use "rescaled".'))
        self.d_in, self.d_sae = d_in, d_sae
        self.activation: Activation = activation
        self.subtract_b_dec, self.select_by = subtract_b_dec, select_by

        bound = math.sqrt(6 / d_in)  # Kaiming-uniform
        generator = rng.stream(seed, "sae", "W_dec")
        W_dec = (2 * torch.rand(d_sae, d_in, generator=generator) - 1) * bound
        W_dec *= decoder_norm / W_dec.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(W_dec)
        self.W_enc = nn.Parameter(W_dec.T.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.theta = None
        if isinstance(activation, JumpReLU):
            start = activation.threshold
            start = math.log(start) if activation.log_threshold else start
            self.theta = nn.Parameter(torch.full((d_sae,), start))
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))

    def pre_acts(self, x: Tensor) -> Tensor:
        """[batch, d_in] -> [batch, d_sae]. Raises DataError when the widths differ."""
        if x.shape[-1] != self.d_in:
            raise DataError(
                f"inputs have width {x.shape[-1]}, the SAE has d_in={self.d_in}: they must be "
                "equal. Take another source, or make the SAE with the width of this one."
            )
        return torch.addmm(self.b_enc, self.centred(x), self.W_enc)

    def centred(self, x: Tensor) -> Tensor:
        """What the encoder matrix is applied to: [batch, d_in]."""
        return x - self.b_dec if self.subtract_b_dec else x

    def scores(self, pre_acts: Tensor) -> Tensor:
        """What selection compares: [batch, d_sae]. ReLU asks for the sign alone, never scaled."""
        if self.select_by == "raw" or not isinstance(self.activation, TopK | BatchTopK):
            return pre_acts
        return pre_acts * torch.linalg.vector_norm(self.W_dec, dim=1)

    @torch.no_grad()
    def select(self, pre_acts: Tensor) -> tuple[Tensor, float | Tensor | None]:
        """Float mask [batch, d_sae], 1 where a latent is active; carries no gradient.

        With it the smallest score kept, where BatchTopK selects over the batch; else None.
        """
        if self.theta is not None:
            return (pre_acts - self.jump_threshold()).sign_().relu_(), None
        assert not isinstance(self.activation, JumpReLU)
        scores = self.scores(pre_acts)
        if not isinstance(self.activation, BatchTopK):
            return self.activation.support(scores), None
        if self.training:
            return self.activation.select(scores)
        return ((scores > self.threshold) & (scores > 0)).to(scores.dtype), None

    def jump_threshold(self) -> Tensor:
        """[d_sae], the thresholds of a JumpReLU SAE, positive when trained as logarithms."""
        assert isinstance(self.activation, JumpReLU) and self.theta is not None
        return self.theta.exp() if self.activation.log_threshold else self.theta

    def activate(self, pre_acts: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, d_sae]."""
        if isinstance(self.activation, JumpReLU):
            return self.activation.acts(pre_acts, self.jump_threshold())
        return pre_acts * self.select(pre_acts)[0]

    def encode(self, x: Tensor) -> Tensor:
        """[batch, d_in] -> acts [batch, d_sae]."""
        return self.activate(self.pre_acts(x))

    def decode(self, acts: Tensor) -> Tensor:
        """acts [batch, d_sae] -> x_hat [batch, d_in], always `acts @ W_dec + b_dec`."""
        return torch.addmm(self.b_dec, acts, self.W_dec)

    def forward(self, x: Tensor) -> SAEOutput:
        pre_acts = self.pre_acts(x)
        acts = self.activate(pre_acts)
        return SAEOutput(self.decode(acts), acts, pre_acts)

    @torch.no_grad()
    def fold_input_scale(self, factor: float) -> SAE:
        """Turn an SAE trained on `factor * x` into the same SAE for `x`, in place."""
        for tensor in (self.b_enc, self.b_dec, self.threshold):
            tensor.div_(factor)
        if isinstance(self.activation, JumpReLU) and self.theta is not None:
            if self.activation.log_threshold:
                self.theta.sub_(math.log(factor))
            else:
                self.theta.div_(factor)
        return self

    def extra_repr(self) -> str:
        return (
            f"d_in={self.d_in}, d_sae={self.d_sae}, activation={self.activation}, "
            f"subtract_b_dec={self.subtract_b_dec}, select_by={self.select_by!r}"
        )
