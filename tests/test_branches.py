"""What a ledger, a profile file, a record and the gate refuse, where no other test comes by."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from test_claims import GOOD, LEDGER, fresh, write
from test_gate import RECORD

from srclib.errors import ClaimError, DataError, NotebookError, ParameterError, SuiteError
from srclib.store import files
from srclib.suite import claims, gate, params, records


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the ledger and the profiles of a toy study, and nothing else."""
    write(tmp_path)
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    return tmp_path


MSE = 'paper_scale = "large"\nseeds = 3'
SCALE = "[paper_scale.large]\nn = {min = 4}"
LEDGERS = [
    (MSE, "seeds = 3", "toy.mse: its scale is open. Add `paper_scale`"),
    (MSE, f'{MSE}\nexcluded_by = [{{op = "between", of = "value", low = 0, high = 1}}]',
     "toy.mse: excluded_by needs the fault"),
    (MSE, f'{MSE}\nexact = "value"', "toy.mse: exact='value': allowed is a list"),
    (MSE, f"{MSE}\ninstrument = 3", "toy.mse: instrument=3: allowed is a list"),
    (MSE, f'{MSE}\nhistory = "none"', "toy.mse: history='none': allowed is a list"),
    (MSE, 'paper_scale = "huge"\nseeds = 3', "paper_scale='huge': allowed is large, sized"),
    (SCALE, "[paper_scale.large]", "paper_scale.large: it needs an entry and another name"),
    (SCALE, "[paper_scale.published]\nn = 4", "paper_scale.published: it needs an entry"),
    (SCALE, "[paper_scale]\nlarge = 4\n", "paper_scale.large=4: allowed is a table"),
    (SCALE, '[paper_scale.large]\nkind = "n"\nn = 4', "large: kind='n': allowed is a list"),
    (SCALE, '[paper_scale.large]\nkind = ["m"]\nn = 4', "large.kind='m': allowed is n"),
    ("n = {min = 4}", "n = {least = 4}", "large.n='least': allowed is min, max, any, covers"),
    ("n = {min = 4}", 'n = {min = "4"}', "large.n.min='4': allowed is int or float"),
    ("n = {min = 4}", "n = {min = true}", "large.n.min=True: allowed is int or float"),
    ("n = {min = 4}", "n = {any = 4}", "large.n.any=4: allowed is list"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "told"), LEDGERS)
def test_a_ledger_that_cannot_be_judged_is_named(
    checkout: Path, old: str, new: str, told: str
) -> None:
    assert old in LEDGER
    write(checkout, LEDGER.replace(old, new, 1))
    with pytest.raises(ClaimError, match=r"^data/claims/toy\.toml") as caught:
        claims.load_claims("toy")
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["claim = [1, 2]\n", 'claim = ["toy.mse"]\n'])
def test_a_ledger_of_no_tables_is_named(checkout: Path, text: str) -> None:
    write(checkout, text)
    with pytest.raises(ClaimError, match=r"toy\.toml: it may hold"):
        claims.load_claims("toy")


@pytest.mark.parametrize(
    ("wanted", "seen", "scale"),
    [
        ({"n": {"min": 4}}, {"n": 4}, "paper"),
        ({"n": {"min": 4}}, {"n": "many"}, "reduced"),
        ({"n": {"min": 4}}, {}, "reduced"),
        ({"n": {}}, {"n": 4}, "reduced"),
        ({"n": {"min": 2, "max": 3}}, {"n": 4}, "reduced"),
        ({"n": {"covers": [1, 2]}}, {"n": [2, 3, 1]}, "paper"),
        ({"n": {"covers": [1, 2]}}, {"n": [2, 3]}, "reduced"),
        ({"n": {"covers": [1, 2]}}, {"n": 2}, "reduced"),
        ({"n": 4, "lm": {"any": ["llama"]}}, {"n": 4, "lm": "ours"}, "stand-in"),
        ({"n": 4, "lm": {"any": ["llama"]}}, {"n": 3, "lm": "llama"}, "reduced"),
    ],
)
def test_what_is_unknown_or_of_another_type_is_not_the_paper_s(
    wanted: dict[str, Any], seen: dict[str, Any], scale: str
) -> None:
    assert claims.PaperScale(wanted, kind=("lm",) if "lm" in wanted else ()).of(seen) == scale


def test_without_any_study_the_message_is_about_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    with pytest.raises(SuiteError, match="this needs a checkout"):
        params.load_spec("toy")


