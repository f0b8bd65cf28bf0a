"""Strict reading of `data/profiles/<study>.toml`; `srclib.suite.params` gives it meaning."""

from __future__ import annotations

import keyword
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ParameterError, message
from .fields import EXAMPLES, Field, Scalar, Value, nearest

PROFILES = ("smoke", "laptop", "full", "paper")  # from least to most compute
SCALES = ("paper", "reduced", "stand-in")
COMMON: dict[str, Scalar] = {"profile": "laptop", "seed": 0}

_TEXTS = ("study", "title", "title_ja", "paper")
_BOUNDS = ("min", "max", "above", "below")
_KEYS = {"type", "help", "choices", "min_len", "max_len", "default", *_BOUNDS, *PROFILES}
_RESERVED = {"study", "scale", "values", "overridden", "key", *COMMON}


@dataclass(frozen=True)
class Profile:
    """What a profile costs (expected seconds, disk in MB) and the scale it measures at."""

    name: str
    seconds: float
    disk_mb: float
    scale: str


def read(path: Path) -> dict[str, Any]:
    """The arguments of `params.Spec`; raises ParameterError at the first fault in the file."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    _only(data, {*_TEXTS, "profiles", "parameters"}, "the file", {*_TEXTS, "profiles"})
    texts = {name: _typed(data[name], str, name) for name in _TEXTS}
    if texts["study"] != path.stem:
        fix = "Name the file after its study."
        raise ParameterError(message("study", texts["study"], repr(path.stem), fix))
    profiles = {name: _read_profile(name, row) for name, row in data["profiles"].items()}
    if "laptop" not in profiles:
        fix = "Add [profiles.laptop], the default."
        raise ParameterError(message("profiles", list(profiles), "laptop among them", fix))
    fields = {
        "profile": Field("profile", "str", "size of the run", choices=tuple(profiles)),
        "seed": Field("seed", "int", "root of all random numbers", {"min": 0, "below": 2**63}),
    }
    defaults: dict[str, dict[str, Value]] = {name: {"seed": 0} for name in profiles}
    rows = data.get("parameters", {})
    for name, row in rows.items():
        fields[name] = _read_field(name, row, rows)
        for profile in profiles:
            if profile not in row and "default" not in row:
                fix = f"Add `{profile} = ...` or `default = ...`."
                raise ParameterError(f"parameters.{name}: no value for {profile}. {fix}")
            defaults[profile][name] = fields[name].convert(row.get(profile, row.get("default")))
    return {**texts, "path": path, "profiles": profiles, "fields": fields, "defaults": defaults}


def _read_profile(name: str, row: dict[str, Any]) -> Profile:
    if name not in PROFILES:
        raise ParameterError(message("profile", name, ", ".join(PROFILES), "Rename it."))
    _only(row, {"seconds", "disk_mb", "scale"}, f"profiles.{name}", {"seconds", "disk_mb", "scale"})
    if row["scale"] not in SCALES:
        where = f"profiles.{name}.scale"
        raise ParameterError(message(where, row["scale"], ", ".join(SCALES), "Choose one."))
    cost = {n: _typed(row[n], int | float, f"profiles.{name}.{n}") for n in ("seconds", "disk_mb")}
    return Profile(name, **cost, scale=row["scale"])


def _read_field(name: str, row: dict[str, Any], rows: dict[str, Any]) -> Field:
    where = f"parameters.{name}"
    _only(row, _KEYS, where, {"type", "help"})
    if name in _RESERVED or name.startswith("_") or keyword.iskeyword(name):
        raise ParameterError(f"{where}: the name is reserved. Choose another.")
    if row["type"] not in EXAMPLES:
        fix = "Choose one of these types."
        raise ParameterError(message(f"{where}.type", row["type"], ", ".join(EXAMPLES), fix))
    bounds = {kind: row[kind] for kind in _BOUNDS if kind in row}
    for kind, bound in bounds.items():
        _check_bound(f"{where}.{kind}", bound, row["type"], rows)
    return Field(
        name=name,
        type=row["type"],
        help=_typed(row["help"], str, f"{where}.help"),
        bounds=bounds,
        choices=tuple(row.get("choices", ())),
        min_len=row.get("min_len", 1),
        max_len=row.get("max_len"),
    )


def _check_bound(where: str, bound: object, kind: str, rows: dict[str, Any]) -> None:
    numbers = [n for n, row in rows.items() if row.get("type") in ("int", "float")]
    numeric = "int" in kind or "float" in kind
    is_number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if not numeric or not (is_number or bound in numbers):
        allowed = f"a number or one of {', '.join(numbers)}" if numeric else "no bound on text"
        raise ParameterError(message(where, bound, allowed, "Correct the bound."))


def _only(row: object, allowed: set[str], where: str, required: set[str]) -> None:
    if not isinstance(row, dict):
        raise ParameterError(message(where, row, "a table", "Write it as a TOML table."))
    for key in row:
        if key not in allowed:
            raise ParameterError(f"{where}: unknown key {key!r}. {nearest(key, sorted(allowed))}")
    for key in sorted(required - row.keys()):
        raise ParameterError(f"{where}: {key!r} is missing. Add it.")


def _typed(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ParameterError(message(where, value, f"of type {kind}", "Correct the value."))
    return value
