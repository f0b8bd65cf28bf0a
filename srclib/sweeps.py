"""Runs under an index: trained together, kept by content, read as one tidy table.

    runs = sweep({(s, k): Run(new_sae(s, k), toys[s], config) for s in seeds for k in ks},
                 names=("seed", "k"))
    table = runs.table(recovery, errors)      # index (seed, k), one column per number

Training in a list gives the bytes that training alone would, so how runs are grouped changes
nothing: a sweep with one more setting trains one more SAE, and a killed one continues.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import files, memo
from .config import TrainConfig
from .errors import ParameterError, SuiteError, message, nearest
from .sae import SAE
from .sources import Source

if TYPE_CHECKING:
    import pandas as pd

    from .control import Control
    from .objectives import Objective, Term

Key = Any  # one value per name, as a tuple; alone where there is one name
Numbers = Mapping[str, Any]
Measure = Callable[["Run"], "Numbers | float"]


@dataclass(eq=False)
class Run:
    """One SAE, what it is trained on and how; `sweep` trains `sae` in place."""

    sae: SAE
    source: Source
    config: TrainConfig
    objective: Objective | Term | None = None
    control: Control | None = None
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """what training logged, one flat record per logged step"""
    key: str = field(default="", repr=False)
    """where the finished run is kept; empty until it is trained"""

    def held_out(self, n: int) -> Tensor:
        """[n, d_in] evaluation rows of the source, which no training step reads."""
        return held_out(self.source, n)


def sweep(
    runs: Mapping[Key, Run] | Iterable[tuple[Key, Run]],
    names: Sequence[str] | str,
    *,
    workers: int | None = None,
) -> Sweep:
    """Train every run, or load what an equal one stored; runs that share batches share them.

    runs: by key, with one value per name of `names`, outermost random unit first. One run may
        stand under several keys. workers: processes of one thread; by default one per core.

    Raises ParameterError for keys that are equal or do not fit `names`, and what `train` raises,
    with the key of the run that failed.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    keyed = _keyed(runs, names)
    distinct = list(dict.fromkeys(keyed.values()))
    try:
        memo.train_all(distinct, workers)
    except SuiteError as error:
        failed = getattr(error, "run", None)
        if failed is None:
            raise
        which = next(key for key, run in keyed.items() if run is distinct[failed])
        raise type(error)(f"run {_spelled(names, which)}: {error}") from None
    made = Sweep(keyed, names)
    made._note_for_the_driver()
    return made


