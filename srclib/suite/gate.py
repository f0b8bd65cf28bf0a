"""What an executed notebook must satisfy before anybody may see it.

It needs no kernel and no network, so it can be run again on any executed notebook.
"""

from __future__ import annotations

import json
import re
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from ..errors import NotebookError
from ..store import files
from . import judging, secrets
from .records import check_record, shown

MAX_MEGABYTES = 20.0

_HOME = r"(?<![\w.])(?:/home/|/Users/|[A-Z]:\\+Users\\+)[\w.-]+"


def gate(
    notebook: NotebookNode, root: Path, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check an executed notebook and return its result record.

    `root` is the checkout it ran in. given: the parameters that its caller set; such a run is never
    published, and may show the paths among them, of a model or a corpus. Papermill's own paths are
    removed from the notebook's metadata in place. Raises NotebookError, naming the cell by index
    and first line, for an unfinished cell, an error, a secret, a path of this machine, too much
    output, or anything but one result; DataError for a result that is no record.
    """
    for name in ("input_path", "output_path", "environment_variables"):
        notebook.metadata.get("papermill", {}).pop(name, None)
    _check_completed(notebook)
    _check_size(notebook)
    _check_texts(notebook, root, _named(given or {}))
    found = shown(notebook.cells)
    if len(found) != 1:
        raise NotebookError(
            f"the notebook shows {len(found)} results; allowed is exactly one. "
            "Its last code cell must be `ledger.verdicts()`, and no other cell may call it."
        )
    record: dict[str, Any] = json.loads(json.dumps(found[0]))
    check_record(record, "the notebook's result")
    return record


def judged(record: dict[str, Any]) -> dict[str, Any]:
    """The record itself, if its verdicts follow from its values and the present ledger.

    Raises NotebookError naming the first that does not, such as one that a cell typed in.
    """
    if wrong := judging.rejudge(record):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise NotebookError(f"{wrong[0]}{more}. Run `python -m srclib run {record['study']}`.")
    return record


def name_cell(index: int, source: str) -> str:
    """A cell as messages call it: ``cell 7 (`saes = train(...)`)``. Counting starts at 0."""
    lines = source.strip().splitlines() or ["empty"]
    return f"cell {index} (`{lines[0][:60]}`)"


def _check_completed(notebook: NotebookNode) -> None:
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        name = name_cell(index, cell.source)
        for output in cell.outputs:
            if output.output_type == "error":
                raise NotebookError(
                    f"{name} stopped with {output.ename}: {output.evalue}. "
                    "Every cell must run to its end; mend the cell and run again."
                )
        status = cell.metadata.get("papermill", {}).get("status")
        # the count too: papermill calls cells "completed" that a timeout never reached
        if status != "completed" or cell.execution_count is None:
            raise NotebookError(
                f"{name} has status {status!r}; allowed is 'completed'. "
                "Run the notebook again with `python -m srclib run`."
            )
    if notebook.metadata.get("papermill", {}).get("exception"):
        raise NotebookError("papermill reports an exception in the notebook. Run it again.")


def _check_size(notebook: NotebookNode) -> None:
    sizes = [len(json.dumps(cell, ensure_ascii=False).encode()) / 1e6 for cell in notebook.cells]
    if sum(sizes) > MAX_MEGABYTES:
        index = sizes.index(max(sizes))
        largest = name_cell(index, notebook.cells[index].source)
        raise NotebookError(
            f"the notebook holds {sum(sizes):.0f} MB; allowed are {MAX_MEGABYTES:.0f} MB. "
            f"The largest is {largest} with {max(sizes):.0f} MB: print or draw less in it."
        )


def _named(given: Mapping[str, Any]) -> list[str]:
    """Paths among parameters, of templates the part that is fixed; the longest first."""
    values = [v for each in given.values() for v in (each if isinstance(each, list) else [each])]
    paths = [v.partition("{")[0] for v in values if isinstance(v, str) and Path(v).is_absolute()]
    return sorted(paths, key=len, reverse=True)


def _check_texts(notebook: NotebookNode, root: Path, named: Sequence[str] = ()) -> None:
    """Refuse what is secret, wherever it stands, and paths of this machine outside the sources.

    named: paths that may stand there.
    """
    paths = _paths(root)
    parts = [("the notebook's metadata", "", [notebook.metadata])]
    for index, cell in enumerate(notebook.cells):
        place = name_cell(index, cell.source)
        parts.append((place, cell.source, [cell.metadata, cell.get("outputs", [])]))
    for place, source, content in parts:
        text = _text(content)
        if what := secrets.found(text) or secrets.found(_text(source)):
            index_only = place.partition(" (`")[0]  # the cell's first line may be the secret
            raise NotebookError(
                f"{index_only} holds {what}. Nothing secret may be published: remove it "
                "from the cell, and replace the secret if it has left this machine."
            )
        for path in named:
            text = text.replace(_text(path)[1:-1], "")
        if match := paths.search(text):
            raise NotebookError(
                f"{place} holds {match.group()!r}, a path of this machine. Published output "
                "holds no absolute paths: print a path relative to the checkout, or none; "
                "a warning that shows its file should be mended or filtered."
            )


def _paths(root: Path) -> re.Pattern[str]:
    folders = [root, files.build(), Path.home(), Path(tempfile.gettempdir())]
    folders += [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")]
    both = {str(each) for folder in folders for each in (folder, folder.resolve())} - {"/"}
    local = "|".join(map(re.escape, sorted(both, key=len, reverse=True)))
    return re.compile(rf"{_HOME}|(?<![\w.~-])(?:{local})(?![\w-])")


def _text(content: Any) -> str:
    """The text of a part of a notebook, without bitmaps."""
    text = json.dumps(content, ensure_ascii=False).replace("\\n", "\n").replace("\\\\", "\\")
    return re.sub(r'"image/(png|jpeg)": ("[^"]*"|\[[^]]*\])', "", text)
