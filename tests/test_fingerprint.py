"""What makes a result stale and what does not."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srclib
from srclib.errors import DataError
from srclib.store import files, fingerprint, syntax

SOURCE = '''"""Module."""
import math

def area(r: float, *, scale=1.0) -> float:
    """A docstring."""
    # a comment
    return scale * math.pi * r ** 2

class Shape:
    """Another docstring."""
    names: list[str] = ["circle", 'square']
'''


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout that `files.root()` points to."""
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    (tmp_path / "srclib").mkdir()
    return tmp_path


def write(root: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        files.write_atomic(root / "srclib" / f"{name}.py", text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment\n", "# other words\n\n\n"),
        ('"""A docstring."""', '"""Longer.\n\n    Text.\n    """'),
        ('    """Another docstring."""\n', ""),
        ('"""Module."""', '"""The module, at length."""'),
        ("['circle'", '["circle"'),
        ("r ** 2", "(r**2)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str) -> None:
    assert fingerprint.source_hash(SOURCE) == fingerprint.source_hash(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r ** 2", "r ** 3"),
        ("scale=1.0", "scale=1"),
        ("*, scale", "scale"),
        ("math.pi * r", "r * math.pi"),
        ('["circle", ', "["),
        ("-> float", "-> int"),
        ("return ", ""),
        ("class Shape", "class Form"),
    ],
)
def test_every_other_edit_counts(old: str, new: str) -> None:
    assert old in SOURCE
    assert fingerprint.source_hash(SOURCE) != fingerprint.source_hash(SOURCE.replace(old, new))


def test_a_text_that_is_no_docstring_counts() -> None:
    assert fingerprint.source_hash("x = 1\n'text'") != fingerprint.source_hash("x = 1\n'other'")


def test_a_cell_with_a_magic_counts_verbatim() -> None:
    hashes = {fingerprint.source_hash(text) for text in ("%time f()", "%time g()", "f()")}
    assert len(hashes) == 3


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(literals, literals)
def test_two_literals_have_one_hash_only_if_they_are_written_alike(a: object, b: object) -> None:
    trees = [ast.dump(ast.parse(f"x = {value!r}")) for value in (a, b)]
    hashes = [fingerprint.source_hash(f"x = {value!r}") for value in (a, b)]
    assert (trees[0] == trees[1]) == (hashes[0] == hashes[1])


def test_closure_follows_all_forms_of_import(checkout: Path) -> None:
    modules = {
        "__init__": "from . import heavy",
        "a": "from .b import thing\nimport os",
        "b": "def f():\n    from . import c\n    import srclib.pack.d",
        "c": "",
        "pack/__init__": "from ..e import x",
        "pack/d": "from . import sibling\nfrom .sibling import y",
        "pack/sibling": "from .. import a",
        "e": "x = 1",
        "heavy": "",
    }
    write(checkout, modules)
    expected = {"a", "b", "c", "e", "pack", "pack.d", "pack.sibling"}
    assert fingerprint.closure("srclib.a") == tuple(sorted(f"srclib.{name}" for name in expected))
    assert fingerprint.closure("srclib.e") == ("srclib.e",)
    with pytest.raises(DataError, match=r"srclib\.nothing"):
        fingerprint.closure("srclib.nothing")


def test_modules_hash_sees_each_module_and_not_their_order(checkout: Path) -> None:
    write(checkout, {"a": "x = 1", "b": "y = 2"})
    names = ["srclib.a", "srclib.b"]
    before = fingerprint.modules_hash(names)
    assert fingerprint.modules_hash([*reversed(names), "srclib.a"]) == before
    write(checkout, {"b": "# comment\ny = 2"})
    assert fingerprint.modules_hash(names) == before
    write(checkout, {"b": "y = 3"})
    assert fingerprint.modules_hash(names) != before
    assert fingerprint.module_hashes(["srclib.gone"]) == {"srclib.gone": fingerprint.ABSENT}
    assert fingerprint.all_modules() == ("srclib.a", "srclib.b")


def test_only_code_cells_of_a_notebook_count(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"

    def hashed(*cells: nbformat.NotebookNode, **metadata: object) -> str:
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells), metadata=metadata), path)
        return fingerprint.notebook_hash(path)

    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    output = nbformat.v4.new_output("stream", text="hello")
    before = hashed(text("# Title"), code("x = 1\ny = 2"), code("print(x)"))
    same = [code("x = 1  # one\ny = 2"), code(""), code("print(x)", outputs=[output])]
    assert hashed(text("# Another"), *same, kernelspec={"name": "k", "display_name": "k"}) == before
    assert hashed(code("print(x)"), code("x = 1\ny = 2")) != before
    assert hashed(code("x = 1\ny = 2\nprint(x)")) != before


FIGURE = {"tags": ["hide-input"], "mystnb": {"figure": {"name": "fig-x"}}}
DRAWS = "for s in seeds:\n    ax.plot(table[s], color='red')\nplt.show()"


