"""Source code read as syntax, never run: what it imports, and which cells only draw."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Mapping, Sequence
from typing import Any

DRAWS = {"plt", "sns", "figures", "display"}  # what a drawing cell may call for its effect


def imports(text: str, package: Sequence[str]) -> set[str]:
    """The modules that the source of a module in `package` may import, parents included.

    `from a import b` names a module a.b or a value b of a: both stand in the answer. Imports
    inside functions count although they have not run; those for type checkers alone do not.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {".".join(each.split(".")[:end]) for each in found for end in range(1, 9)}


def computing(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The source of each code cell that may change a number: of all but those that only draw.

    A cell only draws if it is tagged `hide-input`, has a figure's words, calls nothing for its
    effect but what draws, changes nothing in place, and sets no name that a later cell which
    counts reads. In doubt a cell counts.
    """
    counting, read = list[str](), set[str]()
    for cell in reversed(cells):
        text = "".join(cell["source"])
        if not _only_draws(cell["metadata"], text) or bound(text) & read:
            counting.insert(0, text)
            read |= reads(text)
    return counting


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
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return False
    in_place = ast.AugAssign | ast.Delete | ast.Global
    stored = (node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store))
    if any(isinstance(node, in_place) for node in nodes) or any(
        isinstance(node, ast.Attribute | ast.Subscript) for node in stored
    ):
        return False
    called = {_root(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return called <= DRAWS | bound(text)


def _root(node: ast.AST) -> str:
    """`axes` for `axes[0].set(x=1)`."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
