"""What parameters name is known by its contents: another one under the same path is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srclib.store import files
from srclib.suite import named, verify
from srclib.suite.named import contents


def a_file(home: Path) -> tuple[str, Path]:
    (home / "corpus.txt").write_text("one")
    return str(home / "corpus.txt"), home / "corpus.txt"


def a_folder(home: Path) -> tuple[str, Path]:
    (home / "model" / "deep").mkdir(parents=True)
    (home / "model" / "deep" / "weights").write_text("one")
    return str(home / "model"), home / "model" / "deep" / "weights"


def a_series(home: Path) -> tuple[str, Path]:
    for step in (10, 20):
        (home / f"iter_{step:05d}").mkdir()
        (home / f"iter_{step:05d}" / "weights").write_text("one")
    return str(home / "iter_{step:05d}"), home / "iter_00020" / "weights"


def beside_the_checkout(home: Path) -> tuple[str, Path]:
    a_folder(home)
    return "model", home / "model" / "deep" / "weights"


def of_the_hub(home: Path) -> tuple[str, Path]:
    branch = home / "hub" / "models--owner--model" / "refs" / "main"
    branch.parent.mkdir(parents=True)
    branch.write_text("one")
    return "owner/model", branch


def a_revision_of_the_hub(home: Path) -> tuple[str, Path]:
    _, branch = of_the_hub(home)
    return "owner/model@step{step}", branch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize(
    "make",
    [a_file, a_folder, a_series, beside_the_checkout, of_the_hub, a_revision_of_the_hub],
)
def test_another_content_is_another_hash(
    make: Callable[[Path], tuple[str, Path]], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is beside_the_checkout:
        monkeypatch.setattr(files, "root", lambda: home)
        monkeypatch.setattr("srclib.suite.params.load_spec", lambda study, of=SPEC: of)
    text, file = make(home)
    before = contents("l0_lm", {"model_name": text, "corpus": ""})
    assert set(before) == {"model_name"}
    assert contents("l0_lm", {"model_name": text, "corpus": ""}) == before
    file.write_text("two")
    changed = contents("l0_lm", {"model_name": text, "corpus": ""})
    assert set(changed) == set(before) and changed != before


class _Field:
    choices = None


class SPEC:
    fields = {"model_name": _Field, "corpus": _Field}  # noqa: RUF012  # stands for a spec


def test_content_behind_a_link_to_a_folder_counts(home: Path, tmp_path: Path) -> None:
    own, other = home / "corpus", home / "elsewhere"
    own.mkdir(), other.mkdir()
    (other / "a.txt").write_text("one")
    (own / "part").symlink_to(other)
    (own / "round").symlink_to(own)  # a circle
    before = named._hash(str(own))
    (other / "a.txt").write_text("two")
    assert named._hash(str(own)) != before


def test_lists_count_and_what_names_nothing_does_not(home: Path) -> None:
    text, file = a_file(home)
    found = contents("gba_lm", {"model_name": "nobody/nothing", "corpora": ["", text], "d_sae": 3})
    assert set(found) == {"corpora"}
    assert contents("gba_lm", {"corpora": [text, ""]}) != found
    file.unlink()
    assert contents("gba_lm", {"corpora": ["", text], "model_name": "x" * 5000}) == {}


def test_a_word_of_a_profile_is_no_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for word in ("laptop", "threshold", "auto"):
        (home / word).mkdir()
    values = {"profile": "laptop", "device": "auto", "selection": "threshold"}
    assert contents("checkpoints", values) == {}


def inputs(**named: str) -> dict[str, Any]:
    parts: dict[str, Any] = {part: {} for part in ("modules", "params", "versions")}
    return {**parts, "notebook": "", "data": "", "named": named}


def test_verify_names_the_parameter_whose_content_changed() -> None:
    assert list(verify.changes(inputs(corpus="a"), inputs(corpus="a"))) == []
    (told,) = verify.changes(inputs(corpus="a"), inputs(corpus="b"))
    assert told == "parameter corpus names another content than it did"
    (told,) = verify.changes(inputs(corpus="a"), inputs())
    assert told == "parameter corpus names nothing any more"
    older = {name: part for name, part in inputs().items() if name != "named"}
    (told,) = verify.changes(older, inputs(corpus="b"))
    assert told.startswith("parameter corpus")
