"""How well a language model predicts, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .sites import measuring

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def token_losses(model: PreTrainedModel, tokens: Tensor, batch_tokens: int = 2048) -> Tensor:
    """Cross entropy of each next token in nats, [n_rows, seq - 1] float32 on the CPU.

    tokens: ids [n_rows, seq] without padding; column i of the result is the loss of token i + 1.
    batch_tokens: positions per forward pass, of which a large vocabulary takes much memory.
    Inside `sites.edited` it is the loss of the edited model. No dropout, no gradients.
    """
    losses = []
    with measuring(model):
        for ids in tokens.split(max(1, batch_tokens // tokens.shape[1])):
            ids = ids.to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # [batch, seq - 1, vocab]
            loss = F.cross_entropy(
                logits.float().flatten(0, 1), ids[:, 1:].flatten().long(), reduction="none"
            )
            losses.append(loss.view(len(ids), -1).cpu())
    return torch.cat(losses)
