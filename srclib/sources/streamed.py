"""Activations of a language model, computed when a batch asks for them.

For runs whose activations fit neither memory nor disk: 500 million tokens of Gemma-2-2B are 4.6 TB.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import files, rng
from ..errors import DataError, message
from .rows import evaluation_picks, in_turn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..lm.sites import Site


class Streamed:
    """Serves the residual stream at a site of `model` on rows of text, shuffled in blocks.

    rows: ids [n_rows, context]. Each epoch reads them in an order of its own; `block_rows`
    consecutive ones are computed together and their tokens shuffled, so one batch holds tokens of
    many texts. `batch` is a pure function of the step like any source's; the newest block is
    remembered, which changes speed only. Rows never run out: further epochs follow.
    held_out: rows at the end that training never reads; negative steps serve them, unshuffled.
    skip: positions at the start of every row that are not served, such as 1 for BOS.

    Raises DataError when blocks and rows do not fit together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Tensor,
        layer: int,
        site: Site = "out",
        *,
        block_rows: int = 256,
        held_out: int = 0,
        skip: int = 0,
        seed: int = 0,
    ) -> None:
        n_train = len(rows) - held_out
        if rows.ndim != 2 or not 0 < block_rows <= n_train or held_out < 0:
            seen = f"rows {tuple(rows.shape)}, block_rows {block_rows}, held_out {held_out}"
            fix = "Lower block_rows, or give more rows."
            raise DataError(message("sizes", seen, "0 < block_rows <= n_rows - held_out", fix))
        if not 0 <= skip < rows.shape[1]:
            fix = "Keep at least one position of a row."
            raise DataError(message("skip", skip, f"0 <= skip < {rows.shape[1]}", fix))
        self.model, self.layer, self.site, self.seed = model, layer, site, seed
        self.skip = skip
        self.rows, self.held_out = rows[:n_train], rows[n_train:]
        self.block_rows = block_rows
        self.d_in = int(model.config.get_text_config().hidden_size)
        self.n_samples = None
        self._block: tuple[int, Tensor] = (-1, torch.empty(0))
        self._shape = [*rows.shape, str(rows.dtype)]
        self._content = files.tensors_sha256([rows])

    @property
    def identity(self) -> dict[str, Any]:
        config = self.model.config.to_diff_dict()  # what weights do not tell: heads, rope, norms
        return {
            "source": "Streamed",
            "config": files.sha256(repr(sorted(config.items(), key=str))),
            "model": files.tensors_sha256(self.model.state_dict().values()),
            "rows": [*self._shape, self._content],
            "held_out": len(self.held_out),
            "site": [self.layer, self.site],
            "skip": self.skip,
            "block_rows": self.block_rows,
            "seed": self.seed,
        }

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in] float32; negative steps read the held-out rows."""
        context = self.rows.shape[1] - self.skip
        if step >= 0:
            return in_turn(step, n_batch, self.block_rows * context, self._tokens)
        tokens = evaluation_picks(step, n_batch, len(self.held_out) * context)
        rows = (tokens // context).unique()
        acts = self._activations(self.held_out[rows]).flatten(0, 1)
        return acts[torch.searchsorted(rows, tokens // context) * context + tokens % context]

    def _tokens(self, block: int) -> Tensor:
        """The shuffled tokens of one block, [block_rows * context, d_in]."""
        if self._block[0] != block:
            per_epoch = len(self.rows) // self.block_rows
            epoch, index = divmod(block, per_epoch)
            order = torch.randperm(
                len(self.rows), generator=rng.stream(self.seed, "streamed", "epoch", epoch)
            )
            mine = order[index * self.block_rows :][: self.block_rows]
            acts = self._activations(self.rows[mine]).flatten(0, 1)
            mixing = rng.stream(self.seed, "streamed", "block", block)
            self._block = block, acts[torch.randperm(len(acts), generator=mixing)]
        return self._block[1]

    def _activations(self, rows: Tensor) -> Tensor:
        from ..lm.harvest import harvest  # transformers, only where a model is at hand

        acts, _ = harvest(self.model, rows, self.layer, self.site, max_bytes=sys.maxsize)
        return acts[:, self.skip :]