def test_an_injected_value_that_is_no_literal_is_refused(checkout: Path) -> None:
    cell = 'profile: str = "laptop"\nseed: int = 0\ndevice: str = "auto"\ndtype: str = "auto"\n'
    cell += "n: int = None"
    for value in ("{[1]: 2}", "print(1)", "{1, [2]}"):
        with pytest.raises(ParameterError, match=r"injected cell, line 2: 'n = .* is not allowed"):
            params.parameters("toy", [cell, f"# Parameters\nn = {value}", "now"], {})


def of_claim(**fields: object) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    record["claims"][0] |= fields
    return record


TWICE = {**RECORD, "claims": RECORD["claims"] * 2}
RECORDS: list[tuple[dict[str, Any], str]] = [
    ({**RECORD, "claims": {}}, "here: claims are no list of tables"),
    ({**RECORD, "claims": [1]}, "here: claims are no list of tables"),
    (TWICE, "here: toy.a stand twice"),
    ({**RECORD, "schema": 3}, "here: no evidence, which schema 3 has"),
    ({**RECORD, "schema": 3, "evidence": []}, "here: no evidence"),
    ({**RECORD, "params": []}, r"here: params=\[\]: allowed is a table"),
    ({**RECORD, "provenance": "mine"}, "here: provenance='mine': allowed is a table"),
    ({**RECORD, "more": 1}, "here: unknown more: it is of schema 1.*Run the study again"),
    ({**RECORD, "schema": 3, "evidence": {}, "more": 1}, "unknown more.*Update srclib"),
    (of_claim(more=1), "here: claim toy.a: unknown more"),
    (of_claim(says="a\nb"), "here: claim toy.a='a.nb': allowed is text of one line"),
    (of_claim(measured={"k\u202e=1": 1.0}), "here: claim toy.a=.*text of one line"),
    (of_claim(history=[{"rule": "x\x00"}]), "here: claim toy.a=.*text of one line"),
    (of_claim(scale="huge"), "here: claim toy.a: scale='huge': allowed is paper, reduced"),
    (of_claim(scale=["paper"]), "here: claim toy.a: scale="),
    (of_claim(verdict="maybe"), "here: claim toy.a: verdict='maybe'"),
    (of_claim(reason=""), "here: claim toy.a: verdict='replicated'.*with a reason"),
]


@pytest.mark.parametrize(("record", "told"), RECORDS)
def test_what_is_no_record_is_named(record: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=f"^{told}" if told.startswith("here") else told):
        records.check_record(record, "here")


def judged(checkout: Path) -> dict[str, Any]:
    """A sealed record of the toy study whose two measured claims hold."""
    ledger = fresh()
    ledger.record("toy.mse", [2.5, 2.6, 2.7])
    ledger.record("toy.order", GOOD)
    return records.seal(json.loads(json.dumps(ledger.verdicts().record)))


def test_published_records_are_judged_anew_unless_they_were_edited(checkout: Path) -> None:
    record = judged(checkout)
    (checkout / "data" / "results").mkdir()
    path = records.published_path("toy", "laptop")
    path.write_text(files.pretty(record), "utf-8")
    assert records.rejudge_published() == [], "the same rule, the same verdict"

    earlier = '{profile = "laptop", verdict = "replicated", rule = "to 3", change = "stricter"}'
    write(checkout, LEDGER.replace("high = 3}]", f"high = 2.65}}]\nhistory = [{earlier}]"))
    assert records.rejudge_published() == [path]
    new = records.load(path)
    assert records.is_sealed(new) and new["claims"][0]["verdict"] == "partly"
    assert new["provenance"].keys() - record["provenance"].keys() == {"rejudged"}
    kept = ("measured", "interval", "values", "n_seeds")
    assert [new["claims"][0][name] for name in kept] == [record["claims"][0][name] for name in kept]

    edited = {**record, "params": {**record["params"], "n": 4}}  # its seal is that of 3
    path.write_text(files.pretty(edited), "utf-8")
    assert records.rejudge_published() == [] and records.load(path, edited=True) == edited


def test_a_verdict_typed_in_by_a_cell_stops_at_the_gate(checkout: Path) -> None:
    record = judged(checkout)
    assert gate.judged(record) is record
    for row in record["claims"][:2]:
        row["verdict"] = "not replicated"
    told = r"toy\.mse: verdict is 'not replicated', should be 'replicated' \(and 1 more\)\. Run"
    with pytest.raises(NotebookError, match=told):
        gate.judged(record)
    record["claims"][1]["verdict"] = "replicated"
    with pytest.raises(NotebookError, match=r"should be 'replicated'\. Run `python -m srclib run"):
        gate.judged(record)
