"""What a run will do, validated before a kernel starts: parameters, notebook, folder, disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ParameterError, SuiteError, message
from ..store import files
from . import cells, data_tables, params, records
from .verify import may_publish

ADVICE = {
    "No space left on device": "Free some and run the same again: what was finished is stored.",
    "Allowed are all weights in safetensors": "`hf download` goes on where it was cut off.",
    "an existing saved dataset": "Save one of the hub: load_dataset(NAME).save_to_disk(FOLDER).",
}


@dataclass(frozen=True)
class Job:
    """One validated run: its parameters, its notebook and the folder of its results."""

    study: str
    given: Mapping[str, Any]  # what is injected: the profile, and what the caller set
    values: dict[str, Any]
    profile: params.Profile
    custom: tuple[str, ...]  # names the caller set: such a run stays in the store
    folder: Path

    @property
    def notebook(self) -> Path:
        return files.root() / "notebooks" / f"{self.study}.ipynb"

    @property
    def name(self) -> str:
        """`l0 at laptop`, or `l0 at laptop with k_values set`."""
        setting = f" with {', '.join(self.custom)} set" if self.custom else ""
        return f"{self.study} at {self.profile.name}{setting}"


def plan(study: str, profile: str, overrides: Mapping[str, object], publish: bool = False) -> Job:
    """Validate everything that can be validated without a kernel.

    Raises ParameterError for an unknown study, profile or parameter and for a `publish`
    that is not allowed; ClaimError for one over a record whose verdict another rule would turn
    without a word; NotebookError when the notebook cannot be read; DataError for a table of
    the study that is not as its schema says.
    """
    spec = params.load_spec(study)
    P = spec.resolve({**overrides, "profile": profile})
    custom = P.overridden
    if publish and not may_publish(profile, custom):
        seen = ", ".join(custom) or "profile smoke"
        fix = "Run without --publish, or with the profile's own parameters."
        raise ParameterError(message("--publish", seen, "a profile above smoke as it is", fix))
    before = records.published_path(study, profile)
    if publish and before.exists() and records.is_sealed(old := records.load(before, edited=True)):
        records.refuse_silent(old, files.short(before))
    given = {"profile": profile} | {key: P.values[key] for key in custom}
    folder = files.build() / study / (f"custom-{P.key[:12]}" if custom else profile)
    job = Job(study, given, P.values, spec.profiles[profile], custom, folder)
    spec.check_cell(cells.parameters_cell(job.notebook))
    data_tables.check(study)
    return job


def check_disk(job: Job) -> None:
    """Find out before computing whether the results fit on the disk; raises SuiteError.

    Where the caller has set parameters, perhaps sizes, the profile's need is a warning only.
    """
    free, wanted = shutil.disk_usage(files.make(job.folder.parent)).free / 1e6, job.profile.disk_mb
    told = f"{job.name} needs about {wanted:.0f} MB and {free:.0f} MB are free."
    if free < wanted and job.custom:
        print(f"warning: with the sizes of the profile, {told}", file=sys.stderr)
    elif free < wanted:
        raise SuiteError(f"{told} Free some space, for example with `python -m srclib clean`.")


def advice(told: str) -> str:
    """What to do about a failure whose own words cannot say it, such as the system's."""
    return "".join(f" {fix}" for sign, fix in ADVICE.items() if sign in told)


def duration(seconds: float) -> str:
    """`12 s`, `4 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
