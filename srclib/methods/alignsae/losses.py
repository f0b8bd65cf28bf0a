"""How far the reserved latents of an SAE (slots) and its other (free) latents move together.

Terms of AlignSAE (arXiv 2512.02004, section 3; names and weights in its appendix). With Z the
activations of a batch, centred by its mean, and S the columns of the slots, F those that are free:

    orthogonality    || Z_S^T Z_F / B ||_F^2                       K x F numbers
    independence     sum over i != j of (Z_F^T Z_F / B)_ij^2       F x F numbers, never built

All gradients reach both sides. Empty scopes give 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import DataError, message


def cross_covariance(slots: Tensor, free: Tensor) -> Tensor:
    """Sum of the squared covariances of every slot with every free latent: a scalar.

    slots [batch, K], free [batch, F], in the units of activation squared, to the square. Division
    is by the batch size. Not divided by the number of pairs: it grows with F. Raises DataError
    when the batches differ or hold nothing.
    """
    _check(slots, free)
    # Centring one side is enough, and this is the small one: sum_b (s_b - mean) * constant = 0.
    covariance = _centred(slots).T @ free / len(slots)  # [K, F]
    return covariance.square().sum()


def cross_correlation(slots: Tensor, free: Tensor) -> Tensor:
    """Sum of the squared correlations of every slot with every free latent: between 0 and K * F.

    Paper: the squared norm of corr(z_concept, z_rest); its code and `cross_covariance` leave out
    the standard deviations. A latent that does not vary in the batch (its variance is below the
    rounding error of its mean square) correlates with nothing and gets no gradient. Shapes and
    errors as for `cross_covariance`.
    """
    _check(slots, free)
    correlation = _standard(slots).T @ _standard(free) / len(slots)  # [K, F]
    return correlation.square().sum()


def independence(free: Tensor) -> Tensor:
    """Sum of the squared covariances of all ordered pairs of different latents: a scalar.

    free [batch, F]. Exact, with batch x batch numbers where the definition asks for F x F, since
    ||Z^T Z||_F = ||Z Z^T||_F:

        || Z Z^T / B ||_F^2 - sum_i var_i^2

    At batch 64 and 100,000 latents that is 16 KB instead of 40 GB, and one product of
    batch^2 F multiply-adds. Rounding can leave a sum that should be 0 slightly below it. Division
    is by the batch size. Raises DataError for an empty batch.
    """
    _check(free, free)
    return _Independence.apply(free)


class _Independence(torch.autograd.Function):
    """The gradient in closed form, 4/B (G Z - Z diag(var)) with the Gram matrix G = Z Z^T / B.

    Columns of G Z and of Z have mean 0, so centring needs no step of its own; autograd would take
    a second product and half as long again.
    """

    @staticmethod
    def forward(ctx: Any, free: Tensor) -> Tensor:
        z = _centred(free)  # [batch, F]
        gram = z @ z.T / len(z)  # [batch, batch]
        variance = z.square().mean(dim=0)  # [F]
        ctx.save_for_backward(z, gram, variance)
        return gram.square().sum() - variance.square().sum()

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> Tensor:
        z, gram, variance = ctx.saved_tensors
        return (gram @ z).addcmul_(z, variance, value=-1).mul_(4 * slope[0] / len(z))


def _centred(z: Tensor) -> Tensor:
    return z - z.mean(dim=0)


def _standard(z: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; those that do not vary are 0, with gradient 0."""
    centred = _centred(z)
    variance = centred.square().mean(dim=0)
    varies = variance > torch.finfo(z.dtype).eps * z.detach().square().mean(dim=0)
    # inside the root as well: a gradient of infinity times 0 is NaN
    return centred * torch.where(varies, torch.where(varies, variance, 1.0).rsqrt(), 0.0)


def _check(slots: Tensor, free: Tensor) -> None:
    if slots.ndim != 2 or free.ndim != 2 or len(slots) != len(free) or len(slots) == 0:
        seen = (tuple(slots.shape), tuple(free.shape))
        fix = "Take both from the same batch."
        raise DataError(message("shapes of slots and free", seen, "[batch, K], [batch, F]", fix))
