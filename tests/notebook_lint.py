"""What a source notebook must look like; one sentence per problem.

`problems(path)` needs the notebook only; agreement with its profile file is the business of
`srclib.suite.params`.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from srclib.store import syntax

MAX_LINES = 40  # a cell fits on a screen
DRAWING = {"plt", "sns", "figures", "ax", "axes"}  # the names that figures are drawn with
WORK = {"record", "train", "sweep"}
QUIET = {
    "use_style",
    "set_theme",
    "set_style",
    "set_context",
    "color_palette",
    "set_palette",
    "rc",
    "use",
}
MOST_LINES = 550  # of code in a notebook, parameters and imports aside
MOST_IN_A_FUNCTION = 15  # a formula or a recipe of the paper; what is longer belongs to srclib
ABSOLUTE = re.compile(r"^(?:/(?:home|Users|root|tmp|mnt|data|var|opt|usr|content)\b|~/|[A-Z]:\\)")


def problems(path: Path) -> list[str]:
    """Every way in which the notebook breaks the rules of CONTRIBUTING.md."""
    notebook = _read(path)
    code = [cell for cell in code_cells(notebook) if cell.source.strip()]
    found = list(_notebook_problems(notebook, code))
    parameters: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        where = f"cell {number} (`{next(iter(cell.source.strip().splitlines()), '')[:50]}`)"
        found += [f"{where}: {problem}" for problem in _state_problems(cell)]
        if cell.cell_type != "code":
            continue
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            found.append(f"{where}: no plain Python, magics and `!` are not allowed ({error.msg})")
            continue
        is_parameters = "parameters" in cell.metadata.get("tags", [])
        checks = [*_code_problems(cell, tree)]
        checks += [] if is_parameters else _bare_names(tree, parameters)
        found += [f"{where}: {problem}" for problem in checks]
        if is_parameters:
            parameters |= set(_bound(tree))
    return found + _hidden_work(code)


def _hidden_work(code: list[NotebookNode]) -> list[str]:
    """A cell whose code the page hides must not compute what a later cell records."""
    found, hidden = [], dict[str, str]()
    for cell in code:
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue  # reported elsewhere
        stored = set(_bound(tree))
        if _works(tree):
            found += [
                f"cell `{hidden[name]}`: is hidden and assigns {name}, which a claim reads; "
                "compute it in a cell of its own"
                for name in sorted(syntax.reads(cell.source) & hidden.keys())
            ]
        draws = "hide-input" in cell.metadata.get("tags", []) and _draws(tree)
        hidden = {name: where for name, where in hidden.items() if name not in stored}
        hidden |= dict.fromkeys(stored, cell.source.splitlines()[0][:50]) if draws else {}
    return found


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figure_names(path: Path) -> list[str]:
    """The label of every figure cell, for the check that no two notebooks share one."""
    cells = code_cells(_read(path))
    figures = [cell.metadata.get("mystnb", {}).get("figure", {}) for cell in cells]
    return [figure["name"] for figure in figures if "name" in figure]


def _read(path: Path) -> NotebookNode:
    """As it stands: `nbformat.read` would mend duplicate ids before we could see them."""
    notebook = nbformat.from_dict(json.loads(path.read_text(encoding="utf-8")))
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
    return notebook


def _notebook_problems(notebook: NotebookNode, code: list[NotebookNode]) -> Iterator[str]:
    tagged = [i for i, cell in enumerate(code) if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [0]:
        yield "exactly one cell, the first code cell, must be tagged 'parameters'"
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"kernel {kernel!r}: must be 'python3', which every environment has"
    if "papermill" in notebook.metadata:
        yield "metadata of papermill: this is an executed notebook, not a source"
    ids = Counter(cell.get("id") for cell in notebook.cells)
    for id, count in ids.items():
        if id is None or count > 1:
            yield f"cell id {id!r} occurs {count} times; ids must be unique"
    work = [cell for cell in code[1:] if "srclib.parameters(" not in cell.source]
    lines = sum(1 for cell in work for line in cell.source.splitlines() if line.strip())
    if lines > MOST_LINES:
        yield f"{lines} lines of code; allowed are {MOST_LINES}. Methods belong to srclib"
    headings = [heading for cell in notebook.cells for heading in _h1(cell)]
    if len(headings) != 1 or not _h1(notebook.cells[0]):
        yield f"H1 headings {headings}: the first cell must hold the only one"


def _h1(cell: NotebookNode) -> list[str]:
    if cell.cell_type != "markdown":
        return []
    return re.findall(r"^# .*", re.sub(r"```.*?```", "", cell.source, flags=re.S), flags=re.M)


def _state_problems(cell: NotebookNode) -> Iterator[str]:
    if cell.get("outputs") or cell.get("execution_count") is not None:
        yield "has outputs or an execution count; run nbstripout"
    if "papermill" in cell.metadata or "injected-parameters" in cell.metadata.get("tags", []):
        yield "was written by papermill; remove it"


def _code_problems(cell: NotebookNode, tree: ast.Module) -> Iterator[str]:
    lines = len(cell.source.splitlines())
    if lines > MAX_LINES and "parameters" not in cell.metadata.get("tags", []):  # a list of names
        yield f"{lines} lines; allowed are {MAX_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and _length(node) > MOST_IN_A_FUNCTION:
            yield (
                f"{node.name} has {_length(node)} lines; allowed are {MOST_IN_A_FUNCTION}, for a "
                "formula or a recipe of the paper. What is longer belongs to srclib"
            )
        if isinstance(node, ast.ClassDef):
            yield f"defines the class {node.name}; classes belong to srclib"
        if isinstance(node, ast.Constant) and ABSOLUTE.match(str(node.value)):
            yield f"absolute path {node.value!r}"
        if isinstance(node, ast.Constant) and str(node.value).startswith(("data/", "build/")):
            yield f"path {node.value!r} depends on the working directory; use srclib.data_path"
        if isinstance(node, ast.Name) and node.id == "get_ipython":
            yield "a magic by another name"
    if _draws(tree):
        yield from _figure_problems(cell)
        if not _works(tree) and "hide-input" not in cell.metadata.get("tags", []):
            yield "only draws; tag it 'hide-input', so that the page shows the figure first"


def _length(function: ast.FunctionDef) -> int:
    """Lines of a function's body, its docstring aside."""
    documented = ast.get_docstring(function) is not None
    start = function.body[1 if documented and len(function.body) > 1 else 0]
    return (function.end_lineno or start.lineno) - start.lineno + 1


