"""Documents of any length as rows of one length, for training a language model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, ParameterError, message


def pack(tokens: Iterable[Sequence[int]], context: int) -> Tensor:
    """int64 [n_rows, context]: the documents one after another, cut every `context` tokens.

    A document that starts with BOS keeps it, so BOS stands between documents; what does not fill
    the last row is dropped. Raises DataError when the documents do not fill one row.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise ParameterError(message("context", context, "an integer >= 1", "128 is usual."))
    documents = [np.asarray(document, dtype=np.int64) for document in tokens]
    stream = np.concatenate([np.empty(0, np.int64), *documents])
    n_rows = len(stream) // context
    if n_rows < 1:
        fix = "Give more documents, or lower context."
        raise DataError(message("tokens in all documents", len(stream), f">= {context}", fix))
    return torch.from_numpy(stream[: n_rows * context].reshape(n_rows, context))
