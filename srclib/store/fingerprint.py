"""What a result depends on, as hashes: code, data, parameters, library versions.

Needs nothing but the standard library, so `verify` is quick. Hashes are hex strings of SHA-256.
"""

from __future__ import annotations

import ast
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import files, syntax

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "tokenizers", "transformers")
ABSENT = "absent"

# Modules that change no number: they word, show, or keep the books. Everything else that a run
# imports counts; of the suite, only what turns tables into the value of every unit: parameters are
# in the key themselves, medians and verdicts are derived anew.
PRESENTATION = (
    "srclib",  # hands out names
    "srclib.__main__",
    "srclib.store.disk",  # moves files
    "srclib.store.locks",  # waits or refuses
    "srclib.store.seals",  # refuses what was altered
    "srclib.errors",  # the wording of refusals
    "srclib.store.files",  # what is read through it is in the key itself
    "srclib.store.fingerprint",  # another way to hash gives another key by itself
    "srclib.store.syntax",
    "srclib.lm.look",  # refuses inputs, computes nothing
)
RECORDING = ("srclib.suite.labels", "srclib.suite.ledger")


def counts(module: str) -> bool:
    """Whether an edit of this module can change a number."""
    if module.startswith("srclib.suite"):
        return module in RECORDING
    return module not in PRESENTATION


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
        if field == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            value = value[ast.get_docstring(node, clean=False) is not None :]
        if field == "value" and isinstance(node, ast.Constant):
            parts.append("str" if refusal and type(value) is str else f"{type(value)}:{value!r}")
        elif value is not None and value != [] and field != "kind":
            parts.append(f"{field}={_outline(value, refusal)}")
    return f"{type(node).__name__}({','.join(parts)})"


def closure(*modules: str) -> tuple[str, ...]:
    """`modules` and every srclib module that counts and that they import, directly or not, sorted.

    Imports inside functions count although they have not run.
    """
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen and counts(name):
            seen.add(name)
            waiting += imports(name) - seen
    return tuple(sorted(seen))


def module_hashes(names: Iterable[str]) -> dict[str, str]:
    """Hash of each module of srclib by name; "absent" for one that has no file.

    A package covers the data files below its folder, such as word lists.
    """
    found = {}
    for name in sorted(set(names)):
        path = module_path(name)
        found[name] = ABSENT if path is None else source_hash(path.read_text(encoding="utf-8"))
        if path and path.name == "__init__.py" and (data := _data_files(path.parent)):
            found[name] = files.digest([found[name], data])
    return found


def _data_files(folder: Path) -> dict[str, str]:
    """Hash by name of the files below a folder, but for code, prose and what is hidden."""
    hidden = re.compile(r"(^|/)(\.|__)")
    names = {path: path.relative_to(folder) for path in sorted(folder.rglob("*"))}
    return {
        name.as_posix(): files.file_sha256(path)
        for path, name in names.items()
        if path.is_file() and path.suffix not in (".py", ".md") and not hidden.search(str(name))
    }


def modules_hash(names: Iterable[str]) -> str:
    """One hash over the sources of several modules of srclib; their order does not count."""
    return files.digest(module_hashes(names))


def notebook_hash(path: Path) -> str:
    """Hash of the code cells that compute; Markdown, outputs and metadata never count."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    return files.digest(list(map(source_hash, syntax.computing(code))))


def data_hash(study: str) -> str:
    """Hash of the names and contents of all files below `data/<study>/`, hidden ones aside."""
    return files.digest(_data_files(files.root() / "data" / study))


def versions(modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the libraries that decide numbers, without local suffix ("2.13.0").

    And that of Python, where one of `modules` declares `READS_PYTHON = True`: its text is that of
    the Python which runs.
    """
    found = {name: _version(name) for name in LIBRARIES}
    texts = (path.read_text(encoding="utf-8") for path in map(module_path, modules) if path)
    if any(re.search("^READS_PYTHON = True", text, re.MULTILINE) for text in texts):
        found["python"] = platform.python_version()
    return found


def inputs(
    notebook: Path,
    modules: Iterable[str],
    study: str,
    values: Mapping[str, Any],
    place: Mapping[str, str] | None = None,
    named: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything the numbers of a run depend on, part by part: `verify` names what changed.

    The notebook's cells that compute, those of the modules that count, the study's data files,
    the parameter values, the versions and the kind of device; not the claims file, thread count
    or platform. place: of the run, since a result is judged under the device that it states.
    named: hashes of the models and texts that parameters name (`suite.named`).
    """
    hashes = module_hashes(filter(counts, modules))
    return {
        "notebook": notebook_hash(notebook),
        "modules": hashes,
        "data": data_hash(study),
        "params": dict(values),
        "versions": versions(hashes),
        "place": dict(place or {}),
        "named": dict(named or {}),
    }


def page(notebook: Path, modules: Iterable[str], study: str) -> dict[str, Any]:
    """What a page shows besides its numbers: prose, drawings, help texts, the modules that draw."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [files.root() / "data" / name / f"{study}.toml" for name in ("profiles", "claims")]
    return {
        "modules": module_hashes(name for name in modules if not counts(name)),
        "notebook": files.digest(cells),
        "texts": [files.file_sha256(path) for path in texts],
    }


def provenance() -> dict[str, Any]:
    """Where a result comes from, without a path or a name of a user or host.

    `commit` is null outside a git checkout; `dirty`: whether it held changes, results aside.
    """
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--", ".", ":(exclude)data/results")
    torch = sys.modules.get("torch")  # loading it for this would be slow
    return {
        "modules": sorted(name for name in sys.modules if name.split(".")[0] == "srclib"),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": int(torch.get_num_threads()) if torch else None,
        "place": _place() if torch else None,
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _place() -> dict[str, str]:
    from ..compute.place import place

    return place().identity


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


def imports(name: str) -> set[str]:
    """The srclib modules that the source of module `name` imports, in functions too."""
    path = module_path(name)
    if path is None:
        raise DataError(f"{name!r} is no module of srclib. Name one such as 'srclib.sae'.")
    package = name.split(".")[: None if path.name == "__init__.py" else -1]
    found = syntax.imports(path.read_text(encoding="utf-8"), package)
    return {each for each in found if each.split(".")[0] == "srclib" and module_path(each)}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


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
