"""A new study runs as written, and nothing that is there is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import notebook_lint
import pytest
from conftest import Run

from srclib.errors import ParameterError
from srclib.store import files
from srclib.suite import new_study


def test_it_runs_without_an_edit(toy_checkout: Path, srclib: Run) -> None:
    (toy_checkout / "book").mkdir(exist_ok=True)
    toc = "chapters:\n      - file: toy\n  - caption: Background\n"
    (toy_checkout / "book" / "_toc.yml").write_text(toc)
    assert "wrote notebooks/fresh.ipynb" in srclib(toy_checkout, "new", "fresh").stdout
    assert notebook_lint.problems(toy_checkout / "notebooks" / "fresh.ipynb") == []
    assert "- file: fresh\n  - caption" in (toy_checkout / "book" / "_toc.yml").read_text()
    told = srclib(toy_checkout, "run", "fresh", "--profile", "smoke", "--estimate")
    assert "SAEs: 1 trainings, 5.12e+03 inputs" in told.stdout, told.stderr  # 20 steps of 256
    assert "    not counted" not in told.stdout and "stored already: 0" in told.stdout
    assert not (toy_checkout / "build" / "cache").exists(), "it left something in the store"
    done = srclib(toy_checkout, "run", "fresh", "--profile", "smoke")
    assert done.returncode == 0, done.stderr
    record = json.loads((toy_checkout / "build/fresh/smoke/result.json").read_text("utf-8"))
    assert record["claims"][0]["measured"], "a number was recorded"
    told = srclib(toy_checkout, "run", "fresh", "--profile", "smoke", "--estimate")
    assert "stored already: 1" in told.stdout and "trainings" not in told.stdout


@pytest.mark.parametrize("name", ["toy", "Two words", "../x", "1a", ""])
def test_what_is_there_stays(toy_checkout: Path, monkeypatch, name: str) -> None:
    monkeypatch.setattr(files, "checkout", lambda: toy_checkout)
    before = sorted(path.name for path in toy_checkout.rglob("*.toml"))
    with pytest.raises(ParameterError, match=r"exists|study="):
        new_study.create(name)
    assert sorted(path.name for path in toy_checkout.rglob("*.toml")) == before
