"""The parameters cell of a notebook, read as names and literals without running it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import NamedTuple

from ..errors import NotebookError, ParameterError


class Declared(NamedTuple):
    """One line of a parameters cell: `k_values: list = None`; no annotation where injected."""

    annotation: str
    default: object


def parameters_cell(path: Path) -> dict[str, Declared]:
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
        return assigned(sources[0], where)
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: {error.msg}. Mend the line.") from None


def assigned(source: str, where: str, injected: bool = False) -> dict[str, Declared]:
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
