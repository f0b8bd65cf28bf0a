"""The command line: list, run, claims, verify, clean, book.

Exit codes: 0 done; 1 failed; 2 wrong usage or parameters; 130 and 143 on signals. The
modules that run notebooks are imported by the commands that need them, so `list` and
`claims` answer in well under a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from .. import files
from ..errors import ParameterError, SuiteError
from . import params, records, verify
from .plan import duration, plan, short
from .verdicts import summary

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        with _sigterm_exits():
            code: int = options.command(options)
            sys.stdout.flush()
        return code
    except SuiteError as error:
        if options.debug:
            raise
        _print_error(error)
        return 2 if isinstance(error, ParameterError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `srclib claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a full disk, or a fault of ours
        if options.debug:
            raise
        _print_error(error, " (--debug shows where)")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("srclib", description="Run studies and read their results.")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        added.set_defaults(command=command)
        added.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
        return added

    add("list", _list, "studies, their profiles and expected times, and the last result")
    _run_options(add("run", _run, "run a study, or reuse its result if nothing has changed"))
    claims = add("claims", _claims, "what was measured and how each claim was judged")
    claims.add_argument("--study", help="one study only")
    claims.add_argument("--profile", default="laptop", choices=params.PROFILES)
    claims.add_argument("--json", action="store_true", help="print the records as JSON")
    check = add("verify", _verify, "name results that are stale or were edited by hand")
    check.add_argument("--strict", action="store_true", help="stale full and paper results fail")
    text = "first judge published measurements by the present ledger"
    check.add_argument("--rejudge", action="store_true", help=text)
    clean = add("clean", _clean, "delete stored intermediate results")
    clean.add_argument("--all", action="store_true", help="delete all of build/, results too")
    add("book", _book, "build the book from the executed notebooks")
    return parser


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("study", metavar="STUDY", help="a study that `list` shows, or `all`")
    run.add_argument("--profile", help="size of the run (default: laptop)")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--force", action="store_true", help="recompute from nothing")
    run.add_argument("--publish", action="store_true", help="write data/results/")
    run.add_argument("--jobs", type=_positive, default=1, metavar="N", help="studies at once")
    run.add_argument("--timeout", type=_positive, metavar="SECONDS", help="limit for one cell")


def _list(options: argparse.Namespace) -> int:
    for study in params.studies():
        spec = params.load_spec(study)
        print(f"{study}  {spec.title} ({spec.paper})")
        for name, profile in spec.profiles.items():
            print(f"    {name:7} about {duration(profile.seconds):7}  {_last(study, name)}")
    return 0


def _run(options: argparse.Namespace) -> int:
    profile, overrides = _settings(options)
    studies = params.studies() if options.study == "all" else [options.study]
    for study in studies:  # all of them first: a misspelt name must not cost an hour
        plan(study, profile, overrides, options.publish)
    if len(studies) > 1 and options.jobs > 1:
        return _run_parallel(studies, profile, options)

    from . import execute

    failures: list[SuiteError] = []
    for study in studies:
        try:
            record = execute.run(
                study,
                profile,
                overrides,
                force=options.force,
                publish=options.publish,
                timeout=options.timeout,
            )
            print(f"{study} at {profile}: {_counts(record)}", flush=True)
        except SuiteError as error:
            if len(studies) == 1:
                raise
            failures.append(error)
    for failure in failures:
        _print_error(failure)
    return 1 if failures else 0


def _run_parallel(studies: list[str], profile: str, options: argparse.Namespace) -> int:
    from .jobs import run_parallel

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.jobs)))
    shared = ["--profile", profile]
    shared += [text for name, value in options.p for text in ("-p", name, value)]
    shared += [f"--{name}" for name in ("force", "publish", "debug") if getattr(options, name)]
    shared += ["--timeout", str(options.timeout)] if options.timeout else []
    codes = run_parallel(main, [["run", study, *shared] for study in studies], options.jobs)
    return 1 if any(codes) else 0


def _claims(options: argparse.Namespace) -> int:
    studies = [options.study] if options.study else params.studies()
    found = [records.find(study, options.profile) for study in studies]
    if options.json:
        print(files.pretty({"studies": found}), end="")
        return 0
    for record in found:
        local = "" if record.get("published", True) else " (not published)"
        print(f"{record['study']} at {record['profile']}{local}: {_counts(record)}")
        for row in record["claims"]:
            print(f"    {row['verdict']:15} {row['id']}: {row['reason']}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    for path in records.rejudge_published() if options.rejudge else ():
        print(f"{short(path)}: judged anew")
    findings = verify.verify(strict=options.strict)
    for finding in findings:
        print(f"{finding.where}: {finding.what}")
    failed = sum(finding.failed for finding in findings)
    print(f"{failed} problem(s)" if failed else "every published result belongs to this code")
    return 1 if failed else 0


def _clean(options: argparse.Namespace) -> int:
    folder = files.build() if options.all else files.build() / "cache"
    size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
    print(f"deleting {short(folder)}/: {size / 1e6:.1f} MB")
    if folder.exists():
        shutil.rmtree(folder)
    return 0


def _book(options: argparse.Namespace) -> int:
    from . import book

    book.build()
    return 0


def _settings(options: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """The profile and the other parameters; `-p profile smoke` is `--profile smoke`."""
    overrides: dict[str, object] = {}
    for name, value in options.p:
        if name in overrides:
            raise ParameterError(f"{name} is given twice; allowed is once. Remove one.")
        overrides[name] = value
    named = str(overrides.pop("profile", options.profile or "laptop"))
    if options.profile not in (None, named):
        raise ParameterError(f"profile is given as {options.profile} and {named}. Remove one.")
    return named, overrides


def _last(study: str, profile: str) -> str:
    places = (records.published_path(study, profile), records.local_path(study, profile))
    if not any(path.exists() for path in places):
        return "never run"
    record = records.find(study, profile)
    local = "" if record.get("published", True) else " (not published)"
    return _counts(record) + local


def _counts(record: records.Record) -> str:
    """`reduced: 20 replicated, 3 partly; paper: 4 not assessed`: scales are never added."""
    return "; ".join(
        f"{scale}: " + ", ".join(f"{count} {verdict}" for verdict, count in row.items() if count)
        for scale, row in summary([record]).items()
    )


def _print_error(error: Exception, hint: str = "") -> None:
    print(f"{type(error).__name__}: {' '.join(str(error).split())}{hint}", file=sys.stderr)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is a whole number above 0")
    return int(text)


@contextlib.contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that kernels are shut down, and exit with 143."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
