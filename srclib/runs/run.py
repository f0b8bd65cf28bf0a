"""One SAE with everything that decides how it is trained: the unit that is kept and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..sae import SAE
from ..sources import Source
from ..store import files
from ..training.config import TrainConfig

if TYPE_CHECKING:
    from ..objectives import Objective, Term
    from ..training.control import Control


@dataclass(eq=False)
class Run:
    """One SAE, what it is trained on and how; `sweep` trains `sae` in place, once."""

    sae: SAE
    source: Source
    config: TrainConfig
    objective: Objective | Term | None = None
    control: Control | None = None
    # what training logged, one flat record per logged step; empty until it is trained
    history: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    # where the finished run is kept; empty until then
    key: str = field(default="", init=False, repr=False)

    def held_out(self, n: int) -> Tensor:
        """[n, d_in] evaluation rows of the source, which no training step reads."""
        return held_out(self.source, n)


_ROWS: dict[tuple[str, int], Tensor] = {}  # of at most 32 sources


def held_out(source: Source, n: int) -> Tensor:
    """[n, d_in] evaluation rows (step -1), read once per source; a copy, which is the caller's."""
    place = files.canonical(source.identity), n
    if place not in _ROWS:
        if len(_ROWS) == 32:
            _ROWS.pop(next(iter(_ROWS)))
        _ROWS[place] = source.batch(-1, n)
    return _ROWS[place].clone()
