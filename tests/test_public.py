"""What users see: names, what they mean, and what an import costs."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import srclib
from srclib.store import files, fingerprint


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


def test_no_name_is_also_a_module() -> None:
    """Importing the module would put it in the place of the value."""
    modules = set(fingerprint.all_modules())
    assert modules.isdisjoint(f"srclib.{name}" for name in srclib._HOME)
    assert modules.issuperset(f"srclib.{name}" for name in srclib._MODULES)


def test_modules_are_reached_by_attribute_alone() -> None:
    """In an interpreter where nothing else has imported them."""
    code = "import srclib; srclib.sources.ToyFeatures; srclib.sources.rows.Rows"
    subprocess.run([sys.executable, "-c", code], check=True)


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


CHEAP = [
    "srclib",
    "srclib.errors",
    "srclib.store.files",
    "srclib.store.fingerprint",
    "srclib.suite.params",
]
CHEAP += ["srclib.suite.ledger", "srclib.suite.cli", "srclib.sources"]
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
USED = [
    "srclib.training.trainer",
    "srclib.runs.sweeps",
    "srclib.metrics",
    "srclib.training.control",
    "srclib.store.checkpoint",
]


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
    assert Path(srclib.__file__).parent.parent == files.root()
