"""What is validated before a kernel starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import write_study

from srclib.errors import NotebookError, ParameterError, SuiteError
from srclib.store import files
from srclib.suite.plan import check_disk, duration, plan


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that holds the toy study; `files.root()` points to it."""
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    write_study(tmp_path)
    return tmp_path


def test_only_what_was_given_is_injected() -> None:
    job = plan("toy", "smoke", {"numbers": "[4, 5]"})
    assert job.given == {"profile": "smoke", "numbers": [4.0, 5.0]}
    common = {"seed": 0, "device": "auto", "dtype": "auto"}
    assert job.values == {**job.given, **common, "quick": True, "fault": "none"}
    assert plan("toy", "smoke", {}).given == {"profile": "smoke"}


def test_a_run_with_overrides_has_a_folder_per_set_of_values() -> None:
    def name(profile: str, **overrides: object) -> str:
        return plan("toy", profile, overrides).folder.name

    assert name("laptop") == "laptop"
    custom = {name("laptop", seed=1), name("laptop", seed=2), name("smoke", seed=1)}
    assert len(custom) == 3 and all(each.startswith("custom-") for each in custom)
    assert name("laptop", seed="1") == name("laptop", seed=1)
    # a value that equals the profile's was set on purpose: the run is still the caller's own
    assert name("laptop", seed=0).startswith("custom-")


def test_publishing_needs_a_profile_above_smoke_as_it_is() -> None:
    assert not plan("toy", "laptop", {}, publish=True).custom
    for profile, overrides in (("smoke", {}), ("laptop", {"seed": 0})):
        with pytest.raises(ParameterError, match="--publish"):
            plan("toy", profile, overrides, publish=True)


def test_a_missing_notebook_is_named(checkout: Path) -> None:
    (checkout / "notebooks" / "toy.ipynb").unlink()
    with pytest.raises(NotebookError, match=r"toy\.ipynb"):
        plan("toy", "smoke", {})


def test_a_full_disk_is_found_before_computing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_disk(plan("toy", "laptop", {}))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=900_000))
    with pytest.raises(SuiteError, match="needs about 1 MB"):
        check_disk(plan("toy", "laptop", {}))
    check_disk(plan("toy", "laptop", {"numbers": "[1]"}))  # may need less: a warning
    assert "needs about 1 MB and 1 MB are free" in capsys.readouterr().err


def test_durations_are_rounded_to_what_a_reader_needs() -> None:
    shown = [duration(seconds) for seconds in (0.2, 12, 99, 240, 5399, 7200)]
    assert shown == ["0 s", "12 s", "99 s", "4 min", "90 min", "2.0 h"]
