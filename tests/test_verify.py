"""`verify` names what is stale and what was edited, and says why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import command, write_study

from srclib.errors import ClaimError, DataError
from srclib.store import files, fingerprint
from srclib.suite import execute, records, verify
from srclib.suite.plan import plan
from srclib.suite.verify import Finding


@pytest.fixture
def checkout(toy_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy checkout after a run, its laptop result published; `files.root()` points to it."""
    monkeypatch.setattr(files, "root", lambda: toy_checkout)
    path = records.published_path("toy", "laptop")
    path.parent.mkdir(parents=True)
    shutil.copy(records.local_path("toy", "laptop"), path)
    return toy_checkout


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def edit_record(path: Path, seal: bool, **changes: Any) -> None:
    record = {**json.loads(path.read_text("utf-8")), **changes}
    files.write_atomic(path, files.pretty(records.seal(record) if seal else record))


def failed(strict: bool = False) -> dict[str, str]:
    return {each.where: each.what for each in verify.verify(strict) if each.failed}


RECORD = "data/results/toy.laptop.json"
MEASURES = "srclib/suite/labels.py"
PAGE = "book/_executed/toy.ipynb"


def test_a_fresh_checkout_has_no_findings(checkout: Path) -> None:
    assert verify.verify() == verify.verify(strict=True) == []


def test_comments_do_not_make_results_stale_and_code_does(checkout: Path) -> None:
    module = checkout / MEASURES
    edit(module, "\ndef ", "\n# a comment\ndef ")
    assert failed() == {}
    edit(module, "\ndef ", "\nUNUSED = 1\ndef ")
    found = failed()
    assert set(found) == {RECORD, PAGE}
    assert all("srclib.suite.labels changed" in what for what in found.values())


def test_modules_that_the_run_did_not_import_do_not_count(checkout: Path) -> None:
    edit(checkout / "srclib" / "training" / "trainer.py", "\ndef ", "\nUNUSED = 1\ndef ")
    assert failed() == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("notebooks/toy.ipynb", "time.sleep(100)", "time.sleep(10)", "the notebook's code"),
        ("data/profiles/toy.toml", "[1.0, 2.0, 3.0]", "[1.0, 2.0]", "parameter numbers changed"),
    ],
)
def test_each_input_is_named(checkout: Path, file: str, old: str, new: str, why: str) -> None:
    edit(checkout / file, old, new)
    assert why in failed()[RECORD]


def test_data_and_versions_are_inputs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_atomic(checkout / "data" / "toy" / "words.txt", "a")
    monkeypatch.setattr(fingerprint, "versions", lambda *_: {"torch": "99"})
    assert "data files changed" in failed()[RECORD]
    assert "version of torch changed from" in failed()[RECORD]


def test_help_texts_and_markdown_do_not_count(checkout: Path) -> None:
    edit(checkout / "data/profiles/toy.toml", "decides nothing", "decides nothing at all")
    edit(checkout / "notebooks/toy.ipynb", "# A toy study", "# The toy study")
    assert failed() == {}


def test_an_edited_record_is_named_whatever_its_profile(checkout: Path) -> None:
    path = checkout / RECORD
    rows = json.loads(path.read_text("utf-8"))["claims"]
    edit_record(path, seal=False, claims=[{**row, "reason": "better"} for row in rows])
    assert "edited by hand" in failed()[RECORD]
    path.rename(checkout / "data/results/toy.full.json")
    edit_record(checkout / "data/results/toy.full.json", seal=False, profile="full")
    assert "edited by hand" in failed()["data/results/toy.full.json"]


def test_a_verdict_that_does_not_follow_is_named_even_under_a_good_seal(checkout: Path) -> None:
    path = checkout / RECORD
    rows = json.loads(path.read_text("utf-8"))["claims"]
    rows[0]["verdict"] = "partly"
    edit_record(path, seal=True, claims=rows)
    assert "toy.mean: verdict is 'partly'" in failed()[RECORD]


def test_figures_about_the_suite_that_were_edited_are_named(checkout: Path) -> None:
    written = checkout / "data" / "trust" / "faults.json"
    written.parent.mkdir(exist_ok=True)
    written.write_text('{"flips": {"silent": 0}}', "utf-8")
    assert "edited by hand" in failed()["data/trust/faults.json"]


def test_an_edited_record_is_read_by_nobody(checkout: Path) -> None:
    path = checkout / RECORD
    path.write_text(path.read_text("utf-8").replace('"replicated"', '"partly"', 1), "utf-8")
    with pytest.raises(DataError, match=r"toy\.laptop\.json: was edited by hand"):
        records.find("toy", "laptop")


def test_a_changed_rule_is_found_in_the_published_record(checkout: Path) -> None:
    edit(checkout / "data/claims/toy.toml", "high = 3.5", "high = 0.6")
    assert "toy.mean" in failed()[RECORD]


