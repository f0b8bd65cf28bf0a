"""Records: their form, their seal, and which one is shown."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import write_study
from test_gate import RECORD

from srclib import files
from srclib.errors import DataError, ParameterError
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
    records.check_record(changed("interval", None) | {"published": False}, "here")
    records.check_record(changed("paper_value", None), "here")


def test_records_with_and_without_the_value_of_every_unit_pass() -> None:
    values = {"k=1": [0.5, 1.0, 1.5], "k=2": [1.0, None, 1.0]}
    record = changed("values", values) | {"schema": 2}
    record["claims"][0] |= {"basis": "by construction", "could_be_us": True, "history": []}
    records.check_record(record, "here")
    records.check_record(changed("values", None) | {"schema": 1}, "here")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("study", None),
        ("claims", {}),
        ("provenance", None),
        ("id", 3),
        ("verdict", "confirmed"),
        ("measured", "1.0"),
        ("measured", True),
        ("measured", float("nan")),
        ("measured", {"a": float("inf")}),
        ("measured", [1.0]),
        ("interval", [2.0, 1.0]),
        ("interval", [1.0]),
        ("interval", {"k=9": [0, 1]}),
        ("n_seeds", 1.5),
        ("n_seeds", -1),
        ("n_seeds", True),
        ("scale", "huge"),
        ("values", {"k=1": [1.0]}),
        ("values", {"k=1": [1.0], "k=2": 1.0}),
        ("basis", "typed"),
        ("could_be_us", 1),
    ],
)
def test_each_ill_formed_field_is_named(field: str, value: object) -> None:
    with pytest.raises(DataError, match=rf"^here: .*{field}"):
        records.check_record(changed(field, value), "here")


@pytest.mark.parametrize("field", list(RECORD["claims"][0]))
def test_each_missing_field_is_named(field: str) -> None:
    record = copy.deepcopy(RECORD)
    del record["claims"][0][field]
    with pytest.raises(DataError, match=field):
        records.check_record(record, "here")


@pytest.mark.parametrize("version", [0, 3, True, "2"])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(DataError, match="schema"):
        records.check_record({**RECORD, "schema": version}, "here")


def test_not_assessed_needs_a_reason_and_ids_are_unique() -> None:
    record = changed("verdict", "not assessed")
    records.check_record(record, "here")
    record["claims"][0]["reason"] = ""
    with pytest.raises(DataError, match="reason"):
        records.check_record(record, "here")
    with pytest.raises(DataError, match="each id once"):
        records.check_record({**RECORD, "claims": RECORD["claims"] * 2}, "here")


def test_the_seal_covers_everything_and_survives_a_file() -> None:
    sealed = records.seal(RECORD)
    assert records.is_sealed(sealed) and records.seal(sealed) == sealed
    assert records.is_sealed(json.loads(files.pretty(sealed)))
    assert not records.is_sealed(RECORD)
    for field, value in (("reason", "Fails."), ("profile", "full"), ("measured", {"k=1": 1.01})):
        edited = changed(field, value)
        edited["provenance"] = sealed["provenance"]
        assert not records.is_sealed(edited)


def test_published_before_local_before_never_run(checkout: Path) -> None:
    never = records.find("toy", "laptop")
    assert never["published"] is False and len(never["claims"]) == 2
    assert {row["verdict"] for row in never["claims"]} == {"not assessed"}
    records.check_record(never, "never run")

    files.write_atomic(records.local_path("toy", "laptop"), files.pretty(RECORD))
    assert records.find("toy", "laptop") == {**RECORD, "published": False}
    assert records.find("toy", "full")["claims"] != RECORD["claims"]

    files.write_atomic(records.published_path("toy", "laptop"), files.pretty(changed("n_seeds", 5)))
    assert records.find("toy", "laptop") == changed("n_seeds", 5)


def test_an_unknown_study_is_refused(checkout: Path) -> None:
    with pytest.raises(ParameterError, match="'toy'"):
        records.find("toi", "laptop")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"study": NaN}', '{"study": "toy"}'])
def test_a_file_that_is_no_record_is_named(checkout: Path, text: str) -> None:
    path = records.published_path("toy", "laptop")
    files.write_atomic(path, text)
    with pytest.raises(DataError, match=r"data/results/toy\.laptop\.json"):
        records.load(path)
