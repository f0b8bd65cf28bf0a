"""What users see: names, what an import costs, and which module may know which."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import srclib
from srclib import fingerprint, store

# From the ground up: a module may import from the rows above its own, never from its own row or
# from below. Imports that never run (`if TYPE_CHECKING:`) do not count; those in functions do.
LADDER = """
errors
store rng kernels sources config
figures probing fingerprint activations metrics params.fields params.cells claims.measurement
sae sources.tensor sources.toy params.specfile claims.rules claims.verdicts
checkpoint gradients init control params claims.ledgerfile
objectives claims
state driver driver.plan driver.jobs
trainer driver.records driver.book_pages
runs driver.gate driver.verify
driver.kernel driver.book
driver.execute
driver.cli
__main__
"""
ROW = {f"srclib.{m}": i for i, row in enumerate(LADDER.split("\n")) for m in row.split()}


def modules() -> list[str]:
    return [name for name in fingerprint.all_modules() if name != "srclib"]


@pytest.mark.parametrize("name", modules())
def test_imports_point_down_the_ladder(name: str) -> None:
    assert name in ROW, f"{name} has no place in the ladder: add it below all that it imports"
    for other in imported(name):
        assert ROW[other] < ROW[name], f"{name} imports {other}, which stands no higher than it"


def test_the_ladder_names_modules_that_exist() -> None:
    assert set(ROW) == set(modules())


def imported(name: str) -> set[str]:
    """The modules of srclib in a module's import statements, those that never run aside."""
    path = fingerprint.module_path(name)
    assert path is not None
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(
                [*package[: len(package) - node.level + 1], *filter(None, [node.module])]
            )
            # `from . import store` names modules, `from .store import root` a value of one
            found |= {f"{base}.{alias.name}" for alias in node.names} if not node.module else {base}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return {each for each in found if each in ROW}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from running(node)


def test_the_walk_sees_imports_of_every_form() -> None:
    """The layering test is worth as much as this list is long."""
    assert "srclib.objectives" in imported("srclib.trainer")  # from . import objectives
    assert "srclib.sae" in imported("srclib.trainer")  # from .sae import SAE
    assert "srclib.driver.execute" in imported("srclib.driver.cli")  # inside a function
    assert "srclib.errors" in imported("srclib.sources.toy")  # from ..errors import message
    assert "srclib.control" not in imported("srclib.trainer")  # for the type checker only


@pytest.mark.parametrize("name", srclib.__all__)
def test_every_public_name_explains_itself(name: str) -> None:
    value = getattr(srclib, name)
    text = inspect.getdoc(value)
    assert text and len(text.split()) >= 3
    if not inspect.ismodule(value):
        assert "TrainResult(" not in text and not text.startswith(f"{name}(")  # made up by Python


def test_names_are_listed_and_others_are_none() -> None:
    assert len(set(srclib.__all__)) == len(srclib.__all__)
    assert set(srclib.__all__) <= set(dir(srclib))
    with pytest.raises(AttributeError, match="module 'srclib' has no attribute 'trian'"):
        srclib.trian  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    """The lazy table and the imports under `if TYPE_CHECKING:` are written twice."""
    tree = ast.parse(Path(srclib.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.name == alias.asname  # the form that type checkers take as an export
            seen[alias.name] = node.module
    homes = {name: srclib._HOME.get(name) for name in srclib.__all__}
    assert seen == homes


CHEAP = ["srclib", "srclib.errors", "srclib.store", "srclib.fingerprint", "srclib.params"]
CHEAP += ["srclib.claims", "srclib.driver.cli"]
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "transformers",
    "datasets",
    "matplotlib",
    "papermill",
}
USED = ["srclib.trainer", "srclib.runs", "srclib.metrics", "srclib.control", "srclib.checkpoint"]


def loaded_after(*imports: str) -> set[str]:
    """Top-level packages in a fresh interpreter after some imports."""
    code = f"import {', '.join(imports)}, sys, json\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_a_plain_import_loads_nothing_heavy() -> None:
    """Nor do the modules behind `list` and `claims`."""
    assert not loaded_after(*CHEAP) & HEAVY


def test_training_needs_no_notebook_and_no_language_model() -> None:
    heavy = loaded_after(*USED) & HEAVY
    assert "torch" in heavy
    assert not heavy & {"transformers", "datasets", "matplotlib", "papermill"}


def test_this_is_the_checkout_under_test() -> None:
    assert Path(srclib.__file__).parent.parent == store.root()
