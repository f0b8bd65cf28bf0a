"""What a result depends on, as hashes: code, data, parameters, library versions.

Code counts as its syntax tree: comments, blank lines and docstrings do not make a
result stale, every other edit does. Needs nothing but the standard library, so
`verify` is quick. Hashes are hex strings of SHA-256.
"""

from __future__ import annotations

import ast
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import files
from .errors import DataError

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "tokenizers", "transformers")
ABSENT = "absent"
READS_PYTHON = "srclib.worlds.python_docs"  # its text is that of the Python which runs


def source_hash(source: Path | str) -> str:
    """Hash of Python source (a path, or the text itself) without comments and docstrings.

    Text that is no plain Python, such as a cell with an IPython magic, counts verbatim.
    """
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return files.sha256(text)
    return files.sha256(_outline(tree))


def imported() -> tuple[str, ...]:
    """The modules of srclib that this process has imported until now, sorted."""
    return tuple(sorted(name for name in sys.modules if name.split(".")[0] == "srclib"))


def closure(*modules: str) -> tuple[str, ...]:
    """`modules` and every srclib module that they import, directly or through others, sorted.

    Read from the source, so imports inside functions count although they have not run.
    The package `srclib` itself is left out: it hands out names and computes nothing.
    Raises DataError for a module that has no file.
    """
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or name == "srclib":
            continue
        seen.add(name)
        waiting += imports(name) - seen
    return tuple(sorted(seen))


def module_hashes(names: Iterable[str]) -> dict[str, str]:
    """Source hash of each module of srclib by name; "absent" for one that has no file."""
    paths = {name: module_path(name) for name in sorted(set(names))}
    return {name: source_hash(path) if path else ABSENT for name, path in paths.items()}


def modules_hash(names: Iterable[str]) -> str:
    """One hash over the sources of several modules of srclib; their order does not count."""
    return files.sha256(files.canonical(module_hashes(names)))


def notebook_hash(path: Path) -> str:
    """Hash of a notebook's code cells; Markdown, outputs and metadata do not count."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return files.sha256(files.canonical([source_hash(text) for text in code if text.strip()]))


def data_hash(study: str) -> str:
    """Hash of the names and contents of all files below `data/<study>/`, hidden ones aside."""
    folder = files.root() / "data" / study
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    visible = {
        name.as_posix(): files.file_sha256(path)
        for name, path in found.items()
        if not any(part.startswith(".") for part in name.parts)
    }
    return files.sha256(files.canonical(visible))


def versions(modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the libraries that decide numbers, without local suffix ("2.13.0").

    And that of Python, where one of `modules` reads this Python's own text.
    """
    python = {"python": platform.python_version()} if READS_PYTHON in modules else {}
    return {name: _version(name) for name in LIBRARIES} | python


def inputs(
    notebook: Path, modules: Iterable[str], study: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything a result depends on, part by part, so that `verify` can name what changed."""
    hashes = module_hashes(modules)
    return {
        "notebook": notebook_hash(notebook),
        "modules": hashes,
        "data": data_hash(study),
        "params": dict(values),
        "versions": versions(hashes),
    }


def compute_key(
    notebook: Path, modules: Iterable[str], study: str, values: Mapping[str, Any]
) -> str:
    """The key under which a result is stored and reused.

    It covers the notebook's code cells, the srclib modules that the run imported, the
    study's data files, the parameter values and the library versions (where a corpus is this
    Python's own text, its version, too); not the claims file, help texts, thread count or platform.
    """
    return key_of(inputs(notebook, modules, study, values))


def key_of(parts: Mapping[str, Any]) -> str:
    """The key that belongs to the parts listed by `inputs`."""
    return files.sha256(files.canonical(parts))


def provenance() -> dict[str, Any]:
    """Where a result comes from. Holds no path and no name of a user or host.

    `commit` is null outside a git checkout; `dirty` says whether the checkout held
    changes (committed results aside) when the result was made.
    """
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--", ".", ":(exclude)data/results")
    return {
        "modules": list(imported()),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": _threads(),
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def all_modules() -> tuple[str, ...]:
    """Every module of srclib that has a file, sorted."""
    found = (path.relative_to(files.root()) for path in (files.root() / "srclib").rglob("*.py"))
    parts = (file.with_suffix("").parts for file in found)
    names = (each[:-1] if each[-1] == "__init__" else each for each in parts)
    return tuple(sorted(".".join(each) for each in names))


def module_path(name: str) -> Path | None:
    """The source file of a module of srclib in this checkout, or None."""
    base = files.root().joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _outline(node: Any) -> str:
    """A syntax tree as text. `ast.dump` is not used: it differs between Python versions."""
    if isinstance(node, list):
        return "[" + ",".join(map(_outline, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for field, value in ast.iter_fields(node):
        if field == "body" and _has_docstring(node):
            value = value[1:]
        if field == "value" and isinstance(node, ast.Constant):
            parts.append(f"{type(value).__name__}:{value!r}")
        elif value is not None and value != [] and field != "kind":
            parts.append(f"{field}={_outline(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _has_docstring(node: ast.AST) -> bool:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None


def imports(name: str) -> set[str]:
    """The srclib modules that the source of module `name` mentions in import statements.

    Raises DataError for a module that has no file.
    """
    path = module_path(name)
    if path is None:
        raise DataError(f"{name!r} is no module of srclib. Name one such as 'srclib.trainer'.")
    parts = name.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    # importing a.b.c runs a and a.b too; and `from .a import b` names a module a.b or a
    # value b of a: only the files decide
    found = {".".join(each.split(".")[:end]) for each in found for end in range(1, 9)}
    return {each for each in found if each.split(".")[0] == "srclib" and module_path(each)}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module but those below `if TYPE_CHECKING:`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _running(node)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


def _threads() -> int | None:
    """Threads that torch uses, where torch is loaded; loading it for this would be slow."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else None


def _git(*arguments: str) -> str | None:
    """Output of git in this checkout; None when it is no checkout or git is missing."""
    if not (files.root() / ".git").exists():
        return None
    command = ["git", "-C", str(files.root()), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
