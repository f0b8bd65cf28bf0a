"""The parameters cell of a notebook, read as syntax: names, annotations, literals.

What a caller set is read from the cells' source, never guessed from values: a value that
equals a default may still have been set on purpose.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import NotebookError, ParameterError


class Declared(NamedTuple):
    """One line of a parameters cell: `k_values: list = None`; no annotation where injected."""

    annotation: str
    default: object


def read_notebook(path: Path) -> dict[str, Declared]:
    """The parameters cell (the one code cell tagged "parameters") of a notebook file."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotebookError(
            f"{path.name}: cannot be read as a notebook ({type(error).__name__}: {error}). "
            "Give the path of an .ipynb file."
        ) from None
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(
            f"{path.name}: {len(tagged)} code cells are tagged 'parameters'; allowed is exactly "
            "one. Tag the first code cell, and no other."
        )
    where = f"{path.name}, parameters cell"
    try:
        return _read("".join(tagged[0]["source"]), where)
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}. Mend the line.") from None


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
            lines = _read(source, "injected cell", injected=True)
            injected |= {name: line.default for name, line in lines.items()}
        elif re.search(r"^profile *:", source, re.MULTILINE):
            declared, injected = _read(source, "parameters cell"), {}
    if not declared:
        raise ParameterError(
            "no parameters cell has been run: allowed is one that holds `profile: str = ...`. "
            "Run the first code cell, then this one."
        )
    return declared, injected


def _read(source: str, where: str, injected: bool = False) -> dict[str, Declared]:
    """Name and literal of each line of a cell, which holds nothing else."""
    form = "`name = literal`. Pass parameters with -p NAME VALUE."
    if not injected:
        form = "`name: type = literal  # comment`. Compute derived values in a later cell, from P."
    found = {}
    for node in ast.parse(source).body:
        try:
            match node:
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()) if not injected:
                    annotation = ast.unparse(node.annotation)
                case ast.Assign(targets=[ast.Name(id=name)]) if injected:
                    annotation = ""
                case _:
                    raise ValueError
            literal = ast.literal_eval(node.value)  # type: ignore[arg-type]
        except ValueError:
            seen = f"line {node.lineno}: {ast.unparse(node)!r}"
            raise ParameterError(f"{where}, {seen} is not allowed; allowed is {form}") from None
        found[name] = Declared(annotation, literal)
    return found
