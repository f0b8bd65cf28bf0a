"""The command line as a user meets it: output, exit codes, one-line errors."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Run, command, write_study

from srclib import SAE, TopK, load_sae, save_sae
from srclib import __version__ as version
from srclib.errors import DataError
from srclib.lm import models
from srclib.store import files
from srclib.suite import cli, records, results

FAILS_BEFORE_COMPUTING = {
    "P1 misspelt": (["-p", "numberz", "[1]"], "'numbers'"),
    "P2 no boolean": (["-p", "quick", "no"], "quick"),
    "P3 no list": (["-p", "numbers", "1,2"], "numbers"),
    "P4 float for int": (["-p", "seed", "3.7"], "seed"),
    "engine": (["--engine", "local:0"], "local, local:N or dask:ADDRESS"),
    "peak": (["--estimate", "--peak", "-1"], "--peak"),
    "P4 negative": (["-p", "seed", "-1"], "0 <= seed"),
    "P4 huge": (["-p", "seed", str(2**63)], "seed"),
    "P5 nan": (["-p", "numbers", "[nan]"], "numbers"),
    "P5 zero": (["-p", "numbers", "[0]"], "0 < each element"),
    "given twice": (["-p", "seed", "1", "-p", "seed", "2"], "twice"),
    "unknown profile": (["--profile", "huge"], "smoke, laptop, full"),
    "two profiles": (["--profile", "smoke", "-p", "profile", "full"], "smoke and full"),
    "publish smoke": (["--profile", "smoke", "--publish"], "--publish"),
    "publish overridden": (["-p", "seed", "0", "--publish"], "--publish"),
    "no number of jobs": (["--jobs", "0"], "--jobs"),
    "abbreviation": (["--prof", "smoke"], "--prof"),
}


@pytest.mark.parametrize("case", FAILS_BEFORE_COMPUTING)
def test_wrong_usage_exits_with_2_before_computing(
    case: str, toy_session: Path, called: Run
) -> None:
    arguments, expected = FAILS_BEFORE_COMPUTING[case]
    done = called(toy_session, "run", "toy", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unknown_study_names_those_that_exist(
    toy_session: Path, srclib: Run, called: Run
) -> None:
    for start, arguments in ((srclib, ["run", "toi"]), (called, ["claims", "--study", "toi"])):
        done = start(toy_session, *arguments)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("ParameterError") and "'toy'" in line


def test_debug_shows_the_traceback(toy_session: Path, srclib: Run) -> None:
    for arguments in (["--debug", "run", "toi"], ["run", "toi", "--debug"]):
        done = srclib(toy_session, *arguments)
        assert done.returncode != 0 and "Traceback" in done.stderr


def test_a_cell_that_differs_from_the_profile_file_is_found(
    toy_checkout: Path, called: Run
) -> None:
    notebook = toy_checkout / "notebooks" / "toy.ipynb"
    text = notebook.read_text("utf-8")
    notebook.write_text(text.replace("quick: bool = None", "hasty: bool = None"), "utf-8")
    done = called(toy_checkout, "run", "toy", "--force")
    assert done.returncode == 2
    assert "hasty" in done.stderr and "toy.toml" in done.stderr


def test_list_shows_studies_profiles_times_and_results(toy_ran: Path, srclib: Run) -> None:
    done = srclib(toy_ran, "list")
    assert done.returncode == 0
    title, smoke, laptop, full = done.stdout.strip().splitlines()
    assert title == "toy  A toy study (none)"
    assert "smoke" in smoke and "about 1 s" in smoke and "never run" in smoke
    assert "1 replicated" in laptop and "(not published)" in laptop
    assert "about 2.0 h" in full


def test_what_the_system_says_comes_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    def told(error: Exception) -> str:
        cli._failed(error, debug=False)
        return capsys.readouterr().err

    full = told(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "build/cache/x"))
    assert "'build/cache/x'" in full and "run the same again: what was finished is stored" in full
    absent = told(DataError("model='a/b': not there. " + models._remedy("a/b", None)))
    assert "accept the licence" in absent and "hf auth login" in absent and "Free" not in absent


def test_list_shows_what_a_run_took_that_trained_all_of_its_saes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    key, folder = "ab" * 32, tmp_path / "matrix" / "smoke"
    for made in (files.make(files.place(key)) / "sae.json", files.make(folder) / results.SAES):
        made.write_text(json.dumps({"key": key}))
    began = (files.place(key) / "sae.json").stat().st_mtime
    results.keep_seconds(folder, began + 1)  # then this SAE was stored before
    assert results.seconds("matrix", "smoke") is None
    results.keep_seconds(folder, began - 240)
    listed = list(results.overview())
    shown = listed[listed.index(next(line for line in listed if line.startswith("matrix "))) + 1]
    assert shown.startswith("    smoke   took  4 min")
    assert sum("  took  " in line for line in listed) == 1


def test_claims_as_text_never_adds_scales(toy_ran: Path, called: Run) -> None:
    lines = called(toy_ran, "claims").stdout.splitlines()
    expected = "toy at laptop: reduced: 1 replicated; paper: 1 not assessed (not published)"
    assert lines[0] == expected
    assert "replicated" in lines[1] and "toy.mean: Holds" in lines[1]
    assert "not assessed" in lines[2] and "toy.named: needs a named model" in lines[2]


def test_claims_as_json_prints_local_and_never_run_records(toy_ran: Path, called: Run) -> None:
    (local,) = json.loads(called(toy_ran, "claims", "--json").stdout)["studies"]
    stored = json.loads((toy_ran / "build/toy/laptop/result.json").read_text("utf-8"))
    assert local == {**stored, "published": False}
    done = called(toy_ran, "claims", "--study", "toy", "--profile", "full", "--json")
    assert done.returncode == 0
    (never,) = json.loads(done.stdout)["studies"]
    assert {row["verdict"] for row in never["claims"]} == {"not assessed"}
    assert all(row["reason"] for row in never["claims"])


def test_publish_claims_verify(toy_checkout: Path, srclib: Run, called: Run) -> None:
    done = srclib(toy_checkout, "run", "toy", "--publish")
    assert done.returncode == 0 and "published data/results/toy.laptop.json" in done.stdout
    published = toy_checkout / "data" / "results" / "toy.laptop.json"
    (shown,) = json.loads(called(toy_checkout, "claims", "--json").stdout)["studies"]
    assert shown == json.loads(published.read_text("utf-8"))
    assert srclib(toy_checkout, "verify").returncode == 0

    text = published.read_text("utf-8")
    published.write_text(text.replace("near two", "exactly two"), "utf-8")
    found = called(toy_checkout, "verify")
    assert found.returncode == 1
    assert "data/results/toy.laptop.json: was edited by hand" in found.stdout


def test_clean_says_how_much_and_keeps_results(toy_checkout: Path, called: Run) -> None:
    (toy_checkout / "build" / "cache").mkdir()
    (toy_checkout / "build" / "cache" / "x").write_bytes(bytes(3_000_000))
    done = called(toy_checkout, "clean")
    assert "build/cache/: 3.0 MB" in done.stdout
    assert [path.name for path in (toy_checkout / "build").glob("[ct]*")] == ["toy"]
    assert called(toy_checkout, "clean", "--all").returncode == 0
    assert not (toy_checkout / "build").exists()
    assert called(toy_checkout, "clean").returncode == 0


def test_an_error_in_one_of_all_studies_does_not_hide_the_others(
    toy_checkout: Path, srclib: Run
) -> None:
    write_study(toy_checkout, "atoy")
    notebook = toy_checkout / "notebooks" / "atoy.ipynb"
    text = notebook.read_text("utf-8").replace("P.fault == 'raise'", "P.fault == 'none'")
    notebook.write_text(text, "utf-8")
    done = srclib(toy_checkout, "run", "all")
    assert done.returncode == 1
    assert "toy at laptop: up to date" in done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "atoy at laptop" in line and "on purpose" in line


def test_a_closed_pipe_is_quiet(toy_session: Path) -> None:
    started = command(toy_session, "claims", "--json")
    with subprocess.Popen(**started, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        writer.stdout.close()
        assert writer.stderr.read() == ""
    assert writer.returncode == 0


@pytest.mark.parametrize("name", ["list", "claims"])
def test_list_and_claims_load_nothing_heavy(name: str, toy_ran: Path) -> None:
    started = command(toy_ran, name)
    started["args"][1:1] = ["-X", "importtime"]
    done = subprocess.run(**started, capture_output=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "numpy", "papermill", "nbformat", "matplotlib", "transformers", "datasets"}
    assert "srclib.suite.cli" in loaded and not heavy & loaded


@pytest.fixture
def installed(toy_session: Path, tmp_path: Path) -> Path:
    """The package alone, as `pip install` leaves it, beside a `build` that is not ours."""
    shutil.copytree(toy_session / "srclib", tmp_path / "site" / "srclib")
    (tmp_path / "site" / "build").mkdir()
    (tmp_path / "site" / "build" / "theirs.py").touch()
    return tmp_path / "site"


@pytest.mark.parametrize(
    "line", ["list", "claims", "claims --json", "verify", "run l0", "compare l0 --with full",
             "saes l0", "book"]
)  # fmt: skip
def test_outside_a_checkout_one_line_says_how_to_get_one(
    installed: Path, srclib: Run, called: Run, line: str
) -> None:
    start = srclib if line == "run l0" else called
    done = start(installed, *line.split())
    assert (done.returncode, done.stdout) == (1, "")
    (told,) = done.stderr.strip().splitlines()
    assert "needs a checkout" in told and "pip install -e" in told


def test_clean_deletes_nothing_that_is_not_ours(
    installed: Path, tmp_path: Path, called: Run
) -> None:
    store = tmp_path / "cache" / "srclib"
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "SRCLIB_BUILD": ""}
    assert called(installed, "clean", "--all", **home).returncode == 0  # nothing is there yet
    (store / "cache").mkdir(parents=True)
    (store / "cache" / "x").touch()
    done = called(installed, "clean", "--all", **home)
    assert done.returncode == 1 and ".srclib-store" in done.stderr and (store / "cache/x").exists()
    (store / ".srclib-store").touch()
    assert called(installed, "clean", "--all", **home).returncode == 0
    assert not store.exists() and (installed / "build" / "theirs.py").exists()


def test_the_version(installed: Path, srclib: Run) -> None:
    assert srclib(installed, "--version").stdout == f"srclib {version}\n"


def test_verify_with_nothing_to_verify_fails(
    toy_session: Path, tmp_path: Path, called: Run
) -> None:
    for name in ("srclib", "notebooks", "data"):
        shutil.copytree(toy_session / name, tmp_path / "new" / name)
    (tmp_path / "new" / "pyproject.toml").touch()
    done = called(tmp_path / "new", "verify")
    assert done.returncode == 1 and "nothing to verify" in done.stdout


def test_verify_does_not_say_that_changed_results_belong_to_the_code(
    toy_checkout: Path, called: Run
) -> None:
    record = json.loads((toy_checkout / "build/toy/laptop/result.json").read_text("utf-8"))
    record["profile"] = "full"
    path = toy_checkout / "data/results/toy.full.json"
    files.write_atomic(path, files.pretty(records.seal(record)))
    done = called(toy_checkout, "verify")
    assert done.returncode == 0 and "since then: parameter profile changed" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "1 of 2 results keep the commit of earlier code (--strict: they fail)"
    assert called(toy_checkout, "verify", "--strict").returncode == 1


def test_custom_runs_are_listed_and_compared(toy_checkout: Path, srclib: Run, called: Run) -> None:
    assert srclib(toy_checkout, "run", "toy", "-p", "numbers", "[4, 5]").returncode == 0
    (folder,) = (toy_checkout / "build/toy").glob("custom-*")
    for command_line in ("list", "claims"):
        shown = called(toy_checkout, command_line).stdout
        assert f"{folder.name}  laptop with numbers=[4.0, 5.0]: reduced: 1 not" in shown
    done = called(toy_checkout, "compare", "toy", "--with", folder.name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"toy: laptop | {folder.name}",
        "toy.mean: replicated | not assessed",
        "    value: 2 [1, 3] | 4.5 [4, 5]",
        "toy.named: not assessed | not assessed",
    ]
    wrong = called(toy_checkout, "compare", "toy", "--with", "laptop-publisht")
    assert wrong.returncode == 2 and "laptop-local" in wrong.stderr
    (folder / "result.json").write_text("{}")
    assert f"{folder.name}  build/toy/" in called(toy_checkout, "list").stdout


def test_a_local_run_that_differs_from_the_published_one(toy_checkout: Path, called: Run) -> None:
    local = toy_checkout / "build/toy/laptop/result.json"
    record = json.loads(local.read_text("utf-8"))
    record["claims"][0]["measured"] = 2.5
    path = toy_checkout / "data/results/toy.laptop.json"
    files.write_atomic(path, files.pretty(records.seal(record)))
    assert "laptop-local  laptop: reduced: 1 replicated" in called(toy_checkout, "list").stdout
    done = called(toy_checkout, "compare", "toy", "--with", "laptop-local")
    assert "    value: 2.5 [1, 3] | 2 [1, 3]" in done.stdout


def test_the_saes_of_a_study_are_listed_and_exported(
    toy_checkout: Path, tmp_path: Path, called: Run
) -> None:
    assert called(toy_checkout, "saes", "toy").stdout == "none: run toy first\n"
    key, row = "ab" * 32, {"d_in": 4, "d_sae": 6, "activation": "TopK(k=2)", "index": {"k": 2}}
    gone = {**row, "key": "cd" * 32}
    lines = [files.canonical(each) for each in ({**row, "key": key, "l0": 2.0}, gone)]
    (toy_checkout / "build/toy/laptop/saes.jsonl").write_text("\n".join(lines))
    sae = SAE(4, 6, TopK(2))
    save_sae(sae, toy_checkout / "build" / "cache" / "ab" / key)
    shown = called(toy_checkout, "saes", "toy").stdout.split("  ")
    place = f"build/cache/ab/{key}\n"
    size = ["4 x 6", "TopK(k=2)", "k=2"]
    assert shown == ["abababababab", *size, "L0 2", "laptop", place]
    out = tmp_path / "out"
    assert called(toy_checkout, "saes", "toy", "--export", "abab", str(out)).returncode == 0
    assert load_sae(out).W_dec.equal(sae.W_dec)
    done = called(toy_checkout, "saes", "toy", "--export", "cd", str(out))
    assert done.returncode == 2 and "abababababab" in done.stderr
