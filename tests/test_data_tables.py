"""Every table below data/ is as its schema says; each cell of one can be found wrong."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from srclib.errors import DataError, SuiteError
from srclib.store import files
from srclib.suite import data_tables, plan, verify
from srclib.suite.data_tables import Schema, check_table
from srclib.suite.schema import read, read_toml

SCHEMAS = read_toml(ROOT / "data" / "tables.toml", DataError)
COLUMNS = [
    (name, column["name"], column["type"])
    for name, table in SCHEMAS.items()
    for column in table["columns"]
]
Table = list[list[str]]


def schema(name: str) -> Schema:
    return read(Schema, SCHEMAS[name], name, DataError)


def table(name: str) -> Table:
    with open(ROOT / "data" / name, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def refusal(folder: Path, name: str, rows: Table) -> str:
    path = folder / Path(name).name
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError) as caught:
        check_table(path, schema(name))
    return str(caught.value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_is_read_as_numbers(name: str) -> None:
    rows = check_table(ROOT / "data" / name, schema(name))
    header, *cells = table(name)
    assert [list(row) for row in rows] == [header] * len(cells)
    assert [[str(each) for each in row.values()] for row in rows] == cells


def test_every_table_has_a_schema_and_every_schema_a_table() -> None:
    data_tables.check()
    found = {path for end in data_tables.KINDS_OF_FILE for path in ROOT.glob(f"data/**/*{end}")}
    assert {f"{path.parent.name}/{path.name}" for path in found} == set(SCHEMAS)


@pytest.mark.parametrize(("name", "column", "type"), COLUMNS)
def test_a_wrong_cell_is_named(name: str, column: str, type: str, tmp_path: Path) -> None:
    """Whatever pandas would take for missing, for text or for another number."""
    rows = table(name)
    at = rows[0].index(column)
    wrong = ["", " ", "NA", "nan", "null", f" {rows[2][at]}"]
    if type == "int":
        wrong += ["forty", "inf", "-inf", "1.5", "-1", "1e3", "0x10", "1_0", "٣", "--1", "9" * 5000]
        wrong += (
            [str(int(rows[2][at]) + 1)] if column not in ("step", "median_l0", "max_l0") else []
        )
    for cell in wrong:
        changed = [row.copy() for row in rows]
        changed[2][at] = cell
        told = refusal(tmp_path, name, changed)
        assert f"{Path(name).name}, line 3: " in told
        # where a sum no longer holds, its total is named beside the column
        assert column in told


@pytest.mark.parametrize(("name", "column", "type"), COLUMNS)
def test_a_missing_renamed_or_moved_column_is_named(
    name: str, column: str, type: str, tmp_path: Path
) -> None:
    rows = table(name)
    at = rows[0].index(column)
    lacking = [row[:at] + row[at + 1 :] for row in rows]
    moved = [[*row[:at], *row[at + 1 :], row[at]] for row in rows]
    renamed = [[*rows[0][:at], f"{column}_", *rows[0][at + 1 :]], *rows[1:]]
    twice = [[*row, row[at]] for row in rows]
    last = at == len(rows[0]) - 1
    for changed in (lacking, renamed, twice, *([] if last else [moved])):
        assert f": columns='{','.join(changed[0])}'" in refusal(tmp_path, name, changed)


@pytest.mark.parametrize("name", SCHEMAS)
def test_lines_are_whole_and_stand_once(name: str, tmp_path: Path) -> None:
    rows = table(name)
    assert "line 3: 1 cells" in refusal(tmp_path, name, [*rows[:2], ["7"], *rows[2:]])
    assert "line 4: 0 cells" in refusal(tmp_path, name, [*rows[:3], [], *rows[3:]])
    assert "one row for each" in refusal(tmp_path, name, [*rows, rows[1]])
    assert "no rows" in refusal(tmp_path, name, rows[:1])
    assert "columns=''" in refusal(tmp_path, name, [])


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "human_counts.csv"
    for content in (b"step\xff\n", b'step,"latents\n'):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"human_counts\.csv: (cannot be read|columns=)"):
            check_table(path, schema("checkpoints/human_counts.csv"))


def as_json(name: str) -> list[dict[str, object]]:
    return check_table(ROOT / "data" / name, schema(name))


def test_jsonl_has_the_same_schema(tmp_path: Path) -> None:
    name = "checkpoints/mixed_counts.csv"
    path, rows = tmp_path / "mixed.jsonl", as_json("checkpoints/mixed_counts.csv")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_table(path, schema(name)) == rows
    good = json.dumps(rows[0])
    changes = {
        good.replace("61", '"61"'): "line 1: uninterpretable='61'",
        good.replace("61", "NaN"): "line 1: uninterpretable=nan",
        good.replace("61", "true"): "line 1: uninterpretable=True",
        good.replace("61", "null"): "line 1: uninterpretable=None",
        good.replace("61", "60"): "line 1: mixed=66: allowed is the sum",
        good.replace('"mixed": 66, ', ""): "line 1: no column 'mixed'",
        good.replace("{", '{"more": 1, '): "line 1: unknown column 'more'",
        good.replace("{", '{"step": 1, '): "line 1: cannot be read as JSON (a column stands twice",
        good[:-1]: "line 1: cannot be read as JSON",
        "[1]": "line 1: cannot be read as JSON (it is no table)",
        "[" * 10**5: "line 1: cannot be read as JSON",
        f"{good}\n{good}": "line 2: step=10: allowed is one row for each",
    }
    for text, told in changes.items():
        path.write_text(text + "\n")
        with pytest.raises(DataError) as caught:
            check_table(path, schema(name))
        assert told in str(caught.value)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data and the notebooks of this checkout, to be changed."""
    for name in ("data", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.rmtree(tmp_path / "data" / "results")
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    return tmp_path


def test_a_run_and_verify_stop_at_a_wrong_cell(checkout: Path) -> None:
    plan.plan("l0", "laptop", {})
    assert verify.verify() == []
    path = checkout / "data" / "l0" / "published_saes.csv"
    path.write_text(path.read_text("utf-8").replace("179,41,164", "179,41,"), "utf-8")
    (found,) = verify.verify()
    assert found.failed and "published_saes.csv, line 3: below_100=''" in found.what
    with pytest.raises(DataError, match=r"data/l0/published_saes\.csv, line 3: below_100=''"):
        plan.plan("l0", "laptop", {})
    plan.plan("checkpoints", "laptop", {})  # it reads other tables


def test_a_table_without_schema_and_a_schema_without_table(checkout: Path) -> None:
    new = checkout / "data" / "l0" / "new.jsonl"
    new.write_text("{}\n")
    with pytest.raises(SuiteError, match=r"data/l0/new\.jsonl: no schema in data/tables\.toml"):
        plan.plan("l0", "laptop", {})
    new.unlink()
    (checkout / "data" / "l0" / "published_saes.csv").unlink()
    with pytest.raises(SuiteError, match=r"l0/published_saes\.csv is no table below data/"):
        plan.plan("l0", "laptop", {})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('key = "step"', 'key = "stop"', "key='stop'.*nearest valid name is 'step'"),
        (
            'type = "int", min = 0, help = "the',
            'type = "integer", help = "the',
            "step: type='integ",
        ),
        ('max = "latents", help', 'max = "laments", help', "'laments'.*'latents'"),
        ('["latents", "en", "ja", "mixed"]', '["latents", "en", "de"]', "a sum='de'"),
        ('key = "step"', 'kye = "step"', "unknown key 'kye'"),
        ('key = "step"', "", "human_counts.csv: key=''"),
        ('key = "step"', "key = ", "data/tables.toml: Invalid"),
    ],
)
def test_a_schema_that_says_nothing_is_refused(
    checkout: Path, old: str, new: str, told: str
) -> None:
    path = checkout / "data" / "tables.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(DataError, match=told):
        data_tables.check("checkpoints")
