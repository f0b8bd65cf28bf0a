"""From a table of outcomes to what was chosen on some people and judged on the others.

Tables are those of `questions.Task`: one row per attempt, what is random (lm, seed, person) and
what is set (site, method, alpha) in the index. People of even number choose, the others judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ... import metrics
from ...runs.tables import tidy
from . import swaps

if TYPE_CHECKING:
    import pandas as pd


def at(table: Any, **levels: Any) -> Any:
    """Rows of a table or Series at these values of index levels, which are dropped.

    A list of values keeps its level. What was not run gives no rows.
    """
    for level, value in levels.items():
        found = table.index.get_level_values(level)
        several = isinstance(value, list)
        table = table[found.isin(value if several else [value])]
        table = table if several else table.droplevel(level)
    return table


def choosing(table: pd.DataFrame) -> np.ndarray:
    """[rows] bool: whether the row's person takes part in choices, and not in judging them."""
    return swaps.choosing(table.index.get_level_values("person").tolist()).numpy()


def tuned(
    table: pd.DataFrame, setting: Sequence[str] = ("alpha",), success: str = "exact"
) -> pd.DataFrame:
    """Rows of the judging people at the setting that serves the choosing people best.

    setting: index levels that are chosen together, the first among equals, for each combination
    of the other levels by itself; they become columns.
    """
    levels = [level for level in table.index.names if level != "person"]
    chooses, place = choosing(table), table.index.droplevel("person")
    shares = table[chooses].groupby(levels, sort=False)[success].mean()
    groups = [level for level in levels if level not in setting]
    best = shares.groupby(groups, sort=False).idxmax()
    return table[~chooses & place.isin(best)].reset_index(level=list(setting))


def silenced(table: pd.DataFrame, most: float = 0.05) -> pd.DataFrame:
    """Rows of the judging people at the smallest alpha that silences a relation for the others.

    table: index levels lm, method, alpha, person; columns source (asked), target (taken out) and
    exact (the answer stayed right). Silenced: at most this share of the choosing people's answers
    stay right when their own relation is taken out; the largest alpha where none does that.
    """
    levels = ["lm", "method", "alpha"]
    own = table[choosing(table) & (table.source == table.target)]
    enough = own.groupby(levels).exact.mean().unstack("alpha") <= most  # columns ascend
    enough.iloc[:, -1] |= ~enough.any(axis=1)
    place = table.index.droplevel([n for n in table.index.names if n not in levels])
    chosen = [(*key, alpha) for key, alpha in enough.idxmax(axis=1).items()]
    at_it = place.reorder_levels(levels).isin(chosen)
    return table[~choosing(table) & at_it].reset_index(level="alpha")


def rungs(
    table: pd.DataFrame,
    alike: Mapping[str, str],
    draws: Sequence[str] = (),
    alone: Sequence[str] = (),
) -> pd.DataFrame:
    """`tuned` rows of every method, an index level, for a ladder.

    alike: {beginning: name}; of methods whose names begin so one is chosen together with its
    strength and shown under that name; those in `alone` are shown by themselves as well. draws:
    beginnings of methods that are draws of one: each has its strength, all have one name.
    """
    import pandas as pd

    names = [str(name) for name in table.index.unique("method")]
    single = [n for n in names if n in alone or not n.startswith(tuple(alike))]
    found = [tuned(at(table, method=single))]
    for begins, name in alike.items():
        those = [n for n in names if n.startswith(begins)]
        best = tuned(at(table, method=those), ("method", "alpha")).assign(method=name)
        best = best.set_index("method", append=True)
        found.append(best.reorder_levels(found[0].index.names))
    shown = {n: draw for n in names for draw in draws if n.startswith(draw)}
    return pd.concat(found).rename(index=shown, level="method")


def at_best(
    judged: pd.DataFrame, fixed: pd.Series, names: Mapping[str, str], **levels: Any
) -> dict[str, pd.Series]:
    """What a ledger records of variations (index level arm) at these levels, under names.

    judged: rows of `tuned`, with a column edge, whether the strength is the first or the last one
    that was tried; fixed: success at two natural units. Labels: the name, swap success;
    "name at an end", the share of strengths that are; "name alpha=2".
    """
    found = {}
    for name, arm in names.items():
        rows = at(judged, arm=arm, **levels)
        found[name] = rows.exact
        units = [level for level in rows.index.names if level != "person"]
        found[f"{name} at an end"] = rows.groupby(units).edge.first().astype(float)
        found[f"{name} alpha=2"] = at(fixed, arm=arm, **levels)
    return found


def changed(table: pd.DataFrame, said: pd.Series) -> pd.Series:
    """Whether a row says something else than the language model by itself.

    said: answers to all questions in their order, index level lm.
    """
    own = {lm: part.to_numpy() for lm, part in said.groupby("lm", sort=False)}
    lms = table.index.get_level_values("lm")
    return table.said != [own[lm][q] for lm, q in zip(lms, table.question, strict=True)]


def rates(success: pd.Series, by: str | Sequence[str]) -> pd.DataFrame:
    """Columns value, low, high per setting, as `ledger.record(..., cluster="person")` has them.

    One language model (level lm): the mean and its 95 % t interval over people. Several: median
    and range of their means.
    """
    by = [by] if isinstance(by, str) else list(by)
    found = {}
    for key, part in success.groupby(by, sort=False):
        each = part.groupby("lm", sort=False).mean()
        people = part.index.get_level_values("person")
        ends = metrics.clustered_t(part.to_numpy(), people)
        ends = ends if len(each) == 1 else (each.min(skipna=False), each.max(skipna=False))
        found[key] = dict(zip(("value", "low", "high"), (each.median(), *ends), strict=True))
    return tidy(found, by)


def means(success: pd.Series, by: str | Sequence[str]) -> pd.Series:
    """Mean over language models (level lm) of their own means, per setting in the index."""
    by = [by] if isinstance(by, str) else list(by)
    each = success.groupby(["lm", *by], sort=False).mean()
    return each.groupby(by, sort=False).mean()


def failed(
    table: pd.DataFrame, values: Sequence[set[str]], alike: Sequence[int] = ()
) -> pd.DataFrame:
    """Swaps that failed, with a column kept: whether the answer has the target's type.

    values: by relation. alike: relations with common values, between which a failure keeps its
    type for nothing: such swaps are left out.
    """
    free = table.source.isin(alike) & table.target.isin(alike)
    wrong = table[~table.exact & ~free]
    target = torch.tensor(wrong.target.to_numpy())
    return wrong.assign(kept=swaps.same_type(wrong.said.tolist(), target, values).numpy())


def or_nan(parts: Mapping[str, pd.Series]) -> dict[str, pd.Series | float]:
    """Empty parts as NaN: a share of nothing, where an empty part would be what was not run."""
    return {label: part if len(part) else math.nan for label, part in parts.items()}
