"""The parameters cell of a notebook, read as syntax: names, annotations, literals.

What a caller set is read from the cells' source, never guessed from values: a value that
equals a default may still have been set on purpose.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
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
    form = "`name: type = literal  # comment`. Compute derived values in a later cell, from P."
    declared: dict[str, Declared] = {}
    for name, line in _lines(source, ast.AnnAssign, where, form):
        if name in declared:
            raise ParameterError(f"{where}: {name} is declared twice. Keep one line for it.")
        declared[name] = line
    return declared


def read_notebook(path: Path | str) -> dict[str, Declared]:
    """The parameters cell (the one code cell tagged "parameters") of a notebook file."""
    path = Path(path)
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
            form = "`name = literal`. Pass parameters with -p NAME VALUE."
            lines = _lines(source, ast.Assign, "injected cell", form)
            injected |= {name: line.default for name, line in lines}
        elif re.search(r"^profile *:", source, re.MULTILINE):
            declared, injected = read_cell(source), {}
    if not declared:
        raise ParameterError(
            "no parameters cell has been run: allowed is one that holds `profile: str = ...`. "
            "Run the first code cell, then this one."
        )
    return declared, injected


def _lines(
    source: str, kind: type[ast.stmt], where: str, form: str
) -> Iterator[tuple[str, Declared]]:
    """Name and literal of each line; all must be of one kind of assignment."""
    for node in ast.parse(source).body:
        try:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    annotation = ast.unparse(node.annotation)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    annotation = ""
                case _:
                    raise ValueError
            text = ast.unparse(value)
            literal = float(text[7:-2]) if text in _NOT_FINITE else ast.literal_eval(value)
            if not isinstance(node, kind):
                raise ValueError
        except ValueError:
            raise ParameterError(
                f"{where}, line {node.lineno}: {ast.unparse(node)!r} is not allowed; "
                f"allowed is {form}"
            ) from None
        yield name, Declared(annotation, literal)