@pytest.mark.parametrize(
    ("source", "metadata", "after", "counts"),
    [
        (f"fig, ax = plt.subplots()\n{DRAWS}", FIGURE, "fig, ax = plt.subplots()", False),
        (f"fig, ax = plt.subplots()\n{DRAWS}", {}, "", True),  # not hidden
        (f"fig, ax = plt.subplots()\n{DRAWS}", FIGURE, "print(s)", True),  # read later
        (f"fig, ax = plt.subplots()\n{DRAWS}", FIGURE, "def f():\n    return fig", True),
        ("table.sort_values(inplace=True)\nplt.show()", FIGURE, "", True),
        ("table['x'] = 1\nplt.show()", FIGURE, "", True),
        ("total += 1\nplt.show()", FIGURE, "", True),
        ("del table\nplt.show()", FIGURE, "", True),
        ("ledger.record('a', table)\nplt.show()", FIGURE, "", True),
        ("record('a', table)\nplt.show()", FIGURE, "", True),
        ("%matplotlib inline\nplt.show()", FIGURE, "", True),
    ],
)
def test_a_cell_counts_unless_it_only_draws(
    source: str, metadata: dict, after: str, counts: bool
) -> None:
    cells = [{"source": text, "metadata": {}} for text in ("seeds = [1]", after)]
    cells.insert(1, {"source": source, "metadata": metadata})
    assert (source in syntax.computing(cells)) == counts


def test_the_wording_of_a_refusal_does_not_count() -> None:
    refusal = "if x < 0:\n    raise ValueError(f'{x} is {x:.2f}: no', 3)"
    same = refusal.replace("no", "not allowed")
    others = [
        refusal.replace("no", "{y}"),
        refusal.replace("3", "4"),
        refusal.replace("x <", "y <"),
    ]
    before = fingerprint.source_hash(refusal)
    assert fingerprint.source_hash(same) == before
    assert before not in map(fingerprint.source_hash, others)


def test_a_package_covers_the_data_files_beside_it(checkout: Path) -> None:
    write(checkout, {"pack/__init__": "", "pack/a": "", "pack/sub/__init__": ""})
    hashes = [fingerprint.module_hashes(["srclib.pack", "srclib.pack.sub", "srclib.pack.a"])]
    for name in ("words.toml", "words/deep.toml", "sub/other.toml"):
        files.write_atomic(checkout / "srclib/pack" / name, "x")
        hashes.append(fingerprint.module_hashes(hashes[0]))
    changed = [{k for k in new if new[k] != old[k]} for old, new in itertools.pairwise(hashes)]
    assert changed == [{"srclib.pack"}, {"srclib.pack"}, {"srclib.pack", "srclib.pack.sub"}]


def test_what_is_declared_as_presentation_exists_and_computes_nothing_for_others() -> None:
    modules = fingerprint.all_modules()
    listed = {*fingerprint.PRESENTATION, *fingerprint.RECORDING}
    assert listed <= set(modules), "a module has moved: mend the lists"
    books = ("files", "syntax", "fingerprint", "locks", "seals")
    silent = {"srclib.errors", *(f"srclib.store.{name}" for name in books)}
    outside = (name for name in modules if not name.startswith("srclib.suite"))
    for name in filter(fingerprint.counts, outside):
        drawn = {each for each in fingerprint.imports(name) if not fingerprint.counts(each)}
        assert drawn <= {"srclib", *silent}, name


imports = functools.cache(fingerprint.imports)  # of this checkout: studies share most of them


