"""The language model whose activations SAEs read, with the text that it reads.

    subject = named(name, corpus, **sizes) or own(world, config, n_documents, **sizes)

Both have one face. What only a model of our own knows (a world, the same model from other seeds)
is empty for a named one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..compute.place import place
from ..errors import DataError, message
from ..sources.held_out import HeldOut
from ..sources.rows import Rows, Scaled
from ..store import files
from ..worlds.engine import BOS
from ..worlds.text import TextWorld, predicates
from .corpora import read
from .harvest import harvest
from .hub import load_tokenizer
from .models import LMConfig, described, load_model
from .packing import packed
from .streamed import Blocks
from .train import train_lm

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

N_SCALE, BLOCK = 200, 256  # rows: enough to tell the scale of a large corpus; harvested together
_BLOCKS: WeakValueDictionary[str, Blocks] = WeakValueDictionary()  # so that layers share a pass


class Documents(NamedTuple):
    """Documents of the world and what the model makes of them, BOS left out."""

    docs: Dataset
    """with the truth, see `TextWorld.documents`"""
    tokens: Tensor
    """[n, context] ids, 0 behind the end"""
    x: Tensor
    """[n, context, d_in] activations in units of the SAEs"""
    mask: Tensor
    """[n, context] bool, which of them count"""


@dataclass(frozen=True, eq=False)
class Subject:
    """A language model at a hook point, the output of block `layer`, and its activations."""

    model: PreTrainedModel = field(repr=False)
    layer: int
    ids: Tensor = field(repr=False)
    """[n, context] rows of text for training"""
    test_ids: Tensor = field(repr=False)
    """[n, context] rows held out"""
    source: HeldOut = field(repr=False)
    """activations on the first rows of both, scaled so that E|x|^2 = 1"""
    scale: Tensor = field(repr=False)
    """what raw activations are divided by"""
    decode: Callable[[Tensor], str] = field(repr=False)
    """ids as text"""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """of a named model: itself, its corpus and the tokens at hand, for the ledger"""
    world: TextWorld | None = None
    config: LMConfig | None = None
    sizes: tuple[int, int] = (0, 0)
    """rows of `ids` and of `test_ids` whose activations are in `source`"""

    @property
    def d_in(self) -> int:
        return self.source.d_in

    def siblings(self, ahead: Sequence[int]) -> dict[int, Subject]:
        """{seed: subject}: this one and those whose seeds are larger by each of `ahead`.

        They differ in initial weights and order of the text. Empty where there is no other.
        """
        if self.world is None or self.config is None or not ahead:
            return {}
        texts = self.ids, self.test_ids, self.layer, *self.sizes
        others = [replace(self.config, seed=self.config.seed + each) for each in ahead]
        found = {config.seed: _trained(self.world, config, *texts) for config in others}
        return {self.config.seed: self} | found

    def documents(self, n: int, split: str, **given: Any) -> Documents:
        """`n` documents of the world, see `TextWorld.documents`. Raises DataError without one."""
        if self.world is None:
            fix = "Take a model of our own."
            raise DataError(message("world", None, "a world whose truth is known", fix))
        docs, context = self.world.documents(n, split, **given), self.test_ids.shape[1]
        cut = [torch.tensor(row[:context]) for row in docs["tokens"]]
        acts, mask = harvest(self.model, cut, self.layer, bos="drop", bos_id=BOS)
        x = torch.zeros(n, context, self.d_in)
        x[:, : acts.shape[1]] = acts / self.scale
        tokens = torch.stack([pad(row, (0, context - len(row))) for row in cut])
        return Documents(docs, tokens, x, pad(mask, (0, context - mask.shape[1])))

    def told(self, n: int, split: str) -> tuple[Tensor, Tensor]:
        """Tokens of `n` documents and what is true of them.

        x [n_tokens, d_in], and [n_tokens, n_predicates] bool (see `worlds.text.predicates`). No
        token and no predicate where the text does not carry its truth.
        """
        if self.world is None:
            return torch.zeros(0, self.d_in), torch.zeros(0, 0, dtype=torch.bool)
        docs, _, x, mask = self.documents(n, split)
        return x[mask], predicates(self.world, docs, x.shape[1])[1][mask]


def own(
    world: TextWorld, config: LMConfig, n_documents: int, layer: int, n_rows: int, n_test_rows: int
) -> Subject:
    """A small model trained on `n_documents` of a world, or what an equal call stored."""
    n_test = max(40, n_documents // 10)
    ids, test_ids = (
        world.pack(world.documents(n, split), config.context)
        for split, n in (("train", n_documents), ("test", n_test))
    )
    return _trained(world, config, ids, test_ids, layer, n_rows, n_test_rows)


def named(
    name: str, corpus: str, context: int, layer: int, n_rows: int, n_test_rows: int
) -> Subject | None:
    """A stored Gemma-2 or its like, or None for no name; nothing is downloaded.

    corpus: what `corpora.read` takes, a tenth of whose documents is held out; empty: the prose of
    this Python. Activations are computed when training asks for them.
    """
    if not name:
        return None
    from ..worlds.python_docs import prose

    model = load_model(name, dtype=place().dtype)  # says how to fetch what is not there
    texts = read(corpus) if corpus else prose()
    tokenizer = load_tokenizer(name)

    ids = packed(texts, tokenizer, context, n_rows)
    test_ids = packed(texts, tokenizer, context, n_test_rows, held_out=True)
    scale = _size(_activations(model, ids[:N_SCALE], layer))
    blocks = Blocks(model, ids, block_rows=min(BLOCK, len(ids)))
    blocks = _BLOCKS.setdefault(files.canonical(blocks.identity), blocks)
    test = _activations(model, test_ids, layer) / scale
    source = HeldOut(Scaled(blocks.at(layer), 1 / scale.item()), test)
    evidence = {"lm": described(model.config), "corpus": corpus, "available": ids.numel()}
    return Subject(blocks.model, layer, ids, test_ids, source, scale, tokenizer.decode, evidence)


def _trained(
    world: TextWorld,
    config: LMConfig,
    ids: Tensor,
    test_ids: Tensor,
    layer: int,
    n_rows: int,
    n_test_rows: int,
) -> Subject:
    model = train_lm(config, ids)
    x, test = (_activations(model, rows, layer) for rows in (ids[:n_rows], test_ids[:n_test_rows]))
    scale = _size(x)
    source = HeldOut(Rows(x / scale), test / scale)

    def decode(row: Tensor) -> str:
        return " ".join(world.words[i] for i in row.tolist())

    subject = Subject(model, layer, ids, test_ids, source, scale, decode)
    return replace(subject, world=world, config=config, sizes=(n_rows, n_test_rows))


def _activations(model: PreTrainedModel, rows: Tensor, layer: int) -> Tensor:
    """[n_tokens, d_in], BOS kept."""
    acts, mask = harvest(model, rows, layer)
    return acts[mask]


def _size(x: Tensor) -> Tensor:
    """Root mean square norm of rows; in float64, since the order of a sum depends on threads."""
    return x.double().square().sum(dim=1).mean().sqrt().to(x.dtype)
