"""The gated SAE (Rajamanoharan et al. 2024, arXiv:2404.16014): one path says which, one how much.

    gate = (x - b_dec) W_enc + b_enc                        [batch, d_sae]
    size = exp(r) (x - b_dec) W_enc + b_mag                 [batch, d_sae]
    acts = 1[gate > 0] ReLU(size)
    loss = ||x - x_hat||^2 + coefficient sum_i ReLU(gate_i) + ||x - x_hat(ReLU(gate))||^2

The penalty is on the gate alone, so that sizes do not shrink; the last term, in which the decoder
is constant, keeps the gate honest. Decoder rows have norm 1 (`TrainConfig(unit_decoder=True)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..activations import JumpReLU, ReLU
from ..errors import ParameterError
from ..objectives import Context, Objective, SquaredError, _Addable
from ..sae import SAE, SAEOutput


class GatedSAE(SAE):
    """`pre_acts` are those of the gate; `r` and `b_mag` [d_sae] are the sizes' own parameters."""

    r: nn.Parameter
    b_mag: nn.Parameter

    def __init__(
        self, d_in: int, d_sae: int, *, seed: int = 0, select_by: Literal["rescaled", "raw"] = "raw"
    ) -> None:
        super().__init__(d_in, d_sae, ReLU(), seed=seed, decoder_norm=1.0, select_by=select_by)
        self.r = nn.Parameter(torch.zeros(d_sae))
        self.b_mag = nn.Parameter(torch.zeros(d_sae))

    def select(self, pre_acts: Tensor) -> tuple[Tensor, float | None]:
        """Refused: acts are not pre_acts times a support, which closed-form gradients rely on."""
        fix = "Train with srclib.methods.gated.objective(coefficient)."
        raise ParameterError(f"a GatedSAE has two paths and no support of one. {fix}")

    def activate(self, pre_acts: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, d_sae]; no gradient goes through the gate's step."""
        size = self.r.exp() * (pre_acts - self.b_enc) + self.b_mag
        return (pre_acts > 0) * torch.relu(size)

    @torch.no_grad()
    def folded(self) -> SAE:
        """The JumpReLU SAE that computes the same: its pre-activation is the size.

        gate > 0  where  size > b_mag - exp(r) b_enc =: theta, and never below 0.
        """
        made = SAE(self.d_in, self.d_sae, JumpReLU(), subtract_b_dec=self.subtract_b_dec)
        assert made.theta is not None
        scale = self.r.exp()
        made.W_enc.copy_(self.W_enc * scale)
        made.b_enc.copy_(self.b_mag)
        made.W_dec.copy_(self.W_dec)
        made.b_dec.copy_(self.b_dec)
        made.theta.copy_((self.b_mag - scale * self.b_enc).clamp(min=0))
        return made


@dataclass(frozen=True)
class GateSparsity(_Addable):
    """coefficient * mean_b sum_i ReLU(gate_i)."""

    coefficient: float
    name = "gate_l1"

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        return self.coefficient * torch.relu(out.pre_acts).sum(dim=1).mean()


@dataclass(frozen=True)
class GateError(_Addable):
    """mean_b ||x - ReLU(gate) W_dec - b_dec||^2, the decoder a constant."""

    name = "gate_mse"

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        x_hat = torch.relu(out.pre_acts) @ sae.W_dec.detach() + sae.b_dec.detach()
        return (x - x_hat).square().sum(dim=1).mean()


def objective(coefficient: float) -> Objective:
    """The three terms of the paper."""
    return SquaredError() + GateSparsity(coefficient) + GateError()