def test_rejudging_changes_verdicts_alone(checkout: Path) -> None:
    before = records.load(checkout / RECORD)
    assert records.rejudge_published() == []
    ledger = checkout / "data" / "claims" / "toy.toml"
    edit(ledger, "high = 3.5", "high = 0.6")
    assert "should be" in failed()[RECORD]
    line = 'profile = "laptop", verdict = "replicated", rule = "to 3.5", change = "stricter"'
    others = [line.replace("laptop", "full"), line.replace("replicated", "partly")]
    for history in ("", *others):  # none; of another profile; of another verdict
        text = ledger.read_text("utf-8")
        if history:
            edit(ledger, "rule = [", f"history = [{{{history}}}]\nrule = [")
        told = "toy.mean='replicated becomes not replicated': allowed is a new line of its history"
        for publishing in (records.rejudge_published, lambda: plan("toy", "laptop", {}, True)):
            with pytest.raises(ClaimError, match=told):
                publishing()
        ledger.write_text(text, "utf-8")
    assert records.load(checkout / RECORD) == before
    edit(ledger, "rule = [", f"history = [{{{line}}}]\nrule = [")
    plan("toy", "laptop", {}, True)
    assert records.rejudge_published() == [checkout / RECORD]
    after = records.load(checkout / RECORD)
    assert records.is_sealed(after) and RECORD not in failed()
    assert [row["measured"] for row in after["claims"]] == [
        row["measured"] for row in before["claims"]
    ]
    assert after["provenance"]["commit"] == before["provenance"]["commit"]
    edit(ledger, "to 3.5", "to anything")
    with pytest.raises(ClaimError, match=r"toy\.mean: history='rewritten'"):
        records.rejudge_published()
    edit(ledger, 'id = "toy.mean"', 'id = "toy.other"')
    with pytest.raises(ClaimError, match=r"toy\.mean='gone'"):
        records.rejudge_published()
    edit(ledger, 'id = "toy.other"', 'id = "toy.mean"')
    edit(ledger, "to anything", "to 3.5")
    edit_record(checkout / RECORD, seal=False, params={})
    edit(ledger, "high = 0.6", "high = 3.5")
    assert records.rejudge_published() == []  # edited by hand: left for verify to name


def test_another_profile_keeps_its_commit(checkout: Path) -> None:
    path = records.published_path("toy", "full")
    (checkout / RECORD).rename(path)
    record = json.loads(path.read_text("utf-8"))
    source = {**record["provenance"], "commit": "c0ffee"}
    source["inputs"]["params"]["profile"] = "full"
    edit_record(path, seal=True, profile="full", provenance=source)
    where = "data/results/toy.full.json"
    assert verify.verify() == [Finding(where, "computed at c0ffee", False, changed=False)]
    assert failed(strict=True) == {}
    edit(checkout / MEASURES, "\ndef ", "\nUNUSED = 1\ndef ")
    (checkout / PAGE).unlink()
    (note,) = verify.verify()
    assert note.what == "computed at c0ffee; since then: srclib.suite.labels changed"
    assert not note.failed
    assert where in failed(strict=True)


def test_a_record_under_a_wrong_name_is_refused(checkout: Path) -> None:
    (checkout / RECORD).rename(checkout / "data/results/toy.paper.json")
    assert "may not hold a laptop record of toy" in failed()["data/results/toy.paper.json"]


def test_a_record_with_parameters_of_the_callers_own_may_not_be_published(checkout: Path) -> None:
    source = json.loads((checkout / RECORD).read_text("utf-8"))["provenance"]
    edit_record(checkout / RECORD, seal=True, provenance={**source, "set": ["numbers"]})
    assert "may not hold a laptop record of toy" in failed()[RECORD]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("result.json", '"seed": 0', '"seed": 1'),
        ("notebook.ipynb", "A toy study", "A better study"),
        ("notebook.ipynb", '"page": "', '"page": "0'),
    ],
)
def test_a_stored_run_is_taken_up_only_as_the_run_left_it(
    checkout: Path, name: str, old: str, new: str
) -> None:
    job = plan("toy", "laptop", {})
    assert execute._stored(job) == records.load(job.folder / "result.json")
    edit(job.folder / name, old, new)
    assert execute._stored(job) is None
    (job.folder / name).unlink()
    assert execute._stored(job) is None


@pytest.mark.parametrize("text", ["", "{}", '{"study": "toy"}'])
def test_a_damaged_record_is_a_finding(checkout: Path, text: str) -> None:
    (checkout / RECORD).write_text(text)
    assert RECORD in failed()


def test_a_record_of_a_study_that_is_gone_is_a_finding(checkout: Path) -> None:
    (checkout / "data/profiles/toy.toml").unlink()
    assert {RECORD, PAGE} <= set(failed())


def test_an_executed_notebook_changed_after_the_gate_is_named(checkout: Path) -> None:
    edit(checkout / PAGE, "A toy study", "A better study")
    assert "changed after it passed the gate" in failed()[PAGE]
    (checkout / PAGE).write_text("{}")
    assert "damaged" in failed()[PAGE]
    shutil.copy(checkout / "notebooks/toy.ipynb", checkout / PAGE)
    assert "was not made by" in failed()[PAGE]


def test_the_page_of_one_study_is_not_that_of_another(toy_checkout: Path) -> None:
    executed = toy_checkout / "book" / "_executed"
    started = command(toy_checkout, "run", "toy")
    assert subprocess.run(**started, capture_output=True).returncode == 0
    write_study(toy_checkout, "other")
    shutil.copy(executed / "toy.ipynb", executed / "other.ipynb")
    told = subprocess.run(**command(toy_checkout, "verify"), capture_output=True).stdout
    assert "other.ipynb: is the page of toy" in told and "toy.ipynb: is the page" not in told
