"""Typed, closed parameters: a profile fills what the caller left open.

`data/profiles/<study>.toml` holds each parameter's type, range, help and its value per
profile. A notebook calls `parameters(study, In, globals())` right after its parameters
cell; the driver calls `load_spec(study).resolve(given)` before it starts a kernel.
"""

from __future__ import annotations

import html
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from .. import files
from ..errors import ParameterError, message, nearest
from . import cells, schema
from .fields import Field, Value

ProfileName = Literal["smoke", "laptop", "full", "paper"]  # from least to most compute
PROFILES: tuple[str, ...] = get_args(ProfileName)

COMMON = {"profile": "laptop", "seed": 0}  # what every parameters cell sets in its source
_RESERVED = {"study", "spec", "values", "overridden", "key", *COMMON}


@dataclass(frozen=True)
class Profile:
    """What a profile costs: expected seconds, disk in MB."""

    name: str
    seconds: float
    disk_mb: float


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
            name: each.convert(given[name] if name in given else each.value_at(str(profile)))
            for name, each in self.fields.items()
        }
        for name, each in self.fields.items():
            each.check(values[name], values)
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


@dataclass(frozen=True)
class Parameters:
    """The validated parameters of a run, read as attributes: `P.k_values` (lists as tuples).

    values: everything as JSON-able values. overridden: the names that the caller set, besides the
    profile. study, profile: of this run. key: hash of values.
    """

    spec: Spec = field(repr=False)
    values: dict[str, Value]
    overridden: tuple[str, ...]

    @property
    def study(self) -> str:
        return self.spec.study

    @property
    def key(self) -> str:
        return files.digest(self.values)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})  # empty while a copy is being made
        if name not in values:
            raise AttributeError(f"no parameter {name!r}. {nearest(name, values)}")
        value = values[name]
        return tuple(value) if isinstance(value, list) else value

    def _repr_html_(self) -> str:
        rows = ["<tr><th>parameter</th><th>value</th><th>from</th><th>meaning</th></tr>"]
        for name, value in self.values.items():
            origin = "set by the caller" if name in self.overridden else f"profile {self.profile}"
            texts = (name, str(value), origin, self.spec.fields[name].help)
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
    for name, row in data.pop("profiles", {}).items():
        schema.one_of("profile", name, PROFILES, ParameterError)
        profiles[name] = schema.read(Profile, row, f"profiles.{name}", ParameterError, name=name)
    fields = {
        "profile": Field("profile", "str", "size of the run", choices=list(profiles)),
        "seed": Field("seed", "int", "root of all random numbers", min=0, below=2**63, default=0),
    }
    for name, row in data.pop("parameters", {}).items():
        if name in _RESERVED:
            raise ParameterError(f"parameters.{name}: the name is reserved. Choose another.")
        fields[name] = schema.read(Field, row, f"parameters.{name}", ParameterError, name=name)
    numbers = [name for name, each in fields.items() if each.type in ("int", "float")]
    for name, each in fields.items():
        for kind, bound in each.bounds.items():
            if isinstance(bound, str):
                schema.one_of(f"parameters.{name}.{kind}", bound, numbers, ParameterError)
    spec = schema.read(Spec, data, "the file", ParameterError, profiles=profiles, fields=fields)
    schema.one_of("study", spec.study, [path.stem], ParameterError)
    return spec
