"""The command line: studies (list, run, claims, ...) and anybody's SAE (report, doctor, convert).

Exit codes: 0 done; 1 failed; 2 wrong usage or parameters; 130 and 143 on signals. Modules that
run notebooks are imported where they are needed, so `list` and `claims` answer at once.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from ..errors import ParameterError, SuiteError, message
from ..store import files, locks
from . import any_sae, params, records, results, secrets, verify
from .plan import advice, plan
from .verdicts import marks, told

Options = argparse.Namespace
Command = Callable[[Options], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.command not in (_clean, *any_sae.COMMANDS):
            files.checkout()  # refuses in one line where there is no checkout
        signal.signal(signal.SIGTERM, _leave)
        code: int | None = options.command(options)
        sys.stdout.flush()
        return code or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `srclib claims | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _failed(error, options.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("srclib", description="Run studies and read their results.")
    parser.add_argument("--version", action="version", version=f"srclib {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Command, help: str) -> Callable[..., argparse.Action]:
        added = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        added.set_defaults(command=command)
        added.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
        return added.add_argument

    add("list", _list, "studies, their profiles and times, and the last result")
    run = add("run", _run, "run a study, or reuse its result if nothing has changed")
    _run_options(run)
    claims = add("claims", _claims, "what was measured and how each claim was judged")
    claims("--study", help="one study only")
    claims("--profile", default="laptop", choices=params.PROFILES)
    claims("--json", action="store_true", help="print the records as JSON")
    compare = add("compare", _compare, "two results of a study side by side, claim by claim")
    compare("study", metavar="STUDY")
    compare("--profile", default="laptop", choices=params.PROFILES)
    names = "a profile, PROFILE-published, PROFILE-local or custom-..., as `list` shows it"
    compare("--with", dest="other", metavar="NAME", required=True, help=names)
    saes = add("saes", _saes, "the SAEs that a study has left in the store")
    saes("study", metavar="STUDY")
    saes("--export", nargs=2, metavar=("NAME", "FOLDER"), help="copy one for load_sae")
    new = add("new", _new, "make the files of a study that runs, to be filled with claims")
    new("study", metavar="STUDY", help="its name, such as sae_md")
    any_sae.commands(add, _positive)
    check = add("verify", _verify, "name results that are stale or were edited by hand")
    check("--strict", action="store_true", help="stale full and paper results fail")
    check("--rejudge", action="store_true", help="first judge published measurements anew")
    clean = add("clean", _clean, "delete stored intermediate results")
    clean("--all", action="store_true", help="delete the whole store, results too")
    book = add("book", _book, "build the book from the executed notebooks")
    book("--readme", action="store_true", help="only renew the picture in the READMEs")
    return parser


def _run_options(run: Callable[..., argparse.Action]) -> None:
    run("study", metavar="STUDY", help="a study that `list` shows, or `all`")
    run("--profile", help="size of the run (default: laptop)")
    run("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run("--force", action="store_true", help="recompute from nothing")
    run("--publish", action="store_true", help="write data/results/")
    run("--jobs", type=_positive, default=1, metavar="N", help="studies at once")
    run("--engine", metavar="local[:N]|dask:ADDRESS", help="where runs are computed")
    run("--estimate", action="store_true", help="say what it would cost, and compute nothing")
    run("--peak", type=float, metavar="TFLOPS", help="for --estimate: what the machine reaches")
    run("--timeout", type=_positive, metavar="SECONDS", help="limit for one cell")


def _list(options: Options) -> None:
    for line in results.overview():
        print(line)


def _run(options: Options) -> int:
    from . import ranks

    with ranks.joined(options.engine) as leads:
        return _run_all(options) if leads else 0


def _run_all(options: Options) -> int:
    profile, overrides = _settings(options)
    studies = params.studies() if options.study == "all" else [options.study]
    for study in studies:  # all of them first: a misspelt name must not cost an hour
        plan(study, profile, overrides, options.publish)
    if options.estimate:
        from . import costs

        for study in studies:
            costs.show(study, profile, overrides, options.peak)
        return 0
    one = functools.partial(_run_one, options, profile, overrides)
    if options.jobs == 1 or len(studies) < 2:
        return max(map(one, studies), default=0)

    from ..engines.engine import in_processes

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // options.jobs)))
    return max(in_processes(options.jobs, one, studies))


def _run_one(options: Options, profile: str, overrides: dict[str, object], study: str) -> int:
    """In this process or in a worker; a failure is told at once and does not stop the others."""
    from . import execute

    signal.signal(signal.SIGTERM, _leave)
    how = {name: getattr(options, name) for name in ("force", "publish", "timeout")}
    try:
        record = execute.run(study, profile, overrides, **how)
    except Exception as error:
        return _failed(error, options.debug)
    print(f"{study} at {profile}: {told(record)}", flush=True)
    return 0


def _claims(options: Options) -> None:
    studies = [options.study] if options.study else params.studies()
    found = [records.find(study, options.profile) for study in studies]
    if options.json:
        print(files.pretty({"studies": found}), end="")
        return
    for record in found:
        print(f"{record['study']} at {record['profile']}: {told(record)}")
        for row in record["claims"]:
            aside = "".join(f" ({mark})" for mark in marks(row))
            print(f"    {row['verdict']:15} {row['id']}{aside}: {row['reason']}")
        for line in results.lines(record["study"], options.profile):
            print(f"  {line}")


def _compare(options: Options) -> None:
    print(*results.compare(options.study, options.profile, options.other), sep="\n")


def _saes(options: Options) -> None:
    if options.export:
        print(f"saved {results.export(options.study, *options.export)}: srclib.load_sae reads it")
    else:
        shown = list(results.sae_lines(options.study))
        print(*shown or [f"none: run {options.study} first"], sep="\n")


def _verify(options: Options) -> int:
    for path in records.rejudge_published() if options.rejudge else ():
        print(f"{files.short(path)}: judged anew")
    looked, findings = len(verify.published()), verify.verify(strict=options.strict)
    for finding in findings:
        print(f"{finding.where}: {finding.what}")
    failed = sum(finding.failed for finding in findings)
    kept = sum(finding.changed and not finding.failed for finding in findings)
    if failed:
        print(f"{failed} problem(s)")
    elif not looked:
        print("nothing to verify: neither data/results/ nor book/_executed/ holds a result")
    elif kept:
        print(f"{kept} of {looked} results keep the commit of earlier code (--strict: they fail)")
    else:
        print("every published result belongs to this code")
    return 1 if failed or not looked else 0


def _clean(options: Options) -> None:
    folder = files.build() if options.all else files.build() / "cache"
    with locks.alone(files.build()) as there:
        if folder.exists() and not there:
            allowed, fix = f"a store with {files.MARK}", "Delete it by hand if nobody needs it."
            raise SuiteError(message("folder", str(folder), allowed, fix))
        print(f"deleted {files.short(folder)}/: {files.empty(folder):.1f} MB")


def _new(options: Options) -> None:
    from .new_study import create

    for path in create(options.study):
        print(f"wrote {files.short(path)}")
    print(f"Try it: python -m srclib run {options.study} --profile smoke")


def _book(options: Options) -> None:
    from . import book

    book.renew_readmes() if options.readme else book.build()


def _settings(options: Options) -> tuple[str, dict[str, object]]:
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


def _failed(error: Exception, debug: bool) -> int:
    """Tell an error in one line on stderr; the exit code. A full disk, say, is no SuiteError."""
    if debug:
        raise error
    text, hint = " ".join(str(error).split()), advice(str(error))
    if what := secrets.found(text):
        text = f"the message holds {what} and is not shown"
    hint += "" if isinstance(error, SuiteError) else " (--debug shows where)"
    print(f"{type(error).__name__}: {text}{hint}", file=sys.stderr)
    return 2 if isinstance(error, ParameterError) else 1


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is a whole number above 0")
    return int(text)


def _leave(number: int, frame: object) -> None:
    """On SIGTERM the stack is unwound, so that kernels are shut down; the exit code is 143."""
    raise SystemExit(128 + number)
