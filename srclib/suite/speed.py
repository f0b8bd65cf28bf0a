"""The part of the page *How fast is it?* that follows from data/trust/bench.json.

Which peers count, what is demanded and every ratio stand in the record; here they are only placed
and worded. What was not measured is named with its command.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from ..store import files
from . import trust
from .points import number
from .templates import macros

NAME = "bench"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
Entry = Mapping[str, Any]


def page() -> str:
    """Finding, pictures, tables, and what is missing, as Markdown around raw HTML."""
    known = trust.load(NAME) if trust.path(NAME).exists() else {}
    entries = {name: each for name, each in known.items() if isinstance(each, dict)}
    compared = {name: each for name, each in entries.items() if "contenders" in each}
    curves = [
        {**curve, "picture": growth(curve)}
        for each in entries.values()
        for curve in each.get("curves", ())
    ]
    absent = {name: title for name, title in workloads().items() if name not in entries}
    return str(_MACROS.speed(finding(compared), bars(compared), compared, curves, absent, entries))


def workloads() -> dict[str, str]:
    """{workload: title} of everything that can be run here, in the order of the page."""
    path = files.root() / "bench" / "targets.toml"
    known = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    return {name: each["title"] for name, each in known.items()}


def finding(compared: Mapping[str, Entry]) -> dict[str, Any]:
    """What all comparisons say together: how many lead, how many reach what is demanded."""
    goals = _goals(compared)
    asked = [goal for goal in goals if goal["must"] is not None]
    order = sorted(goals, key=lambda goal: goal["to_best"])
    return {
        "n": len(goals),
        "faster": sum(goal["to_best"] > 1 for goal in goals),
        "asked": len(asked),
        "missed": [goal for goal in asked if goal["ratio"] < goal["must"]],
        "least": order[0] if order else None,
        "most": order[-1] if order else None,
    }


def bars(compared: Mapping[str, Entry]) -> dict[str, Any]:
    """The comparisons as places from 0 to 100 on a logarithmic axis that contains 1."""
    goals = _goals(compared)
    ends = [goal[key] for goal in goals for key in ("low", "high", "to_best", "must") if goal[key]]
    low, high = min([1.0, *ends]) / 1.1, max([2.0, *ends]) * 1.1
    keys = ("ratio", "low", "high", "must", "to_best")
    rows = [
        goal | {f"{key}_at": _place(goal[key], low, high) for key in keys if goal[key]}
        for goal in goals
    ]
    ticks = {number(tick): _place(tick, low, high) for tick in TICKS if low <= tick <= high}
    return {"rows": rows, "ticks": ticks, "one": _place(1.0, low, high)}


def growth(curve: Entry) -> dict[str, Any]:
    """A curve of times over a size, both logarithmic, as places from 0 to 100."""
    points = [point for series in curve["series"].values() for point in series]
    xs, ys = [point["at"] for point in points], [point["cpu_ms"] for point in points]
    lines, grown = {}, {}
    for name, series in curve["series"].items():
        lines[name] = [
            (_place(p["at"], min(xs), max(xs)), 100 - _place(p["cpu_ms"], min(ys), max(ys)), p)
            for p in series
        ]
        grown[name] = series[-1]["cpu_ms"] / series[0]["cpu_ms"]
    return {"lines": lines, "grown": grown, "x": (min(xs), max(xs)), "y": (min(ys), max(ys))}


def _goals(compared: Mapping[str, Entry]) -> list[dict[str, Any]]:
    return [
        {
            **goal,
            **{key: each[key] for key in ("title", "best_peer")},
            "workload": name,
            "profile": _of(each, goal["ours"]).get("profile", {}),
        }
        for name, each in compared.items()
        for goal in each["goals"]
    ]


def _of(each: Entry, name: str) -> Entry:
    return next((row for row in each["contenders"] if row["name"] == name), {})


def _place(value: float, low: float, high: float) -> float:
    return round(100 * math.log(value / low) / (math.log(high / low) or 1), 2)


def _short(value: float | None, digits: int = 3) -> str:
    """A number of a table, nothing where there is none."""
    return "" if value is None else number(float(f"{value:.{digits}g}"))


def _machines(entries: Mapping[str, Entry]) -> Sequence[str]:
    return list(dict.fromkeys(each["provenance"]["machine"] for each in entries.values()))


_MACROS = macros("speed.jinja", short=_short, machines=_machines)
