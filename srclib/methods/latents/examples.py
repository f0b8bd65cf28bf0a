"""The texts that show what a latent stands for, collected from a stream of documents.

Two passes, as the code of Inaba et al. 2025 (arXiv:2503.06394v1) makes them: the largest
activation of each latent, then the first texts, in stored order, in which the latent is active
above 0.7 of it. That is a sample of the top of the range, not its extreme; `rule="top"` gives
the extreme. Memory is that of the result and of one batch, however many documents there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...activations import BatchTopK
from ...errors import DataError, ParameterError, message, whole
from ...sae import SAE

Rule = Literal["threshold", "top"]
Batches = Callable[[], Iterable[Tensor]]
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MAX_ENTRIES = 2**24  # of pre-activations at a time: 64 MiB, also at 32,768 latents


@dataclass(frozen=True)
class Examples:
    """Up to `n_texts` texts per latent, -1 and 0 behind the last of `count`.

    One token stands for each text: the first of those with the highest activation in it.
    """

    documents: Tensor  # [d_sae, n_texts] place in the stream; ascending, or strongest first
    positions: Tensor  # [d_sae, n_texts] place of that token in its text
    values: Tensor  # [d_sae, n_texts] its activation
    count: Tensor  # [d_sae]
    peak: Tensor  # [d_sae] largest pre-activation; a latent that is never active has no texts


@torch.no_grad()
def collect(
    sae: SAE,
    batches: Batches,
    *,
    rule: Rule = "threshold",
    share: float = 0.7,
    n_texts: int = 50,
) -> Examples:
    """Examples for every latent; `documents[f, : count[f]]` are those of latent f.

    batches: called once per pass; yields activations [n_docs, seq, d_in], documents in order.
    rule: "threshold": the first `n_texts` texts where the latent is active above `share` times
        its peak, which is taken before the activation function, as in the paper's code. "top":
        the `n_texts` texts with the highest activation.

    Raises ParameterError, and DataError when the stream is empty or is another in the second pass.
    """
    if rule not in ("threshold", "top"):
        raise ParameterError(message("rule", rule, '"threshold" or "top"', 'Use "threshold".'))
    if not 0 <= share < 1:
        raise ParameterError(message("share", share, "0 <= share < 1", "The paper's is 0.7."))
    if sae.training and isinstance(sae.activation, BatchTopK):
        fix = "Call sae.eval(): in training the batch decides which latents are active."
        raise ParameterError(message("sae", "in training mode", "in eval mode", fix))
    peak, n_documents = torch.full((sae.d_sae,), -torch.inf), 0
    for x in _pieces(sae, batches):
        peak = torch.maximum(peak, sae.pre_acts(x.flatten(0, 1)).amax(0).cpu())
        n_documents += len(x)
    if not n_documents:
        raise DataError(message("batches", "no document", "at least one", "Is it a generator?"))
    collector, n_again = Collector(sae.d_sae, n_texts, rule), 0
    lowest = peak.clamp(min=0) * (share if rule == "threshold" else 0)  # [d_sae]
    for x in _pieces(sae, batches):
        acts = sae.encode(x.flatten(0, 1)).cpu()
        token, latent = (acts > lowest).nonzero(as_tuple=True)
        document, position = token // x.shape[1], token % x.shape[1]
        collector.add(latent, n_again + document, position, acts[token, latent])
        n_again += len(x)
    if n_again != n_documents:
        fix = "Let batches() start anew at each call."
        raise DataError(message("documents, pass 2", n_again, f"{n_documents}", fix))
    return collector.result(peak)


class Entries(NamedTuple):
    """Active (latent, document, position, value) entries, all flat [n]."""

    latent: Ints
    document: Ints
    position: Ints
    value: Floats

    def at(self, chosen: NDArray[Any]) -> Entries:
        return Entries(*(each[chosen] for each in self))

    def one_per_text(self) -> Entries:
        """The first strongest entry of each latent in each document, by latent, then document."""
        e = self.at(np.lexsort((self.position, -self.value, self.document, self.latent)))
        first = np.ones(len(e.latent), bool)
        first[1:] = np.diff(e.latent).astype(bool) | np.diff(e.document).astype(bool)
        return e.at(first)

    def rank(self) -> Ints:
        """Place of each entry among those of its latent; entries are sorted by latent."""
        _, start, count = np.unique(self.latent, return_index=True, return_counts=True)
        return np.arange(len(self.latent)) - np.repeat(start, count)


class Collector:
    """Keeps up to `n_texts` texts for each of `d_sae` latents while entries stream by."""

    def __init__(self, d_sae: int, n_texts: int, rule: Rule = "threshold") -> None:
        self.rule, self.n_texts = rule, whole("n_texts", n_texts, 1)
        shape = (d_sae, n_texts)
        self._documents, self._positions = np.full((2, *shape), -1, np.int64)
        self._values = np.zeros(shape, np.float32)
        self._count = np.zeros(d_sae, np.int64)

    def add(self, latent: Tensor, document: Tensor, position: Tensor, value: Tensor) -> None:
        """Entries, flat [n], values positive. All entries of a document come in one call, and
        documents in order."""
        e = Entries(*(each.cpu().numpy() for each in (latent, document, position, value)))
        # What cannot be kept is left out before anything is sorted: most of a long stream.
        if self.rule == "threshold":
            e = e.at(self._count[e.latent] < self.n_texts).one_per_text()
        else:
            e = e.at(e.value > self._values[e.latent, -1]).one_per_text()
        if len(e.latent):
            self._append(e) if self.rule == "threshold" else self._merge(e)

    def _append(self, e: Entries) -> None:
        """The first texts of a latent: what comes behind those there are, while there is room."""
        place = self._count[e.latent] + e.rank()
        fits = place < self.n_texts
        e, place = e.at(fits), place[fits]
        self._documents[e.latent, place] = e.document
        self._positions[e.latent, place] = e.position
        self._values[e.latent, place] = e.value
        self._count += np.bincount(e.latent, minlength=len(self._count))

    def _merge(self, e: Entries) -> None:
        """The strongest texts of a latent among those there are and the new ones."""
        touched, row = np.unique(e.latent, return_inverse=True)
        place = self.n_texts + e.rank()
        values = np.zeros((len(touched), int(place.max()) + 1), np.float32)
        values[:, : self.n_texts], values[row, place] = self._values[touched], e.value
        best = np.argsort(-values, axis=1, kind="stable")[:, : self.n_texts]  # earlier texts win
        self._values[touched] = np.take_along_axis(values, best, 1)
        for kept, fresh in ((self._documents, e.document), (self._positions, e.position)):
            both = np.full(values.shape, -1, np.int64)
            both[:, : self.n_texts], both[row, place] = kept[touched], fresh
            kept[touched] = np.take_along_axis(both, best, 1)
        self._count[touched] = (self._documents[touched] >= 0).sum(1)

    def result(self, peak: Tensor) -> Examples:
        """What was kept; peak [d_sae]."""
        documents, positions = map(torch.from_numpy, (self._documents, self._positions))
        values, count = map(torch.from_numpy, (self._values, self._count))
        return Examples(documents, positions, values, count, peak)


def _pieces(sae: SAE, batches: Batches) -> Iterator[Tensor]:
    """The stream in pieces of whole documents whose pre-activations are at most MAX_ENTRIES."""
    for x in batches():
        if x.ndim != 3 or x.shape[-1] != sae.d_in:
            allowed = f"[n_docs, seq, d_in={sae.d_in}]"
            fix = "Keep texts apart: do not flatten them."
            raise DataError(message("batch.shape", tuple(x.shape), allowed, fix))
        yield from x.split(max(1, MAX_ENTRIES // (x.shape[1] * sae.d_sae)))


@torch.no_grad()
def heat(sae: SAE, x: Tensor, latent: int) -> Tensor:
    """Activation of one latent over texts, 0 to 10: [n_docs, seq] int64 from x [n_docs, seq, d_in].

    ceil(10 a / max a) over these texts, before the selection of the k largest, negative ones as 0
    (the shading of the paper's figures 3 and 6).
    """
    pre = sae.centred(x) @ sae.W_enc[:, latent] + sae.b_enc[latent]  # [n_docs, seq]
    pre = pre.clamp(min=0)
    highest = float(pre.max())
    if highest <= 0:
        return torch.zeros_like(pre).long()
    return (10 * pre / highest).ceil().clamp(max=10).long()  # rounding makes the highest 10.000001
