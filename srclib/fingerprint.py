"""What a result depends on, as hashes: code, data, parameters, library versions.

Needs nothing but the standard library, so `verify` is quick. Hashes are hex strings of SHA-256.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import files, syntax
from .errors import DataError

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "tokenizers", "transformers")
ABSENT = "absent"

# Modules (with all below them) that change no number: they draw, word, show, or keep the books.
# Everything else that a run imports counts, so a new module counts until it stands here.
PRESENTATION = (
    "srclib.__main__",
    "srclib.errors",  # the wording of refusals
    "srclib.files",  # what is read through it is in the key itself
    "srclib.fingerprint",  # another way to hash gives another key by itself
    "srclib.syntax",
    "srclib.lm.look",  # refuses inputs, computes nothing
    *("srclib.suite." + name for name in ("book", "book_pages", "cli", "execute", "gate", "plan")),
    *("srclib.suite." + name for name in ("figures", "arms", "look", "fonts", "interactive")),
    *("srclib.suite." + name for name in ("templates", "records", "results", "verify")),
    # the values that parameters hand out are in the key themselves
    *("srclib.suite." + name for name in ("params", "cells", "fields", "schema")),
    # medians and verdicts are derived anew from the stored value of every unit
    *("srclib.suite." + name for name in ("claims", "judging", "rules", "verdicts")),
)


def counts(module: str) -> bool:
    """Whether an edit of this module can change a number; the package itself hands out names."""
    shown = (f"{module}.".startswith(f"{name}.") for name in PRESENTATION)
    return module not in ("srclib", "srclib.suite") and not any(shown)


def source_hash(source: Path | str) -> str:
    """Hash of Python source (a path, or the text itself): see `syntax.source_hash`."""
    return syntax.source_hash(source.read_text("utf-8") if isinstance(source, Path) else source)


def imported() -> tuple[str, ...]:
    """The modules of srclib that this process has imported until now, sorted."""
    return tuple(sorted(name for name in sys.modules if name.split(".")[0] == "srclib"))


def closure(*modules: str) -> tuple[str, ...]:
    """`modules` and every srclib module that they import, directly or through others, sorted.

    Read from the source, so imports inside functions count although they have not run. Only
    modules that count are followed. Raises DataError for a module that has no file.
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

    A package covers the data files in its folder, such as word lists.
    """
    return {name: _module_hash(module_path(name)) for name in sorted(set(names))}


def _module_hash(path: Path | None) -> str:
    if path is None:
        return ABSENT
    data = _data_files(path.parent, ("__init__.py",)) if path.name == "__init__.py" else {}
    return files.sha256(files.canonical([source_hash(path), data])) if data else source_hash(path)


def _data_files(folder: Path, borders: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash by name of the files below a folder: no code, nothing hidden, and nothing of folders
    that hold a file of `borders`, such as packages inside a package."""
    found: dict[str, str] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith((".", "__")) or (borders and path.suffix == ".py"):
            continue
        if path.is_file():
            found[path.name] = files.file_sha256(path)
        elif not any((path / name).exists() for name in borders):
            below = _data_files(path, borders)
            found |= {f"{path.name}/{name}": digest for name, digest in below.items()}
    return found


def modules_hash(names: Iterable[str]) -> str:
    """One hash over the sources of several modules of srclib; their order does not count."""
    return files.sha256(files.canonical(module_hashes(names)))


def notebook_hash(path: Path) -> str:
    """Hash of the code cells that compute; Markdown, outputs and metadata never count."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    return files.sha256(files.canonical(list(map(syntax.source_hash, syntax.computing(code)))))


def data_hash(study: str) -> str:
    """Hash of the names and contents of all files below `data/<study>/`, hidden ones aside."""
    return files.sha256(files.canonical(_data_files(files.root() / "data" / study)))


def versions(modules: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the libraries that decide numbers, without local suffix ("2.13.0").

    And that of Python, where one of `modules` declares `READS_PYTHON = True`: its text is that of
    the Python which runs.
    """
    texts = [path.read_text(encoding="utf-8") for path in map(module_path, modules) if path]
    own = any(syntax.declares(text, "READS_PYTHON = True") for text in texts)
    python = {"python": platform.python_version()} if own else {}
    return {name: _version(name) for name in LIBRARIES} | python


def inputs(
    notebook: Path, modules: Iterable[str], study: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything the numbers of a run depend on, part by part: `verify` names what changed.

    The notebook's cells that compute, those of the modules that count, the study's data files,
    the parameter values and the versions; not the claims file, thread count or platform.
    """
    hashes = module_hashes(filter(counts, modules))
    return {
        "notebook": notebook_hash(notebook),
        "modules": hashes,
        "data": data_hash(study),
        "params": dict(values),
        "versions": versions(hashes),
    }


def key_of(parts: Mapping[str, Any]) -> str:
    """The key of a result with these `inputs`, or of a `page`."""
    return files.sha256(files.canonical(parts))


def page(notebook: Path, modules: Iterable[str], study: str) -> dict[str, Any]:
    """What a page shows besides its numbers: prose, drawings, help texts, the modules that draw."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [files.root() / "data" / name / f"{study}.toml" for name in ("profiles", "claims")]
    return {
        "modules": module_hashes(name for name in modules if not counts(name)),
        "notebook": files.sha256(files.canonical(cells)),
        "texts": [files.file_sha256(path) for path in texts],
    }


def provenance() -> dict[str, Any]:
    """Where a result comes from. Holds no path and no name of a user or host.

    `commit` is null outside a git checkout; `dirty` says whether the checkout held
    changes (committed results aside) when the result was made.
    """
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--", ".", ":(exclude)data/results")
    torch = sys.modules.get("torch")  # loading it for this would be slow
    return {
        "modules": list(imported()),
        "versions": versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": int(torch.get_num_threads()) if torch else None,
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


def imports(name: str) -> set[str]:
    """The srclib modules that the source of module `name` mentions in import statements.

    Raises DataError for a module that has no file.
    """
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