class Sweep(Mapping[Key, Run]):
    """Trained runs by key. `runs[key]`, or `runs.one(k=5, seed=0)`; iterates over keys."""

    def __init__(self, runs: Mapping[tuple[Any, ...], Run], names: tuple[str, ...]) -> None:
        self.names = names
        self._runs = dict(runs)

    def __getitem__(self, key: Key) -> Run:
        return self._runs[key if isinstance(key, tuple) else (key,)]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        values = (f"{name}: {self.level(name)}" for name in self.names)
        return f"Sweep of {len(self)} runs ({'; '.join(values)})"

    def __or__(self, other: Sweep) -> Sweep:
        """Both sweeps as one; their names must agree."""
        if self.names != other.names:
            raise ParameterError(message("names", other.names, str(self.names), "Rename one."))
        return Sweep(_keyed([*self.items(), *other.items()], self.names), self.names)

    def level(self, name: str) -> list[Any]:
        """The values of one index level in order of first appearance."""
        place = self._place(name)
        return list(dict.fromkeys(key[place] for key in self._runs))

    def select(self, **levels: Any) -> Sweep:
        """The runs whose level is the value given, or one of a list of values; may be empty."""
        wanted = {
            self._place(name): value if isinstance(value, list | tuple | set | range) else [value]
            for name, value in levels.items()
        }
        kept = {
            k: run for k, run in self._runs.items() if all(k[i] in w for i, w in wanted.items())
        }
        return Sweep(kept, self.names)

    def one(self, **levels: Any) -> Run:
        """The single run with these values. Raises ParameterError for none or several."""
        found = list(self.select(**levels).values())
        if len(found) != 1:
            fix = "Name more levels." if found else f"There are {self!r}."
            raise ParameterError(message("one", levels, f"one run, not {len(found)}", fix))
        return found[0]

    def rest(self, key: Key, level: str) -> list[Run]:
        """The runs that differ from `key` in this level alone."""
        place = self._place(level)
        key = key if isinstance(key, tuple) else (key,)
        return [
            run
            for other, run in self._runs.items()
            if other != key
            and (*other[:place], *other[place + 1 :]) == (*key[:place], *key[place + 1 :])
        ]

    def map(self, function: Callable[[Run], Any]) -> dict[Key, Any]:
        """{key: function(run)}, without gradients, for what is no number."""
        with torch.no_grad():
            return {key: function(run) for key, run in self._runs.items()}

    def table(self, *measures: Measure) -> pd.DataFrame:
        """One row per run, one column per number that the measures return.

        A measure takes the run and returns {name: number}, or a number (the column then has the
        measure's name). Raises ParameterError, naming run and measure, for anything else.
        """
        rows: dict[Key, dict[str, Any]] = {}
        with torch.no_grad():
            for key, run in self._runs.items():
                rows[key] = {}
                for measure in measures:
                    rows[key] |= _numbers(measure(run), _name(measure), _spelled(self.names, key))
        return tidy(rows, self.names)

    def pairs(self, level: str, measure: Callable[[Run, Run], Numbers | float]) -> pd.DataFrame:
        """Each run with the one that follows it along `level`, the last with the first.

        measure(run, partner) as in `table`; the row stands under the run's key.
        """
        place, order = self._place(level), self.level(level)
        if self._runs and len(order) < 2:
            fix = "Train a second one."
            raise ParameterError(message(level, order, "two values or more, to make pairs", fix))
        after = dict(zip(order, [*order[1:], *order[:1]], strict=True))
        rows = {}
        with torch.no_grad():
            for key, run in self._runs.items():
                other = (*key[:place], after[key[place]], *key[place + 1 :])
                if other not in self._runs:
                    where = _spelled(self.names, other)
                    raise ParameterError(f"pairs: run {where} is missing. Train it, or select.")
                found = measure(run, self._runs[other])
                rows[key] = _numbers(found, _name(measure), _spelled(self.names, key))
        return tidy(rows, self.names)

    def long(self, measure: Callable[[Run], Mapping[Any, Any]], level: str) -> pd.DataFrame:
        """A table with one more index level: measure(run) -> {value of the level: numbers}."""
        rows = {}
        with torch.no_grad():
            for key, run in self._runs.items():
                for value, numbers in measure(run).items():
                    where = _spelled((*self.names, level), (*key, value))
                    rows[(*key, value)] = _numbers(numbers, _name(measure), where)
        return tidy(rows, (*self.names, level))

    def history(self) -> pd.DataFrame:
        """What training logged: one more index level, `step`."""
        return self._logged(lambda run: run.history)

    def notes(self) -> pd.DataFrame:
        """What controls wrote down (`rows` of a Trace and its like): one more level, `step`."""
        return self._logged(lambda run: getattr(run.control, "rows", []))

    def _logged(self, rows: Callable[[Run], list[dict[str, Any]]]) -> pd.DataFrame:
        import pandas as pd

        frames = {key: pd.DataFrame(rows(run)).set_index("step") for key, run in self._runs.items()}
        return pd.concat(frames, names=self.names)

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise ParameterError(
                message("level", name, ", ".join(self.names), nearest(name, self.names))
            )
        return self.names.index(name)

    def _note_for_the_driver(self) -> None:
        """One line per SAE in the file that `srclib saes` reads, where the driver asks for it."""
        if path := os.environ.get("SRCLIB_SAES"):
            lines = [
                {
                    "key": run.key,
                    "d_in": run.sae.d_in,
                    "d_sae": run.sae.d_sae,
                    "activation": repr(run.sae.activation),
                    "l0": run.history[-1]["l0"] if run.history else None,
                    "index": dict(zip(self.names, key, strict=True)),
                }
                for key, run in self._runs.items()
            ]
            with open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, default=str) + "\n" for line in lines)


