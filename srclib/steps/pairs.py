"""Where the products of a step are computed: on whole tables, or at some pairs (input, latent).

`Everywhere` is the readable definition and what toys use; `Pairs` gives the same up to rounding.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from ..compute.fast import IN_CACHE


class Everywhere:
    """The dense way: what a step needs of acts as full tables [batch, d_sae]."""

    def of(self, table: Tensor) -> Tensor:
        return table

    def spread(self, vector: Tensor) -> Tensor:
        """One number per latent, where it meets a table of values."""
        return vector

    def sum(self, values: Tensor) -> Tensor:
        """Over the batch: [d_sae]."""
        return values.sum(dim=0)

    def decode(self, acts: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
        return torch.addmm(b_dec, acts, W_dec)

    def products(self, rows: Tensor, W: Tensor) -> Tensor:
        """rows_b . W_i: rows [batch, d], W [d_sae, d]."""
        return rows @ W.T

    def to_latents(self, values: Tensor, rows: Tensor, out: Tensor) -> None:
        """out_i = sum_b values_bi rows_b: [d_sae, d]."""
        torch.mm(values.T, rows, out=out)

    def also(self, rows: Any, more: Tensor, values: Tensor) -> Everywhere:
        """Where `more` [batch, n_rows] of some latents counts besides; values are added to."""
        values[:, rows] += more
        return self

    def acts(self, values: Tensor) -> Tensor | Acts:
        return values


class Pairs(Everywhere):
    """The same at the price of some pairs (input, latent) alone: values are [n_pairs].

    Sums run in another order, so results agree to rounding. places: of the pairs in a table
    [batch, d_sae], ascending.
    """

    def __init__(self, places: np.ndarray, n_batch: int, d_sae: int) -> None:
        _know_sparse_tables()
        self.shape = n_batch, d_sae
        starts = np.searchsorted(places, np.arange(n_batch + 1) * d_sae).astype(np.int32)
        latents = (places % d_sae).astype(np.int32)
        order = np.arange(len(places), dtype=np.int32)
        by_latent = csr_matrix((order, latents, starts), shape=self.shape).tocsc()
        self.places = torch.from_numpy(places)
        self.latents, self.starts = torch.from_numpy(latents), torch.from_numpy(starts)
        self.order, self.inputs = map(torch.from_numpy, (by_latent.data, by_latent.indices))
        self.ends = torch.from_numpy(by_latent.indptr)  # [d_sae + 1] in that order

    def of(self, table: Tensor) -> Tensor:
        return table.view(-1).index_select(0, self.places)

    def spread(self, vector: Tensor) -> Tensor:
        return vector.index_select(0, self.latents)

    def sum(self, values: Tensor) -> Tensor:
        total = np.bincount(self.latents.numpy(), values.numpy(), self.shape[1])  # in float64
        return torch.from_numpy(total).to(values.dtype)

    def decode(self, acts: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
        return _bags(self.latents, W_dec, self.starts, acts).add_(b_dec)

    def products(self, rows: Tensor, W: Tensor) -> Tensor:
        zeros = torch.zeros(len(self.latents), dtype=rows.dtype)
        pairs = torch.sparse_csr_tensor(
            self.starts, self.latents, zeros, self.shape, check_invariants=False
        )
        return torch.sparse.sampled_addmm(pairs, rows, W.T, beta=0.0).values()

    def to_latents(self, values: Tensor, rows: Tensor, out: Tensor) -> None:
        values = values.index_select(0, self.order)
        step = max(1, IN_CACHE // rows.shape[1])  # `_bags` makes a new table: a small one
        for first in range(0, len(out), step):
            ends = self.ends[first : first + step + 1]
            own = slice(int(ends[0]), int(ends[-1]))
            made = _bags(self.inputs[own], rows, ends - ends[0], values[own])
            out[first : first + step] = made

    def also(self, rows: Any, more: Tensor, values: Tensor) -> Everywhere:
        return PairsAndColumns(self, rows, more)

    def acts(self, values: Tensor) -> Acts:
        return Acts(self, values)


class PairsAndColumns(Everywhere):
    """Pairs, and whole columns of some latents besides: AuxK's dead ones. Values are the pairs'."""

    def __init__(self, pairs: Pairs, rows: Tensor, columns: Tensor) -> None:
        self.pairs, self.rows, self.columns = pairs, rows, columns

    def sum(self, values: Tensor) -> Tensor:
        return self.pairs.sum(values).index_add_(0, self.rows, self.columns.sum(dim=0))

    def to_latents(self, values: Tensor, rows: Tensor, out: Tensor) -> None:
        self.pairs.to_latents(values, rows, out)
        out[self.rows] += self.columns.T @ rows

    def acts(self, values: Tensor) -> Acts:
        return Acts(self.pairs, values)


class Acts:
    """Acts that are zero outside of some pairs; what a trainer or a control asks of them."""

    def __init__(self, pairs: Pairs, values: Tensor) -> None:
        self.pairs, self.values = pairs, values  # values: [n_pairs]

    def __len__(self) -> int:
        """Inputs of the batch."""
        return self.pairs.shape[0]

    def firings(self) -> Tensor:
        """In how many inputs each latent is active: [d_sae]."""
        return self.pairs.sum(self.values.sign().abs_())

    def largest(self) -> Tensor:
        """Of each latent, 0 where it is silent: [d_sae]."""
        top = self.values.new_zeros(self.pairs.shape[1])
        return top.scatter_reduce_(0, self.pairs.latents.long(), self.values, "amax")

    def dense(self) -> Tensor:
        """[batch, d_sae]."""
        table = self.values.new_zeros(self.pairs.shape)
        table.view(-1)[self.pairs.places] = self.values
        return table


def _bags(places: Tensor, W: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """Row r is the sum of weights_j W[places_j] for j from starts_r to starts_(r+1)."""
    # contiguous: embedding_bag has ignored strides before (pytorch 43723)
    return F.embedding_bag(
        places,
        W.contiguous(),
        starts,
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )


@functools.cache
def _know_sparse_tables() -> None:
    """torch warns once per process that its sparse CSR tables are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        empty: Any = torch.zeros(1, dtype=torch.int32)
        torch.sparse_csr_tensor(empty, empty[:0], torch.zeros(0), (0, 1), check_invariants=False)
