"""Records: their form, their seal, and which one is shown."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_study
from test_gate import RECORD

from srclib.errors import DataError, ParameterError
from srclib.store import files
from srclib.suite import records


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that holds the toy study and no result; `files.root()` points to it."""
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    write_study(tmp_path)
    return tmp_path


def changed(field: str, value: object) -> dict[str, Any]:
    """A copy of the good record with one field of its claim, or of itself, replaced."""
    record = copy.deepcopy(RECORD)
    place = record if field in record else record["claims"][0]
    place[field] = value
    return record


def test_a_good_record_passes() -> None:
    records.check_record(RECORD, "here")
    records.check_record({**RECORD, "schema": 2, "published": False}, "here")


@pytest.mark.parametrize("field", [*RECORD, *RECORD["claims"][0]])
def test_each_missing_field_is_named(field: str) -> None:
    record = copy.deepcopy(RECORD)
    (record if field in record else record["claims"][0]).pop(field)
    with pytest.raises(DataError, match=f"^here: .*{field}"):
        records.check_record(record, "here")


@pytest.mark.parametrize("version", [0, 4, "2"])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(DataError, match="schema"):
        records.check_record({**RECORD, "schema": version}, "here")


def test_there_is_no_fifth_word_and_no_verdict_without_a_reason() -> None:
    for field, value in (("verdict", "confirmed"), ("reason", "")):
        with pytest.raises(DataError, match=f"claim toy.a.*{field}"):
            records.check_record(changed(field, value), "here")


def test_the_seal_covers_everything_and_survives_a_file() -> None:
    sealed = records.seal(RECORD)
    assert records.is_sealed(sealed) and records.seal(sealed) == sealed
    assert records.is_sealed(json.loads(files.pretty(sealed)))
    assert not records.is_sealed(RECORD)
    for field, value in (("reason", "Fails."), ("profile", "full"), ("measured", {"k=1": 1.01})):
        edited = changed(field, value)
        edited["provenance"] = sealed["provenance"]
        assert not records.is_sealed(edited)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("write", [files.pretty, files.canonical, files.digest])
def test_what_is_no_number_is_neither_written_nor_hashed(write: Any, number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write({"claims": [{"measured": number}]})


def test_published_before_local_before_never_run(checkout: Path) -> None:
    never = records.find("toy", "laptop")
    assert never["published"] is False and len(never["claims"]) == 2
    assert {row["verdict"] for row in never["claims"]} == {"not assessed"}
    records.check_record(never, "never run")

    sealed = records.seal(RECORD)
    files.write_atomic(records.local_path("toy", "laptop"), files.pretty(sealed))
    assert records.find("toy", "laptop") == {**sealed, "published": False}
    assert records.find("toy", "full")["claims"] != RECORD["claims"]

    other = records.seal(changed("n_seeds", 5))
    files.write_atomic(records.published_path("toy", "laptop"), files.pretty(other))
    assert records.find("toy", "laptop") == other


def test_an_unknown_study_is_refused(checkout: Path) -> None:
    with pytest.raises(ParameterError, match="'toy'"):
        records.find("toi", "laptop")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"study": NaN}', '{"study": "toy"}'])
def test_a_file_that_is_no_record_is_named(checkout: Path, text: str) -> None:
    path = records.published_path("toy", "laptop")
    files.write_atomic(path, text)
    with pytest.raises(DataError, match=r"data/results/toy\.laptop\.json"):
        records.load(path)


def test_the_record_of_another_study_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = records.published_path("l0", "laptop")
    monkeypatch.setattr(records, "published_path", lambda study, profile: own)
    assert records.find("l0", "laptop")["study"] == "l0"
    with pytest.raises(DataError, match=r"l0\.laptop\.json: study and profile=.*gba, laptop"):
        records.find("gba", "laptop")
    monkeypatch.setattr(records, "published_path", lambda study, profile: tmp_path / "none")
    monkeypatch.setattr(records, "local_path", lambda study, profile: own)
    with pytest.raises(DataError, match="allowed is l0, full"):
        records.find("l0", "full")
