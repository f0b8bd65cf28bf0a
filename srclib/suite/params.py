"""Typed, closed parameters: a profile fills what the caller left open.

`data/profiles/<study>.toml` holds each parameter's type, range, help and its value per
profile. A notebook calls `parameters(study, In, globals())` right after its parameters
cell; the driver calls `load_spec(study).resolve(given)` before it starts a kernel. What a caller
set is read from the cells' source, never guessed from values: a value that equals a default may
still have been set on purpose.
"""

from __future__ import annotations

import ast
import functools
import html
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .. import files
from ..errors import NotebookError, ParameterError, message, nearest
from .schema import KINDS, Field, one_of, read

PROFILES = ("smoke", "laptop", "full", "paper")  # from least to most compute

COMMON = {  # what every parameters cell sets in its source
    "profile": "laptop",
    "seed": 0,
    "device": "auto",
    "dtype": "auto",
}
_RESERVED = {"study", "spec", "values", "overridden", "key", *COMMON}


class Declared(NamedTuple):
    """One line of a parameters cell: `k_values: list = None`; no annotation where injected."""

    annotation: str
    default: object


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
        given = {"profile": COMMON["profile"]} | {
            name: value for name, value in given.items() if value is not None
        }
        for name in given:
            if name not in self.fields:
                what, known = f"unknown parameter {name}", ", ".join(self.fields)
                raise ParameterError(message(what, given[name], known, nearest(name, self.fields)))
        profile = self.fields["profile"].accept(given["profile"], {})
        left = {n: f.value_at(profile) for n, f in self.fields.items() if n not in given}
        values = {name: each.accept((left | given)[name]) for name, each in self.fields.items()}
        for name, each in self.fields.items():
            each.accept(values[name], values)
        overridden = tuple(name for name in self.fields if name in given and name != "profile")
        return Parameters(self, values, overridden)

    def check_cell(self, declared: Mapping[str, Declared]) -> None:
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
    values: dict[str, Any]
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
        return tuple(values[name]) if isinstance(values[name], list) else values[name]

    def _repr_html_(self) -> str:
        rows = ["<tr><th>parameter</th><th>value</th><th>from</th><th>meaning</th></tr>"]
        for name, value in self.values.items():
            origin = "set by the caller" if name in self.overridden else f"profile {self.profile}"
            texts = (name, str(value), origin, self.spec.fields[name].help)
            rows.append(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in texts)}</tr>")
        return f'<table class="parameters">{"".join(rows)}</table>'


def parameters(study: str, In: Sequence[str], namespace: Mapping[str, object]) -> Parameters:
    """The parameters of a running notebook; call it as `parameters("l0", In, globals())`.

    In: the cells executed so far, as IPython keeps them; the last one runs now. namespace: the
    notebook's globals. Raises ParameterError for a parameter that is unknown, ill-typed or out of
    range. Of papermill's cells after the last parameters cell, a later one wins. From here on the
    notebook, and what it starts, computes on the device asked for.
    """
    from .. import place  # torch: here alone

    spec = load_spec(study)
    declared: dict[str, Declared] = {}
    injected: dict[str, Declared] = {}
    for source in In[:-1]:
        if source.lstrip().startswith("# Parameters"):
            injected |= _assigned(source, "injected cell", injected=True)
        elif re.search(r"^profile *:", source, re.MULTILINE):
            declared, injected = _assigned(source, "parameters cell"), {}
    if not declared:
        raise ParameterError(
            "no parameters cell has been run: allowed is one that holds `profile: str = ...`. "
            "Run the first code cell, then this one."
        )
    spec.check_cell(declared)
    seen = {name: line.default for name, line in (declared | injected).items()}
    # repr, so that `seed: int = False` is no default
    own = [n for n in seen if n in injected or repr(seen[n]) != repr(COMMON.get(n))]
    resolved = spec.resolve({name: seen[name] for name in own})
    for name, value in seen.items():
        if repr(namespace.get(name)) != repr(value):
            fix = "Change the parameters cell and run it again."
            raise ParameterError(message(name, namespace.get(name), f"{value!r}, as set", fix))
    place.use(resolved.device, resolved.dtype)
    return resolved


