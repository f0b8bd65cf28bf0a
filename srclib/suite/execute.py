"""Run a study, let the gate judge its notebook, keep what passed, publish on request.

This is the only writer of executed notebooks and result records. Everything is written
beside its place and moved there whole: a failed or killed run replaces nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from .. import files, fingerprint
from ..errors import NotebookError, SuiteError
from . import judging, kernel, records
from .gate import gate
from .plan import Job, check_folders, duration, plan, short
from .records import Record
from .verify import EXECUTED, STAMP, altered, stamp_digest

MIN_TIMEOUT = 600  # seconds that one cell may always take


def run(
    study: str,
    profile: str = "laptop",
    overrides: Mapping[str, object] | None = None,
    *,
    force: bool = False,
    publish: bool = False,
    timeout: int | None = None,
) -> Record:
    """Run a study, or take its stored result if that is up to date, and return the record.

    overrides: parameters that differ from the profile's; such a run stays under
    `build/<study>/custom-<key>/`. force: recompute from nothing. publish: also write
    `data/results/<study>.<profile>.json`. timeout: limit for one cell in seconds, by
    default ten times the expected time of the whole run. Raises SuiteError.
    """
    job = plan(study, profile, overrides or {}, publish)
    check_folders(job, publish)
    with files.lock(files.build() / "locks" / f"{study}.{job.folder.name}.lock", job.name):
        record = None if force else _stored(job)
        if record is None:
            record = _compute(job, force, timeout)
        else:
            print(f"{job.name}: up to date ({short(job.folder)}); --force recomputes")
        if not job.custom:
            executed = files.root() / EXECUTED / f"{study}.ipynb"
            files.write_atomic(executed, (job.folder / "notebook.ipynb").read_bytes())
        if publish:
            _publish(record)
    return record


def _stored(job: Job) -> Record | None:
    """The result in the job's folder, unless it is missing, stale, altered or judged otherwise."""
    try:
        manifest = json.loads((job.folder / "manifest.json").read_text(encoding="utf-8"))
        modules = manifest["inputs"]["modules"]
        if any(altered(job.folder)):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if manifest["key"] != fingerprint.compute_key(job.notebook, modules, job.study, job.values):
        return None
    record = records.load(job.folder / "result.json")
    return None if judging.rejudge(record) else record


def _compute(job: Job, force: bool, timeout: int | None) -> Record:
    expected = job.profile.seconds
    print(
        f"{job.name}: expected are about {duration(expected)} and "
        f"{job.profile.disk_mb:.0f} MB under build/",
        flush=True,
    )
    started = time.monotonic()
    # Hashed before the kernel starts: what is edited during the run makes the result stale.
    inputs = fingerprint.inputs(job.notebook, fingerprint.all_modules(), job.study, job.values)
    work = job.folder.with_name(f".{job.folder.name}.run")  # the lock makes it ours alone
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        notebook = kernel.execute(
            job.notebook,
            work / "notebook.ipynb",
            job.given,
            timeout=timeout or max(MIN_TIMEOUT, int(10 * expected)),
            environment=_variables(job, force),
            label=job.name,
        )
        record = gate(notebook, files.root())
        _check_identity(job, record)
    except SuiteError as error:
        kept = _keep_failed(job, work)
        raise type(error)(f"{job.name}: {error} {kept}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    record = _complete(record, inputs, time.monotonic() - started)
    _keep(job, notebook, record)
    print(f"{job.name}: done in {duration(time.monotonic() - started)}, {short(job.folder)}")
    return record


def _variables(job: Job, force: bool) -> dict[str, str]:
    extra = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))}
    if job.profile.name != "paper":  # only the paper's own models may be fetched
        extra["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")
    if force:
        extra["SRCLIB_RECOMPUTE"] = "1"  # the notebook's caches are written but not read
    return extra


def _check_identity(job: Job, record: Record) -> None:
    wanted = {"study": job.study, "profile": job.profile.name, "params": dict(job.values)}
    for field, value in wanted.items():
        if record[field] != value:
            raise NotebookError(
                f"the result's {field} is {record[field]!r}; allowed is {value!r}. "
                f"The notebook must call parameters({job.study!r}, In, globals())."
            )


def _complete(record: Record, inputs: Mapping[str, Any], seconds: float) -> Record:
    """Add to the provenance what only the driver knows, and seal the record."""
    source = record["provenance"]
    used = {name: inputs["modules"].get(name, fingerprint.ABSENT) for name in source["modules"]}
    inputs = {**inputs, "modules": used, "versions": fingerprint.versions(used)}
    extra = {"key": fingerprint.key_of(inputs), "inputs": inputs, "seconds": round(seconds, 1)}
    return records.seal({**record, "provenance": {**source, **extra}})


def _keep(job: Job, notebook: nbformat.NotebookNode, record: Record) -> None:
    source = record["provenance"]
    stamp = {"study": job.study, "profile": job.profile.name}
    stamp |= {name: source[name] for name in ("key", "inputs", "commit")}
    document = json.loads(nbformat.writes(notebook))
    document["metadata"][STAMP] = stamp
    document["metadata"][STAMP] = {**stamp, "sha256": stamp_digest(document)}
    texts = {"notebook.ipynb": files.pretty(document), "result.json": files.pretty(record)}
    manifest = {
        "key": source["key"],
        "inputs": source["inputs"],
        "files": {name: files.sha256(text) for name, text in texts.items()},
    }
    with files.folder_atomic(job.folder) as folder:
        for name, text in {**texts, "manifest.json": files.pretty(manifest)}.items():
            (folder / name).write_text(text, encoding="utf-8")


def _keep_failed(job: Job, work: Path) -> str:
    """Put a failed notebook beside the last good result; says where it is."""
    failed = work / "notebook.ipynb"
    if not failed.exists():
        return ""
    files.write_atomic(job.folder / "failed.ipynb", failed.read_bytes())
    return f"The notebook is kept as {short(job.folder)}/failed.ipynb."


def _publish(record: Record) -> None:
    path = records.published_path(record["study"], record["profile"])
    files.write_atomic(path, files.pretty(record))
    print(f"published {short(path)}")
    if record["provenance"]["dirty"]:
        print(
            f"warning: {short(path)} was computed with uncommitted changes; "
            "commit them and run again with --force so that its commit is true",
            file=sys.stderr,
        )
