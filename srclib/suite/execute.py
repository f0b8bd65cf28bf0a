"""Run a study, let the gate judge its notebook, keep what passed, publish on request.

The only writer of executed notebooks and result records. Everything is written beside its place
and moved there whole: a failed or killed run replaces nothing. The kernel is ours (`children`) and
ends with this process: on an exception it is shut down here, after SIGKILL ipykernel notices that
its parent is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from ..engines import engine
from ..errors import NotebookError, SuiteError
from ..store import files, fingerprint, locks
from ..store.files import short
from . import children, records
from .gate import gate, judged, name_cell
from .named import contents
from .plan import Job, check_disk, duration, plan
from .results import SAES, keep_seconds
from .verdicts import Record
from .verify import EXECUTED, STAMP, findings, seal_notebook

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

    overrides: parameters that differ from the profile's; such a run stays in the store, in
    `<study>/custom-<key>/`. force: recompute from nothing. timeout: limit for one cell in
    seconds, by default ten times the expected time of the whole run. Raises SuiteError.
    """
    job = plan(study, profile, overrides or {}, publish)
    check_disk(job)
    with locks.lock(files.build() / "locks" / f"{study}.{job.folder.name}.lock", job.name):
        record = None if force else _stored(job)
        if record is None:
            record = _compute(job, force, timeout)
        else:
            print(f"{job.name}: up to date ({short(job.folder)}); --force recomputes")
        if not job.custom:
            gated = (job.folder / "notebook.ipynb").read_bytes()
            files.write_atomic(files.root() / EXECUTED / f"{study}.ipynb", gated)
        if publish:
            _publish(record)
    return record


def _stored(job: Job) -> Record | None:
    """The result in the job's folder, unless there is something to find in it, or its page would
    be drawn otherwise."""
    result, page = job.folder / "result.json", job.folder / "notebook.ipynb"
    if any(each.changed for path in (result, page) for each in findings(path, job.values)):
        return None
    record, stamp = records.load(result), json.loads(page.read_text(encoding="utf-8"))
    now = fingerprint.page(job.notebook, record["provenance"]["modules"], job.study)
    return record if stamp["metadata"][STAMP].get("page") == files.digest(now) else None


def _compute(job: Job, force: bool, timeout: int | None) -> Record:
    expected, store = job.profile.seconds, short(files.build())
    cost = f"{duration(expected)} and {job.profile.disk_mb:.0f} MB in {store}/"
    sizes = ", with the sizes of the profile" if job.custom else ""
    print(f"{job.name}: expected are about {cost}{sizes}", flush=True)
    engine.ready(lambda told: print(f"{job.name}: {told}", flush=True))
    started, began = time.monotonic(), time.time()
    # Hashed before the kernel starts: what is edited during the run makes the result stale.
    everything = fingerprint.all_modules()
    given = job.study, job.values
    inputs = fingerprint.inputs(job.notebook, everything, *given, named=contents(*given))
    page = fingerprint.page(job.notebook, everything, job.study)
    work = job.folder.with_name(f".{job.folder.name}.run")  # the lock makes it ours alone
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    output = work / "notebook.ipynb"
    try:
        with _environment(job, force, work):
            notebook = _execute(job, output, timeout or max(MIN_TIMEOUT, int(10 * expected)))
        record = _gated(job, notebook)
        source = record["provenance"]
        for parts in (inputs, page):  # of all modules, those that the kernel imported
            parts["modules"] = {k: v for k, v in parts["modules"].items() if k in source["modules"]}
        inputs["versions"] = fingerprint.versions(inputs["modules"])
        inputs["place"] = source["place"]
        source |= {"key": files.digest(inputs), "inputs": inputs}
        source |= {"seconds": round(time.monotonic() - started, 1)}
        source |= {"set": list(job.custom)} if job.custom else {}
        record = records.seal(record)
        _keep(job, notebook, record, files.digest(page), work)
        keep_seconds(job.folder, began)
    except SuiteError as error:
        kept = ""
        if output.exists():
            files.write_atomic(job.folder / "failed.ipynb", output.read_bytes())
            kept = f" The notebook is kept as {short(job.folder)}/failed.ipynb."
        raise type(error)(f"{job.name}: {error}{kept}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{job.name}: done in {duration(time.monotonic() - started)}, {short(job.folder)}")
    return record


