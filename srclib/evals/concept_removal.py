"""What SCR and TPP share: which latents carry a concept, and x without them.

Everything is linear in the latents, so pooled samples give the same as pooling afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .k_sparse import class_gap
from .probes import Probe, Samples

N_LATENTS = (2, 5, 10, 20, 50, 100, 500)  # SAEBench's grid


@torch.no_grad()
def write_gap(
    samples: Samples, labels: Tensor, probe: Probe, W_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """(mean_pos z - mean_neg z, w_probe . W_dec), both [d_sae] float64.

    Their product is what each latent adds to the difference of the probe's class means.
    """
    gap = class_gap(samples.acts.double(), labels)
    return gap, W_dec.double() @ probe.w


def strongest(effect: Tensor, n: int) -> Tensor:
    """Indices of the n largest effects [d_sae]; latents without any effect are never taken."""
    n_nonzero = int((effect != 0).sum())
    ranked = torch.where(effect != 0, effect, -torch.inf)
    return ranked.topk(min(n, n_nonzero)).indices


@torch.no_grad()
def ablated(samples: Samples, latents: Tensor, W_dec: Tensor) -> Tensor:
    """x without some latents, reconstruction error kept: [n, d_in].

    decode(z') + (x - decode(z)) with z' = 0 at `latents`, which is x - z[latents] W_dec[latents].
    """
    return samples.x - samples.acts[:, latents] @ W_dec[latents]