def read_notebook(path: Path) -> dict[str, Declared]:
    """The parameters cell (the one code cell tagged "parameters") of a notebook file."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged]
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        told = f"cannot be read as a notebook ({type(error).__name__}: {error})"
        raise NotebookError(f"{path.name}: {told}. Give the path of an .ipynb file.") from None
    if len(tagged) != 1:
        raise NotebookError(
            f"{path.name}: {len(tagged)} code cells are tagged 'parameters'; allowed is exactly "
            "one. Tag the first code cell, and no other."
        )
    where = f"{path.name}, parameters cell"
    try:
        return _assigned(sources[0], where)
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}. Mend the line.") from None


def _assigned(source: str, where: str, injected: bool = False) -> dict[str, Declared]:
    """Name and literal of each line of a cell, which holds nothing else."""
    form = "`name: type = literal  # comment`. Compute derived values in a later cell, from P."
    if injected:
        form = "`name = literal`. Pass parameters with -p NAME VALUE."
    found = {}
    for node in ast.parse(source).body:
        try:
            match node:
                case ast.AnnAssign(ast.Name(name), kind, ast.expr() as value) if not injected:
                    found[name] = Declared(ast.unparse(kind), ast.literal_eval(value))
                case ast.Assign([ast.Name(name)], value) if injected:
                    found[name] = Declared("", ast.literal_eval(value))
                case _:
                    raise ValueError
        except (ValueError, TypeError):  # the other for a key that has no hash
            seen = f"line {node.lineno}: {ast.unparse(node)!r}"
            raise ParameterError(f"{where}, {seen} is not allowed; allowed is {form}") from None
    return found


def studies() -> list[str]:
    """The studies that have a profile file, sorted by name."""
    return sorted(path.stem for path in (files.root() / "data" / "profiles").glob("*.toml"))


def load_spec(study: str) -> Spec:
    """Read `data/profiles/<study>.toml`; every profile must resolve within the ranges."""
    if not (known := studies()):
        files.checkout()  # outside a checkout this says so
    one_of("study", study, known, ParameterError)
    path = files.root() / "data" / "profiles" / f"{study}.toml"
    try:
        return _spec(study, path.read_text(encoding="utf-8"))
    except (ParameterError, OSError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ParameterError(f"data/profiles/{path.name}: {told}") from None


@functools.lru_cache
def _spec(study: str, text: str) -> Spec:
    data, profiles = tomllib.loads(text), {}
    for name, row in data.pop("profiles", {}).items():
        one_of("profile", name, PROFILES, ParameterError)
        profiles[name] = read(Profile, row, f"profiles.{name}", ParameterError, name=name)
    fields = {
        "profile": Field("profile", "str", "size of the run", choices=list(profiles)),
        "seed": Field("seed", "int", "root of all random numbers", min=0, below=2**63, default=0),
        "device": Field("device", "str", "auto (an accelerator where there is one), cpu, cuda:0 …",
                        default="auto"),
        "dtype": Field("dtype", "str", "of language models; auto: bfloat16 on an accelerator",
                       choices=["auto", "float32", "bfloat16"], default="auto"),
    }  # fmt: skip
    for name, row in data.pop("parameters", {}).items():
        if name in _RESERVED:
            raise ParameterError(f"parameters.{name}: the name is reserved. Choose another.")
        fields[name] = read(Field, row, f"parameters.{name}", ParameterError, name=name)
        one_of(f"parameters.{name}: type", fields[name].type, KINDS, ParameterError)
    numbers = [name for name, each in fields.items() if each.type in ("int", "float")]
    for name, each in fields.items():
        for kind, bound in each.bounds.items():
            if isinstance(bound, str):
                one_of(f"parameters.{name}.{kind}", bound, numbers, ParameterError)
    one_of("study", data.get("study", ""), [study], ParameterError)
    spec = read(Spec, data, "the file", ParameterError, profiles=profiles, fields=fields)
    for profile in (COMMON["profile"], *profiles):
        spec.resolve({"profile": profile})
    return spec
