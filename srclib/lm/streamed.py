"""Activations of a language model, computed when a batch asks for them, once for everyone.

For runs whose activations fit neither memory nor disk: 500 million tokens of Gemma-2-2B are 4.6 TB.

    blocks = Blocks(model, rows)
    sources = {layer: blocks.at(layer) for layer in (5, 12)}

`Blocks` computes some rows of text at a time, at all places in one pass, and remembers the newest.
All SAEs of a sweep read the same blocks in the same order, whatever their seed, layer or batch
size: a seed chooses the order of the tokens inside a block. So every token is forwarded once, as
long as the runs keep step, which `srclib.runs.memo` sees to.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import rng
from ..errors import CheckpointError, DataError, message
from ..sources import SEED_STRIDE
from ..sources.rows import evaluation_picks
from ..store import checkpoint, files
from .sites import hook_point

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .sites import Site

    Place = tuple[int, Site]
    Block = dict[Place, Tensor]


class Blocks:
    """The residual stream of `model` on rows of text, block by block, at the places asked for.

    rows: ids [n_rows, context]. Each epoch has an order of its own; `block_rows` consecutive rows
    of it are a block. held_out: rows at the end that belong to none. skip: positions at the start
    of every row that are left out, such as 1 for BOS. Activations stay on the model's device in
    its dtype.

    ahead: compute the next block while one is read, in a thread; by default on an accelerator.
    disk_bytes: keep so much of the first blocks in the store, where a second study or a resumed
    run finds them; a damaged one is computed again.

    Raises DataError when blocks and rows do not fit together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Tensor,
        *,
        block_rows: int = 256,
        held_out: int = 0,
        skip: int = 0,
        seed: int = 0,
        ahead: bool | None = None,
        disk_bytes: int = 0,
    ) -> None:
        n_train = len(rows) - held_out
        if rows.ndim != 2 or not 0 < block_rows <= n_train or held_out < 0:
            seen = f"rows {tuple(rows.shape)}, block_rows {block_rows}, held_out {held_out}"
            fix = "Lower block_rows, or give more rows."
            raise DataError(message("sizes", seen, "0 < block_rows <= n_rows - held_out", fix))
        if not 0 <= skip < rows.shape[1]:
            fix = "Keep at least one position of a row."
            raise DataError(message("skip", skip, f"0 <= skip < {rows.shape[1]}", fix))
        self.model, self.seed, self.skip = model, seed, skip
        self.places: list[Place] = []  # one pass serves all of them
        self.rows, self.held_out = rows[:n_train], rows[n_train:]
        self.block_rows, self.disk_bytes = block_rows, disk_bytes
        self.context = rows.shape[1] - skip
        self.n_tokens = block_rows * self.context  # in a block
        self.n_computed = 0  # blocks
        self._newest: dict[int, Block] = {}  # two: a batch may begin in one and end in the next
        self._next: tuple[int, Future[Block]] | None = None
        on_accelerator = model.device.type != "cpu"
        threaded = on_accelerator if ahead is None else ahead
        self._thread = ThreadPoolExecutor(1) if threaded else None
        self._shape = [*rows.shape, str(rows.dtype)]
        self._content = files.tensors_sha256([rows])
        self._hash: tuple[Any, str] = ((), "")

    @property
    def identity(self) -> dict[str, Any]:
        from .models import hash_of

        return {
            "config": hash_of(self.model.config),
            "model": self._weights(),
            "rows": [*self._shape, self._content],
            "held_out": len(self.held_out),
            "skip": self.skip,
            "block_rows": self.block_rows,
            "seed": self.seed,
        }

    def _weights(self) -> str:
        """Their hash, taken again when one of them has been written to."""
        tensors = self.model.state_dict().values()
        written = tuple((id(each), each._version) for each in tensors)
        if self._hash[0] != written:
            self._hash = written, files.tensors_sha256(tensors)
        return self._hash[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without weights and activations: a task carries a reference to the model."""
        from .models import reference

        state = self.__dict__ | {"_newest": {}, "_next": None, "n_computed": 0, "_hash": ((), "")}
        return state | {
            "model": reference(self.model, self._weights()),
            "_thread": self._thread is not None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        threaded = state.pop("_thread")
        self.__dict__.update(state)
        self.model = state["model"].load()
        self._thread = ThreadPoolExecutor(1) if threaded else None

    def at(self, layer: int, site: Site = "out") -> Streamed:
        """A source of what stands at one place. Ask for all of them before the first batch."""
        hook_point(self.model, layer, site)  # refuses what does not exist
        if (layer, site) not in self.places:
            self.places.append((layer, site))
            self._newest, self._next = {}, None
        return Streamed(self, (layer, site))

    def block(self, index: int) -> Block:
        """By place, [block_rows * context, d] in the order of the text."""
        if index not in self._newest:
            self._newest[index] = self._wanted(index)
            for old in list(self._newest)[:-2]:
                del self._newest[old]
            if self._thread is not None:
                self._next = index + 1, self._thread.submit(self._computed, index + 1)
        return self._newest[index]

    def activations(self, rows: Tensor) -> Block:
        """By place, [n_rows, context, d]."""
        from .harvest import stream

        return {at: acts[:, self.skip :] for at, acts in stream(self.model, rows, self.places)}

    def _wanted(self, index: int) -> Block:
        if self._next is not None and self._next[0] == index:
            return self._next[1].result()
        return self._computed(index)

    def _computed(self, index: int) -> Block:
        kept = (index + 1) * self.n_bytes <= self.disk_bytes
        return self._kept(index) if kept else self._forwarded(index)

    def _forwarded(self, index: int) -> Block:
        epoch, part = divmod(index, len(self.rows) // self.block_rows)
        draw = rng.stream(self.seed, "streamed", "epoch", epoch)
        order = torch.randperm(len(self.rows), generator=draw)
        mine = order[part * self.block_rows :][: self.block_rows]
        self.n_computed += 1
        return {at: acts.flatten(0, 1) for at, acts in self.activations(self.rows[mine]).items()}

    @property
    def n_bytes(self) -> int:
        """Of a block."""
        d = int(self.model.config.get_text_config().hidden_size)
        return self.n_tokens * d * self.model.dtype.itemsize * len(self.places)

    def _kept(self, index: int) -> Block:
        """From the store, or computed and stored."""
        key = files.sha256(files.canonical([self.identity, self.places]))
        folder = files.place(key) / f"block-{index:06d}"
        names = {at: f"{at[0]}.{at[1]}" for at in self.places}
        files.forget_once(folder)
        try:
            tensors, meta = checkpoint.read_tensors(folder, "block")
            if meta.get("place") != [key, index]:
                raise CheckpointError(f"{folder}: holds another block")
            return {at: tensors[name].to(self.model.device) for at, name in names.items()}
        except CheckpointError:  # none yet, or a damaged one
            shutil.rmtree(folder, ignore_errors=True)
        made = self._forwarded(index)
        files.make(folder.parent)
        with files.folder_atomic(folder) as new:
            tensors = {names[at]: acts.contiguous() for at, acts in made.items()}
            checkpoint.write_tensors(new, "block", tensors, {"place": [key, index]})
        return made


class Streamed:
    """One place of `blocks` as a source (`blocks.at`); rows never run out, further epochs follow.

    Negative steps serve the held-out rows, unshuffled.
    """

    def __init__(self, blocks: Blocks, place: Place) -> None:
        self.blocks, self.place = blocks, place
        self.d_in = int(blocks.model.config.get_text_config().hidden_size)
        self.n_samples = None
        self._order: dict[tuple[int, int], Tensor] = {}  # by (seed, block)

    @property
    def identity(self) -> dict[str, Any]:
        return {"source": "Streamed", **self.blocks.identity, "site": list(self.place)}

    def batch(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, d_in] float32 on the model's device; negative steps: on the CPU."""
        if step < 0:
            return self._evaluation(step, n_batch)
        seed, step = divmod(step, SEED_STRIDE)
        index, start = divmod(step * n_batch, self.blocks.n_tokens)
        found = list[Tensor]()
        while n_batch > 0:
            picks = self._picks(seed, index)[start : start + n_batch]
            found.append(self.blocks.block(index)[self.place][picks])
            n_batch -= len(picks)
            index, start = index + 1, 0
        return torch.cat(found).float()

    def _picks(self, seed: int, index: int) -> Tensor:
        """The order in which a seed reads a block; the newest is remembered per seed."""
        if (seed, index) not in self._order:
            draw = rng.stream(self.blocks.seed, "streamed", "block", index, seed)
            picks = torch.randperm(self.blocks.n_tokens, generator=draw)
            self._order = {at: each for at, each in self._order.items() if at[0] != seed}
            self._order[seed, index] = picks.to(self.blocks.model.device)
        return self._order[seed, index]

    def _evaluation(self, step: int, n_batch: int) -> Tensor:
        context = self.blocks.context
        tokens = evaluation_picks(step, n_batch, len(self.blocks.held_out) * context)
        rows = (tokens // context).unique()
        acts = self.blocks.activations(self.blocks.held_out[rows])[self.place].flatten(0, 1)
        picks = torch.searchsorted(rows, tokens // context) * context + tokens % context
        return acts.float().cpu()[picks]
