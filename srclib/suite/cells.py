"""The parameters cell of a notebook, read as syntax: names, annotations, literals.

What a caller set is read from the cells' source, never guessed from values: a value that
equals a default may still have been set on purpose.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import NotebookError, ParameterError

_NOT_FINITE = ("float('nan')", "float('inf')", "float('-inf')")  # how papermill writes these


class Declared(NamedTuple):
    """One line of a parameters cell: `k_values: list = None`; no annotation where injected."""

    annotation: str
    default: object


def read_cell(source: str, where: str = "parameters cell") -> dict[str, Declared]:
    """The parameters that a cell declares; it may hold annotated literals and comments only."""
    declared: dict[str, Declared] = {}
    for node in ast.parse(source).body:
        try:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    line = Declared(ast.unparse(node.annotation), _literal(value))
                case _:
                    raise ValueError
        except ValueError:
            raise ParameterError(
                f"{where}, line {node.lineno}: {ast.unparse(node)!r} is not allowed; allowed is "
                "`name: type = literal  # comment`. Compute derived values in a later cell, from P."
            ) from None
        if name in declared:
            raise ParameterError(f"{where}: {name} is declared twice. Keep one line for it.")
        declared[name] = line
    return declared


def read_notebook(path: Path) -> dict[str, Declared]:
    """The parameters cell (the one code cell tagged "parameters") of a notebook file."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [
            "".join(cell["source"])
            for cell in cells
            if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", [])
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotebookError(
            f"{path.name}: cannot be read as a notebook ({type(error).__name__}: {error}). "
            "Give the path of an .ipynb file."
        ) from None
    if len(tagged) != 1:
        raise NotebookError(
            f"{path.name}: {len(tagged)} code cells are tagged 'parameters'; allowed is exactly "
            "one. Tag the first code cell, and no other."
        )
    try:
        return read_cell(tagged[0], f"{path.name}, parameters cell")
    except SyntaxError as error:
        raise NotebookError(
            f"{path.name}, parameters cell, line {error.lineno}: {error.msg}. Mend the line."
        ) from None


def executed(inputs: Sequence[str]) -> tuple[dict[str, Declared], dict[str, object]]:
    """What a running kernel declared and what was injected.

    inputs: IPython's `In`; its last entry is the cell that runs now and is not looked at.
    Returns the last declared parameters cell and the values that papermill's cells after
    it assign (a later one wins).
    """
    declared: dict[str, Declared] = {}
    injected: dict[str, object] = {}
    for source in inputs[:-1]:
        if source.lstrip().startswith("# Parameters"):
            injected |= _injected(source)
        elif _declares_profile(source):
            declared, injected = read_cell(source), {}
    if not declared:
        raise ParameterError(
            "no parameters cell has been run: allowed is one that holds `profile: str = ...`. "
            "Run the first code cell, then this one."
        )
    return declared, injected


def differences(declared: Mapping[str, Declared], types: Mapping[str, str]) -> str:
    """How a parameters cell and {name: type} of a profile file differ; "" when they agree."""
    faults = [f"{name} is only in the cell" for name in declared if name not in types]
    faults += [f"{name} is missing in the cell" for name in types if name not in declared]
    for name, cell in declared.items():
        wanted = types.get(name, cell.annotation).split("[")[0]  # papermill shows `list`, no more
        if cell.annotation.split("[")[0] != wanted:
            faults.append(f"{name} is annotated {cell.annotation}, the file says {wanted}")
    return "; ".join(faults)


def _injected(source: str) -> dict[str, object]:
    values: dict[str, object] = {}
    for node in ast.parse(source).body:
        try:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    values[name] = _literal(value)
                case _:
                    raise ValueError
        except ValueError:
            raise ParameterError(
                f"injected cell, line {node.lineno}: {ast.unparse(node)!r} is no assignment of "
                "a literal. Pass parameters with -p NAME VALUE."
            ) from None
    return values


def _literal(node: ast.expr) -> object:
    text = ast.unparse(node)
    return float(text.split("'")[1]) if text in _NOT_FINITE else ast.literal_eval(node)


def _declares_profile(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic or a cell that failed: not the parameters cell
        return False
    targets = [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return any(isinstance(target, ast.Name) and target.id == "profile" for target in targets)