def _gated(job: Job, notebook: nbformat.NotebookNode) -> Record:
    """The record of a notebook that passes the gate, if it is that of this job."""
    record = gate(notebook, files.root(), job.given)
    wanted = {"study": job.study, "profile": job.profile.name, "params": job.values}
    for field, value in wanted.items():
        if record[field] != value:
            raise NotebookError(
                f"the result's {field} is {record[field]!r}; allowed is {value!r}. "
                f"The notebook must call parameters({job.study!r}, In, globals())."
            )
    children.refuse_other(record["provenance"])
    return judged(record)


def _keep(job: Job, notebook: nbformat.NotebookNode, record: Record, page: str, work: Path) -> None:
    stamp = {name: record["provenance"][name] for name in ("key", "inputs", "commit")}
    stamp |= {"study": job.study, "profile": job.profile.name, "page": page}
    document = json.loads(nbformat.writes(notebook))
    document["metadata"][STAMP] = stamp
    with files.folder_atomic(job.folder) as folder:
        for name, content in (("notebook.ipynb", seal_notebook(document)), ("result.json", record)):
            (folder / name).write_text(files.pretty(content), encoding="utf-8")
        if (work / SAES).exists():
            shutil.copy(work / SAES, folder)


def _publish(record: Record) -> None:
    path = records.published_path(record["study"], record["profile"])
    files.write_atomic(path, files.pretty(record))
    print(f"published {short(path)}")
    if record["provenance"]["dirty"]:
        why = "was computed with uncommitted changes; commit them and run again with --force"
        print(f"warning: {short(path)} {why} so that its commit is true", file=sys.stderr)


def _execute(job: Job, output: Path, timeout: int) -> nbformat.NotebookNode:
    """Execute the notebook in a kernel of its own.

    `output` is saved after every cell, so it shows where a failed run stopped. Raises
    NotebookError, naming the cell, when a cell fails or hangs or the kernel dies.
    """
    try:
        return papermill.execute_notebook(
            _literal(job.notebook),
            _literal(output),
            parameters=dict(job.given),
            kernel_name="python3",
            kernel_manager_class=children.Kernel,
            language="python",
            cwd=files.root(),
            execution_timeout=timeout,
            progress_bar={"desc": job.name} if sys.stderr.isatty() else False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no warning that it talks over TCP
            shutdown_kernel="immediate",  # a polite request makes busy kernels print tracebacks
        )
    except papermill.PapermillExecutionError as error:
        what = (str(error.evalue).splitlines() or [""])[0][:400]
        told = f"{name_cell(error.cell_index, error.source)} stopped with {error.ename}: {what}"
    except CellTimeoutError:
        told = f"{_last_started(output)} ran longer than {timeout} s, the limit for one cell. "
        told += "Give it more time with --timeout SECONDS."
    except DeadKernelError:
        told = f"the kernel died in {_last_started(output)}, most often for want of memory. "
        told += "Close other programs or lower the parameters that set sizes."
    except RuntimeError as error:
        told = f"the kernel did not start ({error}). Is ipykernel installed in this environment?"
    raise NotebookError(told)


def _literal(path: Path) -> str:
    """A path for papermill, which would fill in braces like a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_started(output: Path) -> str:
    """The cell at which a run that did not end by itself was stopped."""
    cells = nbformat.read(output, as_version=4).cells
    started = [i for i, cell in enumerate(cells) if cell.metadata.papermill.get("start_time")]
    return name_cell(started[-1], cells[started[-1]].source) if started else "no cell"


@contextlib.contextmanager
def _environment(job: Job, force: bool, work: Path) -> Iterator[None]:
    """Change this process's variables, which the kernel inherits, for the time of a block."""
    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(files.root()), before.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": before.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
        "SRCLIB_BUILD": str(files.build()),  # the kernel has another working directory
        "SRCLIB_SAES": str(work / SAES),
        # tasks of a cluster carry rows: a warning of their size would show a path of this machine
        "DASK_DISTRIBUTED__ADMIN__LARGE_GRAPH_WARNING_THRESHOLD": "1 TB",
    }
    if job.profile.name != "paper":  # only the paper's own models may be fetched
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if force:
        os.environ["SRCLIB_RECOMPUTE"] = "1"  # the notebook's caches are written but not read
    ours = children.untouched(os.environ, work)
    os.environ.clear()
    os.environ.update(ours)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