def imported_by(notebook: Path) -> set[str]:
    """Every module of srclib that the cells of a notebook lead to, whether it counts or not."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    named = {name for text in texts for name in syntax.imports(text, [])}
    named |= {f"srclib.{name}" for text in texts for name in re.findall(r"srclib\.(\w+)", text)}
    homes = {f"srclib.{name}": f"srclib.{home}" for name, home in srclib._HOME.items()}
    waiting = {homes.get(name, name) for name in named if name.split(".")[0] == "srclib"}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen and name != "srclib" and fingerprint.module_path(name):
            seen.add(name)
            waiting |= imports(name) | {name.rpartition(".")[0]}
    return seen


EVERY = {"align_2hop", "align_sae", "checkpoints", "gba", "gba_lm", "l0", "l0_lm", "sae_md"}
EVERY |= {"align_many", "matrix", "report_card"}
STALE = {  # what an edit of one line must do, by the beginning of the module's name
    "srclib.errors": set(),
    "srclib.suite.figures": set(),
    "srclib.suite.interactive": set(),
    "srclib.suite.book": set(),
    "srclib.suite.cli": set(),
    "srclib.suite.params": set(),
    "srclib.sae": EVERY,
    "srclib.training.trainer": EVERY,
    "srclib.objectives": EVERY,
    "srclib.metrics": EVERY,
    "srclib.methods.gba": {"gba", "gba_lm", "matrix"},
    "srclib.methods.alignsae.": {"align_2hop", "align_many", "align_sae"},
    "srclib.worlds.favourites": {"align_many"},
    "srclib.worlds.python_docs": {"gba_lm", "l0_lm", "report_card", "sae_md"},
    "srclib.worlds.bilingual": {"checkpoints"},
    "srclib.evals.removal": {"gba_lm", "sae_md"},
    "srclib.training.control": EVERY,
    "srclib.sources.implied": {"matrix"},
}


def test_one_edited_line_makes_exactly_its_studies_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the checkout, module after module."""
    root = files.root()
    notebooks = {path.stem: path for path in (root / "notebooks").glob("*.ipynb")}
    leads_to = {study: imported_by(path) for study, path in notebooks.items()}
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "srclib", tmp_path / "srclib", ignore=ignored)
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    for name in ("notebook_hash", "versions"):  # they stay the same, and take long
        monkeypatch.setattr(fingerprint, name, lambda *_: "the same")

    known, hashes = dict[str, str](), fingerprint.module_hashes

    def once(names: Iterable[str]) -> dict[str, str]:  # studies share most of their modules
        wanted = sorted(set(names))
        known.update(hashes(name for name in wanted if name not in known))
        return {name: known[name] for name in wanted}

    monkeypatch.setattr(fingerprint, "module_hashes", once)

    def keys() -> dict[str, str]:
        known.clear()
        return {
            study: files.digest(fingerprint.inputs(path, leads_to[study], study, {}))
            for study, path in notebooks.items()
        }

    before = keys()
    for name in fingerprint.all_modules():
        path = fingerprint.module_path(name)
        text = path.read_text("utf-8")
        path.write_text(f"{text}\n_EDITED = 1\n", "utf-8")
        stale = {study for study, key in keys().items() if key != before[study]}
        path.write_text(text, "utf-8")
        users = {study for study in notebooks if name in leads_to[study]}
        assert stale == (users if fingerprint.counts(name) else set()), name
        for beginning, expected in STALE.items():
            assert any(name.startswith(beginning) for name in fingerprint.all_modules()), beginning
            if name.startswith(beginning):
                assert stale <= expected, name
                assert stale or not expected or name not in set().union(*leads_to.values()), name
    assert keys() == before


def test_data_files_count_by_name_and_content(checkout: Path) -> None:
    folder = checkout / "data" / "toy"
    empty = fingerprint.data_hash("toy")
    files.write_atomic(folder / "deep" / "words.txt", "a b")
    filled = fingerprint.data_hash("toy")
    (folder / ".DS_Store").write_text("noise")
    assert fingerprint.data_hash("toy") == filled != empty
    (folder / "deep" / "words.txt").rename(folder / "words.txt")
    assert fingerprint.data_hash("toy") not in (filled, empty)


def test_the_key_covers_each_part(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(checkout, {"a": "x = 1"})
    path = checkout / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")]), path)

    def key(values: dict[str, object] | None = None) -> str:
        parts = fingerprint.inputs(path, ["srclib.a"], "toy", values or {"k": [1, 2]})
        return files.digest(parts)

    keys = [key(), key({"k": [1, 3]})]
    files.write_atomic(checkout / "data" / "toy" / "words.txt", "a")
    keys.append(key())
    write(checkout, {"a": "x = 2"})
    keys.append(key())
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("y")]), path)
    keys.append(key())
    monkeypatch.setattr(fingerprint, "versions", lambda *_: {"torch": "0"})
    keys.append(key())
    assert len(set(keys)) == len(keys)
    files.write_atomic(checkout / "data" / "claims" / "toy.toml", "words")
    assert key() == keys[-1]


def test_this_pythons_own_text_depends_on_its_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkout / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")]), path)
    write(checkout, {"a": "# READS_PYTHON = True", "b": "READS_PYTHON = True"})
    found = []
    for version in ("3.11.2", "3.11.9"):
        monkeypatch.setattr(fingerprint.platform, "python_version", lambda v=version: v)
        for module in ("srclib.a", "srclib.b"):
            found.append(files.digest(fingerprint.inputs(path, [module], "toy", {})))
    assert found[0] == found[2]  # whoever reads other text does not mind
    assert len(set(found)) == 3


def test_versions_have_no_local_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert fingerprint.versions() == dict.fromkeys(fingerprint.LIBRARIES, "2.13.0")
    monkeypatch.undo()
    monkeypatch.setattr(fingerprint, "LIBRARIES", ("no-such-library",))
    assert fingerprint.versions() == {"no-such-library": fingerprint.ABSENT}


def test_provenance_names_commit_and_changes_but_nobody(checkout: Path) -> None:
    assert fingerprint.provenance()["commit"] is None
    identity = ["-c", "user.name=Nemo", "-c", "user.email=nemo@example.org"]
    for step in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", "-C", str(checkout), *step], check=True)
    clean = fingerprint.provenance()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    files.write_atomic(checkout / "data" / "results" / "toy.laptop.json", "{}")
    assert fingerprint.provenance()["dirty"] is False
    write(checkout, {"a": "x = 1"})
    changed = fingerprint.provenance()
    assert changed["dirty"] is True
    text = files.canonical(changed)
    assert "Nemo" not in text and str(checkout) not in text and str(Path.home()) not in text


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from srclib.store import fingerprint; fingerprint.provenance(); "
        "print({'torch', 'numpy', 'papermill', 'nbformat'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
