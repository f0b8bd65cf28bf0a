"""Random small faults in the syntax tree of a module: the mutation tool of `nox -s sabotage`.

Each mutant changes one comparison, operation, condition or number. Texts of refusals, `__str__`,
annotations and docstrings are left alone: no number depends on them.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

COMPARE: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATE: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
SILENT = {"message", "nearest", "filterwarnings"}  # calls that make texts


class Mutant(NamedTuple):
    """One changed module."""

    line: int
    old: str
    new: str
    text: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    for index, node in enumerate(_sites(tree)):
        for variant in range(len(_changes(node))):
            changed = copy.deepcopy(tree)
            target = _sites(changed)[index]
            old = _shown(target)
            _changes(target)[variant]()
            yield Mutant(node.lineno, old, _shown(target), ast.unparse(changed))


def _shown(node: Any) -> str:
    return ast.unparse(node)[:80]


def _sites(tree: ast.AST) -> list[Any]:
    found: list[Any] = []

    def walk(node: ast.AST) -> None:
        named = getattr(getattr(node, "func", None), "id", "")
        name = getattr(node, "name", "")
        if isinstance(node, ast.Raise | ast.AnnAssign | ast.JoinedStr) or named in SILENT:
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                walk(node.value)
            return
        if name in ("__str__", "__repr__", "_repr_html_"):
            return
        if _changes(node):
            found.append(node)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    walk(child)

    walk(tree)
    return found


def _changes(node: Any) -> list[Any]:
    """What can be done to a node, as functions that do it in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARE:
        return [lambda: node.ops.__setitem__(0, COMPARE[type(node.ops[0])]())]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATE:
        return [lambda: setattr(node, "op", OPERATE[type(node.op)]())]
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        return [lambda: setattr(node, "op", other())]
    if isinstance(node, ast.If | ast.IfExp):
        negated = ast.UnaryOp(ast.Not(), node.test)
        return [lambda: setattr(node, "test", negated)]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return [lambda: setattr(node, "value", node.value + 1)]
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        return [lambda: setattr(node, "value", not node.value)]
    if isinstance(node, ast.Constant) and type(node.value) is float:
        return [lambda: setattr(node, "value", node.value * 1.5 + 0.1)]
    return []
