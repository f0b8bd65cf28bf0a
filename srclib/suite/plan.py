"""What a run will do, validated before a kernel starts: parameters, notebook, folder, disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ParameterError, SuiteError, message
from ..files import short
from . import params


@dataclass(frozen=True)
class Job:
    """One validated run: its parameters, its notebook and the folder of its results."""

    study: str
    given: Mapping[str, Any]  # what is injected: the profile, and what the caller set
    values: Mapping[str, Any]
    profile: params.Profile
    notebook: Path
    folder: Path
    custom: tuple[str, ...]  # names the caller set: such a run stays in the store

    @property
    def name(self) -> str:
        """`l0 at laptop`, or `l0 at laptop with k_values set`."""
        setting = f" with {', '.join(self.custom)} set" if self.custom else ""
        return f"{self.study} at {self.profile.name}{setting}"


def plan(study: str, profile: str, overrides: Mapping[str, object], publish: bool = False) -> Job:
    """Validate everything that can be validated without a kernel.

    Raises ParameterError for an unknown study, profile or parameter and for a `publish`
    that is not allowed; NotebookError when the notebook cannot be read.
    """
    spec = params.load_spec(study)
    resolved = spec.resolve({**overrides, "profile": profile})
    if publish and (profile == "smoke" or resolved.overridden):
        seen = ", ".join(resolved.overridden) or "profile smoke"
        fix = "Run without --publish, or with the profile's own parameters."
        raise ParameterError(message("--publish", seen, "a profile above smoke as it is", fix))
    notebook = files.root() / "notebooks" / f"{study}.ipynb"
    spec.check_cell(params.read_notebook(notebook))
    values = resolved.values
    name = f"custom-{resolved.key[:12]}" if resolved.overridden else profile
    return Job(
        study=study,
        given={"profile": profile} | {key: values[key] for key in resolved.overridden},
        values=values,
        profile=spec.profiles[profile],
        notebook=notebook,
        folder=files.build() / study / name,
        custom=resolved.overridden,
    )


def check_folders(job: Job, publish: bool) -> None:
    """Find out before computing whether the results can be written; raises SuiteError."""
    folders = [job.folder.parent, files.build() / "locks"]
    folders += [] if job.custom else [files.root() / "book" / "_executed"]
    folders += [files.root() / "data" / "results"] if publish else []
    for folder in folders:
        try:
            with tempfile.TemporaryFile(dir=files.make(folder)):
                pass
        except OSError as error:
            raise SuiteError(
                f"{short(folder)} cannot be written ({error.strerror}). "
                "Make it writable, or use another checkout."
            ) from None
    free = shutil.disk_usage(job.folder.parent).free / 1e6
    if free < job.profile.disk_mb:
        raise SuiteError(
            f"{job.name} needs about {job.profile.disk_mb:.0f} MB and {free:.0f} MB are free. "
            "Free some space, for example with `python -m srclib clean`."
        )


def duration(seconds: float) -> str:
    """`12 s`, `4 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
