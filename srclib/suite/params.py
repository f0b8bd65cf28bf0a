"""Typed, closed parameters: a profile fills what the caller left open.

`data/profiles/<study>.toml` holds each parameter's type, range, help and its value per
profile. A notebook calls `parameters(study, In, globals())` right after its parameters
cell; the driver calls `load_spec(study).resolve(given)` before it starts a kernel.
"""

from __future__ import annotations

import html
import keyword
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from .. import files
from ..errors import ParameterError, message, nearest
from . import cells, schema
from .cells import read_notebook as read_notebook
from .fields import Field, Value

ProfileName = Literal["smoke", "laptop", "full", "paper"]  # from least to most compute
Scale = Literal["paper", "reduced", "stand-in"]
PROFILES: tuple[str, ...] = get_args(ProfileName)
SCALES: tuple[str, ...] = get_args(Scale)

COMMON = {"profile": "laptop", "seed": 0}  # what every parameters cell sets in its source
_RESERVED = {"study", "scale", "values", "overridden", "key", *COMMON}


@dataclass(frozen=True)
class Profile:
    """What a profile costs (expected seconds, disk in MB) and the scale it measures at."""

    name: str
    seconds: float
    disk_mb: float
    scale: Scale


@dataclass(frozen=True)
class Spec:
    """A study's parameters: `fields` by name (profile and seed first), and its profiles."""

    study: str
    title: str
    title_ja: str
    paper: str
    profiles: Mapping[str, Profile]
    fields: Mapping[str, Field]

    def resolve(self, given: Mapping[str, object]) -> Parameters:
        """Convert and check what the caller gave; the profile fills the rest.

        A value of None means "not set". Raises ParameterError before anything is computed.
        """
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name not in self.fields:
                what, known = f"unknown parameter {name}", ", ".join(self.fields)
                hint = nearest(name, self.fields)
                raise ParameterError(message(what, given[name], known, hint))
        profile = self.fields["profile"].convert(given.get("profile", COMMON["profile"]))
        self.fields["profile"].check(profile, {})
        given["profile"] = profile
        values = {
            name: field.convert(given[name] if name in given else field.value_at(str(profile)))
            for name, field in self.fields.items()
        }
        for name, field in self.fields.items():
            field.check(values[name], values)
        overridden = tuple(name for name in self.fields if name in given and name != "profile")
        return Parameters(self, values, overridden)

    def check_cell(self, declared: Mapping[str, cells.Declared]) -> None:
        """Raise ParameterError unless a parameters cell declares exactly these parameters."""
        faults = [f"{name} is only in the cell" for name in declared if name not in self.fields]
        faults += [f"{name} is missing in the cell" for name in self.fields if name not in declared]
        for name in declared.keys() & self.fields:
            seen, wanted = declared[name].annotation, self.fields[name].type
            if seen.split("[")[0] != wanted.split("[")[0]:  # papermill shows `list`, no more
                faults.append(f"{name} is annotated {seen}, the file says {wanted}")
        if faults:
            raise ParameterError(
                f"the parameters cell and data/profiles/{self.study}.toml differ: "
                f"{'; '.join(faults)}. Change one of the two so that names and types agree."
            )


class Parameters:
    """The validated parameters of a run, read as attributes: `P.k_values` (lists as tuples).

    study, profile, scale: of this run. values: everything as JSON-able values.
    overridden: the names that the caller set, besides the profile. key: sha256 of values.
    """

    study: str
    profile: str
    scale: str
    overridden: tuple[str, ...]

    def __init__(self, spec: Spec, values: Mapping[str, Value], overridden: tuple[str, ...]):
        profile = cast(str, values["profile"])
        self.__dict__.update(_spec=spec, _values=dict(values), study=spec.study, profile=profile)
        self.__dict__.update(scale=spec.profiles[profile].scale, overridden=overridden)

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
        self.__setattr__(name, None)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"Parameters({self.study!r}, {inside})"

    def _repr_html_(self) -> str:
        rows = ["<tr><th>parameter</th><th>value</th><th>from</th><th>meaning</th></tr>"]
        for name, value in self._values.items():
            origin = "set by the caller" if name in self.overridden else f"profile {self.profile}"
            texts = (name, str(value), origin, self._spec.fields[name].help)
            columns = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
            rows.append(f"<tr>{columns}</tr>")
        return f'<table class="parameters">{"".join(rows)}</table>'


def parameters(study: str, In: Sequence[str], namespace: Mapping[str, object]) -> Parameters:
    """The parameters of a running notebook; call it as `parameters("l0", In, globals())`.

    In: the cells executed so far, as IPython keeps them. namespace: the notebook's globals.
    Raises ParameterError for a parameter that is unknown, ill-typed or out of range.
    """
    spec = load_spec(study)
    declared, injected = cells.executed(In)
    spec.check_cell(declared)
    in_cell = {name: line.default for name, line in declared.items()}
    # repr, so that `seed: int = False` is no default
    written = {n: v for n, v in in_cell.items() if n not in COMMON or repr(v) != repr(COMMON[n])}
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
    if not (known := studies()):
        files.checkout()  # outside a checkout this says so
    schema.one_of("study", study, known, ParameterError)
    path = files.root() / "data" / "profiles" / f"{study}.toml"
    try:
        spec = _read(path)
        for profile in (COMMON["profile"], *spec.profiles):
            spec.resolve({"profile": profile})
    except (ParameterError, tomllib.TOMLDecodeError) as error:
        raise ParameterError(f"data/profiles/{path.name}: {error}") from None
    return spec


def _read(path: Path) -> Spec:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    profiles = {}
    for name, row in schema.table(data.pop("profiles", {}), "profiles", ParameterError).items():
        schema.one_of("profile", name, PROFILES, ParameterError)
        profiles[name] = schema.read(Profile, row, f"profiles.{name}", ParameterError, name=name)
    fields = {
        "profile": Field("profile", "str", "size of the run", choices=list(profiles)),
        "seed": Field("seed", "int", "root of all random numbers", min=0, below=2**63, default=0),
    }
    for name, row in schema.table(data.pop("parameters", {}), "parameters", ParameterError).items():
        if name in _RESERVED or name.startswith("_") or keyword.iskeyword(name):
            raise ParameterError(f"parameters.{name}: the name is reserved. Choose another.")
        fields[name] = schema.read(Field, row, f"parameters.{name}", ParameterError, name=name)
    numbers = [name for name, field in fields.items() if field.type in ("int", "float")]
    for name, field in fields.items():
        for kind, bound in field.bounds.items():
            if isinstance(bound, str) and bound not in numbers:
                where, allowed = f"parameters.{name}.{kind}", f"a number or {', '.join(numbers)}"
                raise ParameterError(message(where, bound, allowed, "Correct the bound."))
    spec = schema.read(Spec, data, "the file", ParameterError, profiles=profiles, fields=fields)
    if spec.study != path.stem:
        fix = "Name the file after its study."
        raise ParameterError(message("study", spec.study, repr(path.stem), fix))
    return spec
