"""What a study would cost, counted instead of computed: `srclib run STUDY --estimate`.

The notebook's cells run as they are, in a store that is thrown away. Of every training twenty
steps at its beginning are made and twenty at its end, where an objective or a schedule may be
another, timed once for each kind (sizes, activation, objective, batch); it is charged in full; a
pass of a language model that takes long is made once for each shape. So a cost that is shown is one
that was measured here, on the device that the study would take, times a count.
FLOP are those of matrix products, forward and backward, as torch counts them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ..store import files

T = TypeVar("T")
WARM_UP, STEPS = 3, 20  # steps before the clock starts, and steps that it times
SLOW = 0.5  # seconds: a forward pass that takes longer is made once


class Charge(NamedTuple):
    """A training in full. tokens: inputs of all steps. n_bytes: of the worker that trains."""

    what: str
    tokens: int
    flop: float
    seconds: float
    n_bytes: int
    kept: int  # bytes in the store


class Rate(NamedTuple):
    """Of one training step, or of one token through a language model."""

    flop: float
    seconds: float


NOTHING = Rate(0.0, 0.0)


@dataclass
class Counted:
    """What was met on the way through a notebook."""

    groups: list[tuple[int, list[Charge]]] = field(default_factory=lambda: [(1, [])])
    stored: set[str] = field(default_factory=set)  # keys
    harvests: dict[int, tuple[Any, int]] = field(default_factory=dict)  # blocks, tokens read
    passes: list[tuple[int, Rate]] = field(default_factory=list)  # tokens, rate: measuring
    steps: dict[Any, Rate] = field(default_factory=dict)  # by kind
    known: dict[Any, tuple[Rate, Any, Any]] = field(default_factory=dict)  # forward passes
    models: dict[int, Rate] = field(default_factory=dict)
    tried: float = 0.0  # seconds in timed steps
    training: bool = False
    waited: Rate = NOTHING  # for a language model, in steps that are tried

    @property
    def charges(self) -> list[Charge]:
        return [each for _, charges in self.groups for each in charges]

    def try_out(self, kind: Any, begin: int, n_steps: int, charge: Charge) -> Iterator[int]:
        began, self.training = time.perf_counter(), True
        n = min(n_steps - begin, WARM_UP + STEPS)
        if kind not in self.steps and n > 0:
            early = late = yield from self._timed(range(begin, begin + n))
            last = n_steps - 1  # that one also evaluates and saves
            if last - n >= begin + n:
                late = yield from self._timed(range(last - n, last))
            self.steps[kind] = Rate(*((a + b) / 2 for a, b in zip(early, late, strict=True)))
        rate, left = self.steps.get(kind, NOTHING), n_steps - begin
        charge = charge._replace(flop=rate.flop * left, seconds=rate.seconds * left)
        self.groups[-1][1].append(charge)
        self.tried, self.training = self.tried + time.perf_counter() - began, False

    def _timed(self, steps: range) -> Generator[int, None, Rate]:
        warm, flop = min(WARM_UP, len(steps) - 1), 0.0
        for i, step in enumerate(steps):
            if i == warm:
                self.waited, clock = NOTHING, _clock()
            if i:
                yield step
                continue
            self.waited = NOTHING
            with _counting() as counter:
                yield step
            flop = counter.get_total_flops() - self.waited.flop
        return Rate(flop, (_clock() - clock - self.waited.seconds) / (len(steps) - warm))


COUNTED: Counted | None = None  # while something is estimated


@contextlib.contextmanager
def counting() -> Iterator[Counted]:
    """Inside, nothing is trained to its end."""
    global COUNTED
    COUNTED = made = Counted()
    try:
        yield made
    finally:
        COUNTED = None


def steps(
    what: str, kind: Any, begin: int, n_steps: int, n_batch: int, n_bytes: int, kept: int
) -> Iterable[int]:
    """`range(begin, n_steps)`; where costs are only estimated, the first few, timed, or none.

    kind: trainings of equal kinds take equally long per step. n_batch: tokens per step.
    """
    if COUNTED is None:
        return range(begin, n_steps)
    tokens = n_batch * (n_steps - begin)
    charge = Charge(what, tokens, 0.0, 0.0, n_bytes, kept)
    return COUNTED.try_out((what, kind, n_batch), begin, n_steps, charge)


def reads(source: Any, n_tokens: int) -> int:
    """A training reads so many activations from this source, from the first block on.

    Bytes of the language model and its newest blocks, beside those of the training.
    """
    n_bytes = 0
    while COUNTED is not None and source is not None:
        if (blocks := getattr(source, "blocks", None)) is not None:
            _, before = COUNTED.harvests.get(id(blocks), (blocks, 0))
            COUNTED.harvests[id(blocks)] = blocks, max(before, n_tokens)
            n_bytes = sum(p.nbytes for p in blocks.model.parameters()) + 3 * blocks.n_bytes
        source = getattr(source, "source", None)
    return n_bytes


def found(keys: Iterable[str]) -> None:
    """What has these keys is asked for; notes which of it the store holds."""
    if COUNTED is not None:
        COUNTED.stored |= {key for key in keys if _stored(key)}


@contextlib.contextmanager
def shared(workers: int) -> Iterator[bool]:
    """Trainings inside are shared by so many workers; whether they are only estimated."""
    if COUNTED is None:
        yield False
        return
    COUNTED.groups.append((workers, []))
    yield True
    COUNTED.groups.append((1, []))  # what follows trains alone again


def forward(function: Callable[..., T], model: Any, ids: Any, *rest: Any) -> T:
    """`function(model, ids, *rest)`; a slow one of the same shape is not made again."""
    if COUNTED is None:
        return function(model, ids, *rest)
    told = [each for each in rest if not hasattr(each, "shape")]
    key = (function.__name__, id(model), tuple(ids.shape), repr(told))
    rate, _, result = COUNTED.known.get(key, (NOTHING, None, None))
    if rate is NOTHING or rate.seconds * ids.numel() < SLOW:
        began = _clock()
        with _counting() as counter:
            result = function(model, ids, *rest)
        flop, took, before = counter.get_total_flops(), _clock() - began, COUNTED.waited
        COUNTED.waited = Rate(before.flop + flop, before.seconds + took)
        rate = Rate(flop / ids.numel(), took / ids.numel())
        COUNTED.known[key] = rate, model, result  # the model is held: its id stays its own
    elif not COUNTED.training:
        COUNTED.passes.append((ids.numel(), rate))
    COUNTED.models[id(model)] = rate
    made: T = result
    return made


def harvested() -> list[tuple[int, Rate]]:
    """Of each harvest that trainings read: tokens forwarded, in whole blocks, and their rate."""
    assert COUNTED is not None
    found = []
    for blocks, n_read in COUNTED.harvests.values():
        n_blocks, row = math.ceil(n_read / blocks.n_tokens), blocks.rows.shape[1]
        rate = COUNTED.models.get(id(blocks.model), NOTHING)
        found.append((n_blocks * blocks.block_rows * row, rate))
    return found


def _stored(key: str) -> bool:
    """In the store behind the one that is thrown away."""
    return files.place(key).exists() and not files.place(key).is_relative_to(files.build())


def _clock() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _counting() -> Any:
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)
