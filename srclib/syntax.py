"""Source code read as syntax, never run: what counts of it, what it imports, which cells draw."""

from __future__ import annotations

import ast
import functools
import re
import symtable
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import files

DRAWS = {"plt", "sns", "figures", "display"}  # what a drawing cell may call for its effect


@functools.lru_cache(maxsize=1024)
def source_hash(text: str) -> str:
    """Hash of Python source without comments, docstrings, layout and the texts of refusals.

    Every other edit counts. Text that is no plain Python, such as a magic, counts verbatim.
    """
    try:
        return files.sha256(_outline(ast.parse(text)))
    except SyntaxError:
        return files.sha256(text)


def _outline(node: Any, refusal: bool = False) -> str:
    """A syntax tree as text. `ast.dump` is not used: it differs between Python versions."""
    if isinstance(node, list):
        return "[" + ",".join(_outline(each, refusal) for each in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    refusal = refusal or isinstance(node, ast.Raise)
    parts = []
    for field, value in ast.iter_fields(node):
        if field == "body" and _has_docstring(node):
            value = value[1:]
        if field == "value" and isinstance(node, ast.Constant):
            parts.append("str" if refusal and type(value) is str else f"{type(value)}:{value!r}")
        elif value is not None and value != [] and field != "kind":
            parts.append(f"{field}={_outline(value, refusal)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _has_docstring(node: ast.AST) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None


def imports(text: str, package: Sequence[str]) -> set[str]:
    """The modules that the source of a module in `package` may import, parents included.

    `from a import b` names a module a.b or a value b of a: both stand in the answer. Imports
    inside functions count although they have not run; those for type checkers alone do not.
    """
    found: set[str] = set()
    for node in _running(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {".".join(each.split(".")[:end]) for each in found for end in range(1, 9)}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module but those below `if TYPE_CHECKING:`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _running(node)


def declares(text: str, line: str) -> bool:
    """Whether a module has this assignment at its top level."""
    top = ast.parse(text).body if line.split()[0] in text else []
    return any(isinstance(node, ast.Assign) and ast.unparse(node) == line for node in top)


def computing(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The source of each code cell that may change a number: of all but those that only draw.

    A cell only draws if it is tagged `hide-input`, has a figure's words, calls nothing for its
    effect but what draws, changes nothing in place, and sets no name that a cell which counts
    reads. In doubt a cell counts.
    """
    texts = ["".join(cell["source"]) for cell in cells]
    drawing = {i for i, cell in enumerate(cells) if _only_draws(cell["metadata"], texts[i])}
    while True:
        read = {name for i, text in enumerate(texts) if i not in drawing for name in reads(text)}
        safe = {i for i in drawing if not bound(texts[i]) & read}
        if safe == drawing:
            return [text for i, text in enumerate(texts) if i not in drawing]
        drawing = safe


def bound(text: str) -> set[str]:
    """The names that a cell leaves behind."""
    symbols = symtable.symtable(text, "cell", "exec").get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}


def reads(text: str) -> set[str]:
    """The names that a cell takes from earlier ones, in whatever function it reads them."""
    try:
        scopes, found, own = [symtable.symtable(text, "cell", "exec")], set[str](), bound(text)
    except SyntaxError:  # a magic: any word may be a name
        return set(re.findall(r"\w+", text))
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        found |= {s.get_name() for s in scope.get_symbols() if s.is_referenced() and s.is_global()}
    return found - own


def _only_draws(metadata: Mapping[str, Any], text: str) -> bool:
    if "hide-input" not in metadata.get("tags", []) or "mystnb" not in metadata:
        return False
    try:
        tree, allowed = ast.parse(text), DRAWS | bound(text)
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        stores = not isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        if stores and not isinstance(node, ast.Name | ast.Tuple | ast.List):
            return False
        if isinstance(node, ast.AugAssign | ast.Delete | ast.Global):
            return False
        if isinstance(node, ast.Expr) and _root(node.value) not in allowed:
            return False
    return True


def _root(node: ast.AST) -> str:
    """`axes` for `axes[0].set(x=1)`."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
