"""Where an SAE starts when it does not start at random."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ParameterError
from .sae import SAE


@torch.no_grad()
def start_from(sae: SAE, W_dec: Tensor) -> SAE:
    """Set the decoder to `W_dec` [d_sae, d_in], the encoder to its transpose, biases to 0.

    In place; returns the SAE. Raises ParameterError when the widths differ.
    """
    if W_dec.shape != sae.W_dec.shape:
        raise ParameterError(
            f"W_dec has shape {tuple(W_dec.shape)}, the SAE needs {tuple(sae.W_dec.shape)}: "
            f"one row per latent. Make the SAE with d_in={W_dec.shape[1]}, d_sae={len(W_dec)}."
        )
    sae.W_dec.copy_(W_dec)
    sae.W_enc.copy_(W_dec.T)
    sae.b_enc.zero_()
    sae.b_dec.zero_()
    return sae