def tidy(rows: Mapping[Key, Numbers | float], names: Sequence[str] | str) -> pd.DataFrame:
    """The table of a sweep for what is no SAE: {key: {name: number}} under named index levels."""
    import pandas as pd

    names = (names,) if isinstance(names, str) else tuple(names)
    keys = [key if isinstance(key, tuple) else (key,) for key in rows]
    for key in keys:
        _check_key(key, names)
    values = [row if isinstance(row, Mapping) else {"value": row} for row in rows.values()]
    for key, row in zip(keys, values, strict=True):
        _numbers(row, "tidy", _spelled(names, key))
    if len(names) == 1:
        index = pd.Index([key[0] for key in keys], name=names[0])
    else:
        arrays = [list(each) for each in zip(*keys, strict=True)] or [[] for _ in names]
        index = pd.MultiIndex.from_arrays(arrays, names=names)
    return pd.DataFrame(values, index=index)


def held_out(source: Source, n: int) -> Tensor:
    """[n, d_in] evaluation rows (step -1), read once per source; not to be changed in place."""
    return _held_out(_Same(source), n)


class _Same:
    """A source under its identity, so that equal sources share their evaluation rows."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = files.canonical(source.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@functools.lru_cache(maxsize=32)
def _held_out(same: _Same, n: int) -> Tensor:
    return same.source.batch(-1, n)


def _keyed(
    runs: Mapping[Key, Run] | Iterable[tuple[Key, Run]], names: tuple[str, ...]
) -> dict[tuple[Any, ...], Run]:
    if not names or len(set(names)) < len(names):
        raise ParameterError(message("names", names, "one name per index level", "Name each once."))
    keyed: dict[tuple[Any, ...], Run] = {}
    for key, run in runs.items() if isinstance(runs, Mapping) else runs:
        key = key if isinstance(key, tuple) else (key,)
        _check_key(key, names)
        if key in keyed:
            fix = "Add the level in which the two runs differ."
            raise ParameterError(message("key", _spelled(names, key), "each key once", fix))
        if not isinstance(run, Run):
            fix = "Write Run(sae, source, config)."
            raise ParameterError(message(_spelled(names, key), run, "a Run", fix))
        keyed[key] = run
    return keyed


def _check_key(key: tuple[Any, ...], names: tuple[str, ...]) -> None:
    if len(key) != len(names):
        fix = "Give one value per name."
        raise ParameterError(message("key", key, f"{len(names)} values: {', '.join(names)}", fix))


def _numbers(found: Any, measure: str, where: str) -> dict[str, Any]:
    """{name: number} of what a measure returned; refuses what is no number."""
    found = found if isinstance(found, Mapping) else {measure: found}
    row = {
        name: value.item() if hasattr(value, "item") and _single(value) else value
        for name, value in found.items()
    }
    for name, value in row.items():
        if not isinstance(value, Real):
            seen = type(value).__name__
            fix = f"Mend {measure}, or use `map` for what is no number."
            raise ParameterError(message(f"{measure} of {where}: {name}", seen, "a number", fix))
    return row


def _single(value: Any) -> bool:
    return bool(getattr(value, "ndim", 0) == 0)


def _name(measure: Callable[..., Any]) -> str:
    inner = measure.func if isinstance(measure, functools.partial) else measure
    return getattr(inner, "__name__", "measure")


def _spelled(names: Sequence[str], key: Sequence[Any]) -> str:
    """`(seed=0, k=5)`"""
    return "(" + ", ".join(f"{n}={v}" for n, v in zip(names, key, strict=True)) + ")"
