"""Typed, closed parameters: a profile fills what the caller left open.

`data/profiles/<study>.toml` holds each parameter's type, range, help and its value per
profile. A notebook calls `parameters(study, In, globals())` right after its parameters
cell; the driver calls `load_spec(study).resolve(given)` before it starts a kernel.
"""

from __future__ import annotations

import html
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ... import files
from ...errors import ParameterError, message
from . import cells, specfile
from .cells import read_notebook
from .fields import Field, Value, nearest
from .specfile import COMMON, PROFILES, SCALES, Profile

__all__ = ["PROFILES", "SCALES", "Parameters", "Profile", "Spec", "load_spec", "parameters"]
__all__ += ["read_notebook", "studies"]


@dataclass(frozen=True)
class Spec:
    """A study's parameters: `fields` by name (profile and seed first), values per profile."""

    study: str
    title: str
    title_ja: str
    paper: str
    path: Path
    profiles: Mapping[str, Profile]
    fields: Mapping[str, Field]
    defaults: Mapping[str, Mapping[str, Value]]  # [profile][name]

    def resolve(self, given: Mapping[str, object]) -> Parameters:
        """Convert and check what the caller gave; the profile fills the rest.

        A value of None means "not set". Raises ParameterError before anything is computed.
        """
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name not in self.fields:
                raise ParameterError(
                    message(
                        f"unknown parameter {name}",
                        given[name],
                        ", ".join(self.fields),
                        nearest(name, self.fields),
                    )
                )
        profile = self.fields["profile"].convert(given.get("profile", COMMON["profile"]))
        self.fields["profile"].check(profile, {})
        filled = {**self.defaults[cast(str, profile)], "profile": profile}
        values = {
            name: field.convert(given.get(name, filled[name]))
            for name, field in self.fields.items()
        }
        for name, field in self.fields.items():
            field.check(values[name], values)
        overridden = tuple(name for name in self.fields if name in given and name != "profile")
        return Parameters(self, values, overridden)

    def check_cell(self, declared: Mapping[str, cells.Declared]) -> None:
        """Raise ParameterError unless a parameters cell declares exactly these parameters."""
        types = {name: field.type for name, field in self.fields.items()}
        difference = cells.names_differ(declared, types)
        if difference:
            raise ParameterError(
                f"the parameters cell and data/profiles/{self.path.name} differ: {difference}. "
                "Change one of the two so that names and types agree."
            )


class Parameters:
    """The validated parameters of a run, read as attributes: `P.k_values` (lists as tuples).

    study, profile, scale: of this run. values: everything as JSON-able values.
    overridden: the names that the caller set, besides the profile. key: sha256 of values.
    """

    def __init__(self, spec: Spec, values: Mapping[str, Value], overridden: tuple[str, ...]):
        self.__dict__.update(_spec=spec, _values=dict(values), study=spec.study)
        self.__dict__.update(profile=values["profile"], overridden=overridden)
        self.__dict__.update(scale=spec.profiles[cast(str, values["profile"])].scale)

    study: str
    profile: str
    scale: str
    overridden: tuple[str, ...]

    @property
    def values(self) -> dict[str, Value]:
        return {n: list(v) if isinstance(v, list) else v for n, v in self._values.items()}

    @property
    def key(self) -> str:
        return files.sha256(files.canonical(self._values))

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})  # empty while a copy is being made
        if name not in values:
            raise AttributeError(f"no parameter {name!r}. {nearest(name, values)}")
        value = values[name]
        return tuple(value) if isinstance(value, list) else value

    def __setattr__(self, name: str, value: object) -> None:
        fix = f"Rerun with the parameter set: -p {name} VALUE."
        raise ParameterError(message(name, value, "no change after validation", fix))

    def __delattr__(self, name: str) -> None:
        raise ParameterError(f"{name}: allowed is no change after validation. Leave it as it is.")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"Parameters({self.study!r}, {inside})"

    def _repr_html_(self) -> str:
        rows = [("parameter", "value", "from", "meaning")]
        for name, value in self._values.items():
            origin = "set by the caller" if name in self.overridden else f"profile {self.profile}"
            rows.append((name, str(value), origin, self._spec.fields[name].help))
        tags = ["th"] + ["td"] * len(self._values)
        lines = [
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in zip(tags, rows, strict=True)
        ]
        return f'<table class="parameters">{"".join(lines)}</table>'


def parameters(study: str, In: Sequence[str], namespace: Mapping[str, object]) -> Parameters:
    """The parameters of a running notebook; call it as `parameters("l0", In, globals())`.

    In: the cells executed so far, as IPython keeps them. namespace: the notebook's globals.
    Raises ParameterError for a parameter that is unknown, ill-typed or out of range.
    """
    spec = load_spec(study)
    declared, injected = cells.executed(In)
    spec.check_cell(declared)
    in_cell = {name: line.default for name, line in declared.items()}
    written = {name: v for name, v in in_cell.items() if not _is_default(name, v)}
    resolved = spec.resolve(written | injected)
    for name, value in (in_cell | injected).items():
        if repr(namespace.get(name)) != repr(value):
            fix = "Change the parameters cell and run it again."
            raise ParameterError(message(name, namespace.get(name), f"{value!r}, as set", fix))
    return resolved


def studies() -> list[str]:
    """The studies that have a profile file, sorted by name."""
    return sorted(path.stem for path in (files.root() / "data" / "profiles").glob("*.toml"))


def load_spec(study: str) -> Spec:
    """Read `data/profiles/<study>.toml`; every profile must resolve within the ranges."""
    known = studies()
    if not known:
        files.checkout()  # outside a checkout this says so
    if study not in known:
        raise ParameterError(message("study", study, ", ".join(known), nearest(study, known)))
    path = files.root() / "data" / "profiles" / f"{study}.toml"
    try:
        spec = Spec(**specfile.read(path))
        for profile in spec.profiles:
            spec.resolve({"profile": profile})
    except (ParameterError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"data/profiles/{path.name}: {error}") from None
    return spec


def _is_default(name: str, value: object) -> bool:
    return name in COMMON and type(value) is type(COMMON[name]) and value == COMMON[name]
