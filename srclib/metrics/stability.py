"""Do two runs learn the same latents?  (Paulo & Belrose, arXiv:2501.16615)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .. import rng
from ..errors import DataError, message
from .dictionary import match_to_features, unit_rows


class Stability(NamedTuple):
    """Latents of run a matched to those of run b, once by encoder and once by decoder.

    One entry per latent of a; without a partner (b has fewer latents) match -1, cosine 0.
    """

    equal: Tensor  # bool, both matchings name the same latent of b
    cos_enc: Tensor  # cosine of the encoder columns matched by encoder
    cos_dec: Tensor  # cosine of the decoder rows matched by decoder
    match_enc: Tensor  # index into b of the encoder match
    match_dec: Tensor  # index into b of the decoder match

    def shared(self, tau: float, weight: Tensor | None = None) -> float:
        """Share of latents with equal matches and both cosines > tau; Paulo & Belrose: tau = 0.7.

        weight: [d_sae] >= 0 of each latent of a in the mean, such as `alive_in_both` or firing
        rates. NaN where all weights are zero.
        """
        same = self.common(tau).double()
        if weight is None:
            return float(same.mean())
        weight = weight.detach().cpu().double()
        total = float(weight.sum())
        return float(same @ weight) / total if total > 0 else math.nan

    def common(self, tau: float) -> Tensor:
        """[d_sae] bool, which latents `shared` counts."""
        return self.equal & (self.cos_enc > tau) & (self.cos_dec > tau)

    def alive_in_both(self, alive_a: Tensor, alive_b: Tensor) -> Tensor:
        """[d_sae] bool: alive in a, and the decoder match is alive in b.

        Dead latents keep their start, so runs that share it agree on them for nothing.
        """
        partner = alive_b.bool().cpu()[self.match_dec.clamp(min=0)]
        return alive_a.bool().cpu() & partner & (self.match_dec >= 0)


@torch.no_grad()
def stability(W_enc_a: Tensor, W_dec_a: Tensor, W_enc_b: Tensor, W_dec_b: Tensor) -> Stability:
    """Compare two SAEs latent by latent. W_enc: [d_in, d_sae], W_dec: [d_sae, d_in].

        pi    = argmax sum_i cos(W_enc_a[:, i], W_enc_b[:, pi(i)])
        sigma = argmax sum_i cos(W_dec_a[i], W_dec_b[sigma(i)])      equal = (pi == sigma)

    Two assignments, each the best on its own; signed cosines, 0 for zero rows. The runs may
    differ in d_sae, for example when each is cut down to its latents that are alive. Among exact
    copies of a latent the partner is arbitrary. Memory: d_sae^2 float64, twice.
    Raises DataError when shapes do not fit together or weights are not finite.
    """
    d_in = W_dec_a.shape[1]
    for run, W_enc, W_dec in (("a", W_enc_a, W_dec_a), ("b", W_enc_b, W_dec_b)):
        if W_enc.shape != (d_in, len(W_dec)) or W_dec.shape[1] != d_in:
            seen, fix = (tuple(W_enc.shape), tuple(W_dec.shape)), "Compare SAEs of one hook point."
            allowed = f"[d_in, d_sae] and [d_sae, d_in] with d_in = {d_in}"
            raise DataError(message(f"shapes of W_enc_{run}, W_dec_{run}", seen, allowed, fix))
        if not bool(W_enc.isfinite().all() & W_dec.isfinite().all()):
            fix = "The run diverged: lower its learning rate."
            raise DataError(message(f"weights of run {run}", "nan or inf", "finite numbers", fix))
    match_enc, cos_enc = _assign(W_enc_a.T, W_enc_b.T)
    match_dec, cos_dec = _assign(W_dec_a, W_dec_b)
    equal = (match_enc == match_dec) & (match_enc >= 0)
    return Stability(equal, cos_enc, cos_dec, match_enc, match_dec)


def _assign(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Best partner in b of each row of a [n], -1 without one, and their cosines [n]."""
    unit_a, unit_b = unit_rows(a), unit_rows(b)
    # Matched in float32, which takes half the time; the cosines reported are float64.
    rows, columns = linear_sum_assignment((unit_a @ unit_b.T).cpu().double(), maximize=True)
    partner = torch.full((len(a),), -1)
    cosine = torch.zeros(len(a), dtype=torch.float64)
    partner[rows] = torch.from_numpy(columns)
    pairs = unit_rows(a.double())[rows] * unit_rows(b.double())[columns]
    cosine[rows] = pairs.sum(dim=1).cpu()
    return partner, cosine


def noise_floor(d_sae: int, d_in: int, seed: int = 0) -> float:
    """Mean matched cosine of two independent Gaussian dictionaries [d_sae, d_in].

    What `stability` finds where there is nothing: 0.355 for 512 x 64, less in wider spaces.
    """
    a, b = (rng.normals(seed, "noise_floor", run, shape=(d_sae, d_in)) for run in "ab")
    return match_to_features(a, b).mcc
