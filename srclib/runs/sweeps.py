"""Runs under an index: trained together, kept by content, read as one tidy table.

runs = sweep({(s, k): Run(new_sae(s, k), toys[s], config) for s in seeds for k in ks},
             names=("seed", "k"))
table = runs.table(recovery, errors)      # index (seed, k), one column per number
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ParameterError, SuiteError, message, nearest
from . import memo
from .run import Run
from .tables import Key, Numbers, as_tuple, numbers, spelled, tidy

if TYPE_CHECKING:
    import pandas as pd


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
    made = Sweep(runs, names)
    distinct = list(dict.fromkeys(made.values()))
    try:
        memo.train_all(distinct, workers)
    except SuiteError as error:
        failed = getattr(error, "run", None)
        if failed is None:
            raise
        which = next(key for key, run in made.items() if run is distinct[failed])
        raise type(error)(f"run {spelled(made.names, which)}: {error}") from None
    made.note_for_the_driver()
    return made


class Sweep(Mapping[Key, Run]):
    """Runs by key. `runs[key]`, or `runs.one(k=5, seed=0)`; iterates over keys."""

    def __init__(
        self, runs: Mapping[Key, Run] | Iterable[tuple[Key, Run]], names: Sequence[str] | str
    ) -> None:
        self.names, self._runs = as_tuple(names), dict[tuple[Any, ...], Run]()
        if len(set(self.names)) < max(1, len(self.names)):
            fix = "Name each once."
            raise ParameterError(message("names", names, "one name per index level", fix))
        for key, run in runs.items() if isinstance(runs, Mapping) else runs:
            where = spelled(self.names, as_tuple(key))
            if as_tuple(key) in self._runs:
                fix = "Add the level in which the two runs differ."
                raise ParameterError(message("key", where, "each key once", fix))
            if not isinstance(run, Run):
                raise ParameterError(
                    message(where, run, "a Run", "Write Run(sae, source, config).")
                )
            self._runs[as_tuple(key)] = run

    def __getitem__(self, key: Key) -> Run:
        return self._runs[as_tuple(key)]

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
        return Sweep([*self.items(), *other.items()], self.names)

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
        chosen = (key for key in self._runs if all(key[i] in w for i, w in wanted.items()))
        return Sweep({key: self._runs[key] for key in chosen}, self.names)

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
        alike = {name: [value] for name, value in zip(self.names, as_tuple(key), strict=True)}
        others = self.select(**{name: v for name, v in alike.items() if name != level})
        return [run for other, run in others.items() if other[place] != as_tuple(key)[place]]

    def map(self, function: Callable[[Run], Any]) -> dict[Key, Any]:
        """{key: function(run)}, without gradients, for what is no number."""
        return {key: _measured(function, run) for key, run in self._runs.items()}

    def table(self, *measures: Callable[[Run], Numbers]) -> pd.DataFrame:
        """One row per run, one column per number that the measures return.

        A measure takes the run and returns {name: number}, or a number (the column then has the
        measure's name). Raises ParameterError, naming run and measure, for anything else.
        """
        rows: dict[Key, dict[str, Any]] = {key: {} for key in self._runs}
        for key, run in self._runs.items():
            for measure in measures:
                found = numbers(_measured(measure, run), measure, self.names, key)
                if twice := sorted(found.keys() & rows[key].keys()):
                    fix = "Give each number a name of its own."
                    raise ParameterError(message("columns", twice, "each name once", fix))
                rows[key] |= found
        return tidy(rows, self.names)

    def pairs(self, level: str, measure: Callable[[Run, Run], Numbers]) -> pd.DataFrame:
        """Each run with the one that follows it along `level`, the last with the first.

        measure(run, partner) as in `table`; the row stands under the run's key.
        """
        place, order = self._place(level), self.level(level)
        if self._runs and len(order) < 2:
            fix = "Train a second one."
            raise ParameterError(message(level, order, "two values or more, to make pairs", fix))
        after = dict(zip(order, [*order[1:], *order[:1]], strict=True))
        rows = {}
        for key, run in self._runs.items():
            other = (*key[:place], after[key[place]], *key[place + 1 :])
            if other not in self._runs:
                where = spelled(self.names, other)
                raise ParameterError(f"pairs: run {where} is missing. Train it, or select.")
            found = _measured(measure, run, self._runs[other])
            rows[key] = numbers(found, measure, self.names, key)
        return tidy(rows, self.names)

    def long(self, measure: Callable[[Run], Mapping[Any, Any]], level: str) -> pd.DataFrame:
        """A table with one more index level: measure(run) -> {value of the level: numbers}."""
        names = (*self.names, level)
        if level in self.names:
            fix = "Take another name."
            raise ParameterError(message("level", level, "a name that is not there yet", fix))
        found = {
            (*key, value): numbers(row, measure, names, (*key, value))
            for key, values in self.map(measure).items()
            for value, row in values.items()
        }
        return tidy(found, names)

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
            fix = nearest(name, self.names)
            raise ParameterError(message("level", name, ", ".join(self.names), fix))
        return self.names.index(name)

    def note_for_the_driver(self) -> None:
        """One line per SAE in the file that `srclib saes` reads, where the driver asks for it."""
        if not (path := os.environ.get("SRCLIB_SAES")):
            return
        with open(path, "a", encoding="utf-8") as file:
            for key, run in self._runs.items():
                line = {
                    "key": run.key,
                    "d_in": run.sae.d_in,
                    "d_sae": run.sae.d_sae,
                    "activation": repr(run.sae.activation),
                    "l0": run.history[-1]["l0"] if run.history else None,
                    "index": dict(zip(self.names, key, strict=True)),
                }
                file.write(json.dumps(line, default=str) + "\n")


def _measured(function: Callable[..., Any], *runs: Run) -> Any:
    """function(*runs) without gradients; the SAEs keep their mode, whatever it sets."""
    modes = [run.sae.training for run in runs]
    try:
        with torch.no_grad():
            return function(*runs)
    finally:
        for run, mode in zip(runs, modes, strict=True):
            run.sae.train(mode)
