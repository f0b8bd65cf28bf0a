"""The content key of a run: whatever could change a number of the trained SAE is in it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..compute.place import place
from ..errors import ParameterError, SuiteError, message
from ..store import checkpoint, files, fingerprint
from ..training.state import frozen

if TYPE_CHECKING:
    from .run import Run


def key_of(run: Run) -> str:
    """The content key under which a run is stored; that of its start, once it is trained.

    It covers starting weights, source, configuration, objective, control, code and versions.
    """
    if run.key:
        return run.key
    control, objective = run.control, run.objective
    parts = [run.sae, *layers(run.source, "source"), *layers(control, "inner")]
    parts += getattr(objective, "terms", [objective])
    content = [
        checkpoint.describe(run.sae),
        frozen(run.sae),
        files.tensors_sha256(run.sae.state_dict().values()),
        _told("objective", objective),
        _told("control", control),
        _code(frozenset(type(part) for part in parts if part is not None)),
        {k: repr(v) for k, v in vars(run.config).items() if not k.startswith("checkpoint")},
        run.source.identity,
        fingerprint.versions(),
        place().identity,
    ]
    return files.sha256(files.canonical(content))


def layers(outer: Any, name: str) -> Iterator[Any]:
    """A source or a control, and those that it wraps under this name."""
    while outer is not None:
        yield outer
        outer = getattr(outer, name, None)


@functools.cache
def _code(kinds: frozenset[type]) -> str:
    """Hash of the trainer's code and of what these classes are made of.

    Read once: the code that a process runs is the one it loaded, whatever is edited since.
    """
    ours = {kind.__module__ for kind in kinds if kind.__module__.split(".")[0] == "srclib"}
    theirs = {kind for kind in kinds if kind.__module__ not in ours}
    texts = sorted(
        {fingerprint.source_hash(_source(base)) for kind in theirs for base in _bases(kind)}
    )
    modules = fingerprint.closure("srclib.training.trainer", *ours)
    return files.sha256(files.canonical([fingerprint.modules_hash(modules), texts]))


def _bases(kind: type) -> list[type]:
    """A class and those of its bases that belong to neither us nor a library."""
    known = ("srclib", "builtins", "torch", "abc", "typing")
    return [kind, *(b for b in kind.__mro__[1:] if b.__module__.split(".")[0] not in known)]


def _source(kind: type) -> str:
    """The whole file that a class stands in: its helpers and constants count as well."""
    try:
        own, module = inspect.getsource(kind), inspect.getmodule(kind)
        return own if module is None or kind.__module__ == "__main__" else inspect.getsource(module)
    except (OSError, TypeError) as error:
        raise SuiteError(
            f"{kind.__name__} has no source file ({error}), so a stored run could not be told from "
            "one with other code. Define it in a module, or call `train`, which stores nothing."
        ) from None


def _told(name: str, part: Any) -> str:
    """The repr by which a part of a run is told from another; refuses one that tells nothing."""
    text = repr(part)
    if " object at 0x" in text or "...," in text:
        fix = "Make it a dataclass, with a hash in place of a large tensor (as Trace does)."
        raise ParameterError(message(name, text, "a repr that says all of its settings", fix))
    return text
