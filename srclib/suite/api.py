"""The page *API reference*: signature and docstring of what `import srclib` offers."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from markupsafe import Markup, escape

from .templates import macros

BESIDE = ("training.control", "report_card")  # used in notebooks and pages by their own names


def page() -> str:
    """What `import srclib` offers and what stands beside it: signature, docstring of each name."""
    import srclib

    entries = []
    for name in (*srclib.__all__, *BESIDE):
        beside = name in BESIDE
        value = importlib.import_module(f"srclib.{name}") if beside else getattr(srclib, name)
        module = inspect.ismodule(value)
        names = _offered(value) if module else []
        things = {f"{name}.{each}": getattr(value, each) for each in names} or {name: value}
        for path, thing in things.items():
            if callable(thing) or inspect.ismodule(thing):
                lines = map(escape, (inspect.getdoc(thing) or "").splitlines())
                entries.append((path, _signature(thing), Markup("\n").join(lines)))
    return str(MACROS.api(entries))


def _offered(module: Any) -> list[str]:
    """The public names of a module: those that it lists, hands out, or defines itself."""
    listed = getattr(module, "__all__", None) or getattr(module, "_HOME", None)
    own = (
        name
        for name, each in vars(module).items()
        if not name.startswith("_") and getattr(each, "__module__", None) == module.__name__
    )
    return list(listed or own)


class _Bare(str):
    """An annotation as it stands in the source, without quotation marks."""

    __repr__ = str.__str__


def _signature(thing: object) -> str:
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    told = [p.replace(annotation=_bare(p.annotation)) for p in found.parameters.values()]
    returns = _bare(found.return_annotation)
    return str(found.replace(parameters=told, return_annotation=returns))


def _bare(annotation: Any) -> Any:
    told = getattr(annotation, "__forward_arg__", annotation)
    return _Bare(told) if isinstance(told, str) else told


MACROS = macros("api.jinja")