def _draws(tree: ast.Module) -> bool:
    """Whether the cell calls a plotting function outside the helpers it defines."""
    statements = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    for node in (inner for statement in statements for inner in ast.walk(statement)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            root: ast.expr = node.func
            while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
                root = root.func if isinstance(root, ast.Call) else root.value
            if isinstance(root, ast.Name) and root.id in DRAWING and node.func.attr not in QUIET:
                return True
    return False


def _works(tree: ast.Module) -> bool:
    """Whether the cell trains something or records a claim: that the page shows."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls]
    return any(name in WORK for name in names)


def _figure_problems(cell: NotebookNode) -> Iterator[str]:
    words = cell.metadata.get("mystnb", {})
    figure = words.get("figure", {})
    given = {
        "image.alt": words.get("image", {}).get("alt"),
        "figure.caption": figure.get("caption"),
        "figure.name": figure.get("name"),
    }
    for name, text in given.items():
        if not str(text or "").strip():
            yield f"draws a figure without mystnb.{name} in its metadata"
    if figure.get("caption") and not re.match(r"\*\*.+?[.?!]\*\* ", figure["caption"]):
        yield "figure.caption: must begin with its finding, `**What is so.** What is drawn.`"
    if figure.get("name") and not str(figure["name"]).startswith("fig-"):
        yield f"figure name {figure['name']!r}: must start with 'fig-'"


def _bare_names(tree: ast.Module, parameters: set[str]) -> Iterator[str]:
    """After validation `quick` may still be the text "false"; only `P.quick` is safe."""
    own = set(_bound(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in parameters - own:
            yield f"reads the bare parameter {node.id}; write P.{node.id}"


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
