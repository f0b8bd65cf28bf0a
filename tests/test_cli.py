"""The command line as a user meets it: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Run, command, write_study

FAILS_BEFORE_COMPUTING = {
    "P1 misspelt": (["-p", "numberz", "[1]"], "'numbers'"),
    "P2 no boolean": (["-p", "quick", "no"], "quick"),
    "P3 no list": (["-p", "numbers", "1,2"], "numbers"),
    "P4 float for int": (["-p", "seed", "3.7"], "seed"),
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
    case: str, toy_session: Path, srclib: Run
) -> None:
    arguments, expected = FAILS_BEFORE_COMPUTING[case]
    done = srclib(toy_session, "run", "toy", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unknown_study_names_those_that_exist(toy_session: Path, srclib: Run) -> None:
    for arguments in (["run", "toi"], ["claims", "--study", "toi"]):
        done = srclib(toy_session, *arguments)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("ParameterError") and "'toy'" in line


def test_debug_shows_the_traceback(toy_session: Path, srclib: Run) -> None:
    for arguments in (["--debug", "run", "toi"], ["run", "toi", "--debug"]):
        done = srclib(toy_session, *arguments)
        assert done.returncode != 0 and "Traceback" in done.stderr


def test_a_cell_that_differs_from_the_profile_file_is_found(
    toy_checkout: Path, srclib: Run
) -> None:
    notebook = toy_checkout / "notebooks" / "toy.ipynb"
    text = notebook.read_text("utf-8")
    notebook.write_text(text.replace("quick: bool = None", "hasty: bool = None"), "utf-8")
    done = srclib(toy_checkout, "run", "toy", "--force")
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


def test_claims_as_text_never_adds_scales(toy_ran: Path, srclib: Run) -> None:
    lines = srclib(toy_ran, "claims").stdout.splitlines()
    expected = "toy at laptop (not published): reduced: 1 replicated; paper: 1 not assessed"
    assert lines[0] == expected
    assert "replicated" in lines[1] and "toy.mean: Holds" in lines[1]
    assert "not assessed" in lines[2] and "toy.named: needs a named model" in lines[2]


def test_claims_as_json_prints_local_and_never_run_records(toy_ran: Path, srclib: Run) -> None:
    (local,) = json.loads(srclib(toy_ran, "claims", "--json").stdout)["studies"]
    stored = json.loads((toy_ran / "build/toy/laptop/result.json").read_text("utf-8"))
    assert local == {**stored, "published": False}
    done = srclib(toy_ran, "claims", "--study", "toy", "--profile", "full", "--json")
    assert done.returncode == 0
    (never,) = json.loads(done.stdout)["studies"]
    assert {row["verdict"] for row in never["claims"]} == {"not assessed"}
    assert all(row["reason"] for row in never["claims"])


def test_publish_claims_verify(toy_checkout: Path, srclib: Run) -> None:
    done = srclib(toy_checkout, "run", "toy", "--publish")
    assert done.returncode == 0 and "published data/results/toy.laptop.json" in done.stdout
    published = toy_checkout / "data" / "results" / "toy.laptop.json"
    (shown,) = json.loads(srclib(toy_checkout, "claims", "--json").stdout)["studies"]
    assert shown == json.loads(published.read_text("utf-8"))
    assert srclib(toy_checkout, "verify").returncode == 0

    text = published.read_text("utf-8")
    published.write_text(text.replace("near two", "exactly two"), "utf-8")
    found = srclib(toy_checkout, "verify")
    assert found.returncode == 1
    assert "data/results/toy.laptop.json: was edited by hand" in found.stdout


def test_clean_says_how_much_and_keeps_results(toy_checkout: Path, srclib: Run) -> None:
    (toy_checkout / "build" / "cache").mkdir()
    (toy_checkout / "build" / "cache" / "x").write_bytes(bytes(3_000_000))
    done = srclib(toy_checkout, "clean")
    assert "build/cache/: 3.0 MB" in done.stdout
    assert [path.name for path in (toy_checkout / "build").glob("[ct]*")] == ["toy"]
    assert srclib(toy_checkout, "clean", "--all").returncode == 0
    assert not (toy_checkout / "build").exists()
    assert srclib(toy_checkout, "clean").returncode == 0


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
def test_list_and_claims_are_quick_and_load_nothing_heavy(
    name: str, toy_ran: Path, tmp_path: Path
) -> None:
    started = command(toy_ran, name)
    started["args"][1:1] = ["-X", "importtime"]
    done = subprocess.run(**started, capture_output=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"torch", "numpy", "papermill", "nbformat", "matplotlib", "transformers", "datasets"}
    assert "srclib.suite.cli" in loaded and not heavy & loaded
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run(**command(toy_ran, name), capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1


def test_a_checkout_without_studies_lists_nothing(
    toy_session: Path, srclib: Run, tmp_path: Path
) -> None:
    shutil.copytree(toy_session / "srclib", tmp_path / "bare" / "srclib")
    done = srclib(tmp_path / "bare", "list")
    assert (done.returncode, done.stdout) == (0, "")
