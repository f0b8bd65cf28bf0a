"""Source code read as syntax, never run: what it imports, and which cells only draw."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Mapping, Sequence
from typing import Any

WORKS = re.compile(  # training, recording, changes in place, magics
    r"\b(ledger|record|sweep|train|inplace|del|global)\b|\.(append|extend|insert|update|pop)\("
    r"|\]\s*=[^=]|[-+*/|&]=[^=]|^\s*[%!]",
    re.MULTILINE,
)


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

    A cell only draws if it is tagged `hide-input`, has a figure's words, has nothing that looks
    like more (`WORKS`), and sets no name that a later cell which counts reads.
    """
    counting, read = list[str](), set[str]()
    for cell in reversed(cells):
        text, metadata = "".join(cell["source"]), cell["metadata"]
        hidden = "hide-input" in metadata.get("tags", []) and "mystnb" in metadata
        if not hidden or WORKS.search(text) or bound(text) & read:
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
