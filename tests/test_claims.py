"""Verdicts follow from measurements and rules, and from nothing else."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srclib import files
from srclib.errors import ClaimError, ParameterError
from srclib.metrics.intervals import wilson
from srclib.suite import claims, judging, params, records, verdicts
from srclib.suite.ledger import Ledger
from srclib.suite.verdicts import VERDICTS

PROFILES = """
study = "toy"
title = "A toy"
title_ja = "玩具"
paper = "arXiv:0000.00000"
[profiles.smoke]
seconds = 1
disk_mb = 1
scale = "reduced"
[profiles.laptop]
seconds = 60
disk_mb = 1
scale = "reduced"
[profiles.paper]
seconds = 6000
disk_mb = 1
scale = "paper"
[parameters.n]
type = "int"
help = "size"
default = 3
"""

LEDGER = """
[[claim]]
id = "toy.mse"
says = "The error is <small>."
says_ja = "誤差は小さい。"
where = "§3 & fig. 1"
paper_value = "2.73"
kind = "value"
test = "b"
decides = "laptop"
seeds = 3
rule = [{op = "between", of = "value", low = 2, high = 3}]

[[claim]]
id = "toy.order"
says = "Low is worse, and there is a minimum."
says_ja = "低いほど悪く、最小値がある。"
where = "fig. 2"
paper_value = "argmin 2"
kind = "ordering"
test = "b"
decides = "laptop"
rule = [
  {op = "argmin", of = "k=", within = [2, 2]},
  {op = ">", left = "low", right = "high", margin = 0.5},
]

[[claim]]
id = "toy.big"
says = "A large run is needed."
says_ja = "大規模な実行が必要。"
where = "fig. 3"
paper_value = "unknown"
kind = "trend"
test = "a"
decides = "paper"
rule = [{op = "increasing", of = "k="}]

[[claim]]
id = "toy.llm"
says = "It holds for a named model."
says_ja = "特定のモデルで成り立つ。"
where = "fig. 4"
paper_value = "200"
kind = "value"
test = "c"
decides = "paper"
unless_run = "needs the named model, profile paper, and a GPU"
"""
GOOD = {"k=1": [2.0, 2.1, 2.2], "k=2": [1.0, 1.1, 1.2], "k=3": 3.0, "low": 5, "high": [4, 4, 4]}


def write(root: Path, ledger: str = LEDGER) -> None:
    for name, text in (("profiles", PROFILES), ("claims", ledger)):
        (root / "data" / name).mkdir(parents=True, exist_ok=True)
        (root / "data" / name / "toy.toml").write_text(text, encoding="utf-8")


@pytest.fixture(autouse=True, scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("checkout")
    write(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "root", lambda: root)
        yield root


def fresh(profile: str = "laptop", **given: object) -> Ledger:
    return Ledger("toy", params.load_spec("toy").resolve({"profile": profile, **given}))


def row_of(ledger: Ledger, id: str) -> dict[str, object]:
    return {row["id"]: row for row in ledger.verdicts().record["claims"]}[id]


def verdict(id: str, values: object, profile: str = "laptop", **options: object) -> str:
    ledger = fresh(profile)
    ledger.record(id, values, **options)
    return str(row_of(ledger, id)["verdict"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.5, 2.7, 2.9], "replicated"),
        ([2.5, 2.7, 3.1], "partly"),
        ([2.5, 3.1, 3.2], "not replicated"),
        ([2.5, 2.7], "not assessed"),
        (2.7, "not assessed"),
        ([2.5, 2.7, math.nan], "not assessed"),
        ([2.5, 2.7, math.inf], "not assessed"),
    ],
)
def test_verdicts_of_a_value_claim(values, expected):
    assert verdict("toy.mse", values) == expected


def test_several_conditions_hold_fail_or_split():
    assert verdict("toy.order", GOOD) == "replicated"
    assert verdict("toy.order", {**GOOD, "low": 0}) == "partly"
    assert verdict("toy.order", {**GOOD, "low": 0, "k=3": 0}) == "not replicated"
    assert verdict("toy.order", {**GOOD, "k=1": [1.15, 2, 2]}) == "partly"  # intervals overlap


def test_the_reason_tells_which_condition_did_what():
    ledger = fresh()
    ledger.record("toy.order", {**GOOD, "low": 0})
    reason = row_of(ledger, "toy.order")["reason"]
    holds = "Holds: argmin at k=2 (1.1 [1, 1.2]), expected in [2, 2]."
    assert reason == holds + " Fails: low = 0 > high = 4 by more than 0.5."


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_smoke_never_decides_and_a_record_never_holds_nan(values):
    ledger = fresh("smoke")
    ledger.record("toy.mse", values)
    row = row_of(ledger, "toy.mse")
    assert row["verdict"] == "not assessed"
    assert "profile smoke decides nothing" in row["reason"]
    json.dumps(row, allow_nan=False)


def test_a_profile_below_the_deciding_one_decides_nothing():
    series = {"k=1": 1, "k=2": 2}
    assert verdict("toy.big", series, "laptop") == "not assessed"
    assert verdict("toy.big", series, "paper") == "replicated"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_median_and_range_do_not_depend_on_the_order_of_seeds(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    row = {"measured": {}, "interval": {}, "values": {"value": values}}
    median, interval = judging.summarise(row)
    assert judging.summarise({**row, "values": {"value": shuffled}}) == (median, interval)
    assert interval == [min(values), max(values)]
    below = sum(v <= median for v in values)
    above = sum(v >= median for v in values)
    assert 2 * min(below, above) >= len(values)


def recorded(values: object, id: str = "toy.mse", **options: object) -> dict[str, object]:
    """The row of a claim after recording in a run that may lack labels."""
    ledger = fresh("smoke")
    ledger.record(id, values, **options)
    return row_of(ledger, id)


@pytest.mark.parametrize(
    ("given", "measured", "interval", "values", "n_seeds"),
    [
        (3, 3.0, None, {"value": [3.0]}, 1),
        ([3, 1], 2.0, [1.0, 3.0], {"value": [3.0, 1.0]}, 2),
        ([1, math.nan], None, None, {"value": [1.0, None]}, 2),
        ({"a": [1]}, {"a": 1.0}, None, {"a": [1.0]}, 1),
        (  # numbers may stand beside seeds, and what was not run is absent
            {"a": [1, 3], "b": 7, "c": [1, math.nan], "d": []},
            {"a": 2.0, "b": 7.0, "c": None},
            {"a": [1.0, 3.0], "b": [7.0, 7.0], "c": None},
            {"a": [1.0, 3.0], "b": [7.0], "c": [1.0, None]},
            2,
        ),
    ],
)
def test_every_unit_stands_beside_median_and_range(given, measured, interval, values, n_seeds):
    row = recorded(given)
    assert (row["measured"], row["interval"]) == (measured, interval)
    assert (row["values"], row["n_seeds"]) == (values, n_seeds)


def test_arrays_and_tensors_are_taken_as_numbers():
    torch = pytest.importorskip("torch")
    plain = recorded({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert recorded({"a": np.array([1, 2]), "b": torch.tensor([3.0, 4.0])}) == plain
    assert recorded({"a": [np.int64(1), np.float64(2)], "b": [torch.tensor(3), 4]}) == plain


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("2.7", "allowed is a number"),
        (True, "allowed is a number"),
        ([[1.0, 2.0]], "allowed is a number"),
        ([], "recorded are none"),
        ({}, "recorded are none"),
        ({"a": [1, 2], "b": [1, 2, 3]}, "the same number of seeds"),
        ({"a": [1], "b": [1, 2]}, "the same number of seeds"),
    ],
)
def test_what_is_no_measurement_is_refused(values, message):
    with pytest.raises(ClaimError, match=f"^toy.order.*{message}"):
        fresh().record("toy.order", values)


def test_a_share_of_units_has_wilsons_interval_in_the_record():
    pd = pytest.importorskip("pandas")
    hits = pd.Series([True, True, False, True], pd.Index(range(4), name="seed"))
    row = recorded({"share": hits, "plain": hits.astype(float)})
    low, high = wilson(3, 4)
    assert row["measured"] == {"share": 0.75, "plain": 1.0}
    assert row["interval"] == {"share": [low, high], "plain": [0.0, 1.0]}
    assert row["interval_kinds"] == {"share": "Wilson's, of a share of seeds"}
    assert row["values"]["share"] == [1.0, 1.0, 0.0, 1.0] and row["n_seeds"] == 4


def test_a_measurement_needs_a_claim_and_is_recorded_once():
    ledger = fresh()
    with pytest.raises(ClaimError, match=r"'toy.msee' is not in data/claims/toy.toml.*'toy.mse'"):
        ledger.record("toy.msee", 2.7)
    ledger.record("toy.mse", [2.5, 2.6, 2.7])
    for again in (
        lambda: ledger.record("toy.mse", 2.7),
        lambda: ledger.not_assessed("toy.mse", "x"),
    ):
        with pytest.raises(ClaimError, match="recorded twice"):
            again()
    with pytest.raises(ClaimError, match="no rule"):
        ledger.record("toy.llm", 200)
    with pytest.raises(ClaimError, match="reason"):
        ledger.not_assessed("toy.order", " ")
    with pytest.raises(ClaimError, match="scale='tiny'"):
        ledger.record("toy.order", GOOD, scale="tiny")


def test_a_label_of_the_rule_must_be_recorded_unless_the_run_is_a_custom_one():
    lacking = {"k=1": 1, "k=2": 0, "low": 3}
    with pytest.raises(ClaimError, match=r"toy.order \(data/claims/toy.toml\): label 'high'"):
        fresh().record("toy.order", lacking)
    with pytest.raises(ClaimError, match="needs labels inside and outside"):
        fresh(seed=1).record("toy.order", {"low": 3, "high": 1})
    for ledger in (fresh("smoke"), fresh(n=4)):
        ledger.record("toy.order", lacking)
        row = row_of(ledger, "toy.order")
        assert row["verdict"] == "not assessed"
        assert "label 'high' was not recorded" in row["reason"]


@pytest.mark.parametrize("empty", [{}, [], {"k=1": []}])
def test_labels_that_a_custom_run_leaves_out_are_absent(empty):
    ledger = fresh(n=4)
    ledger.record("toy.order", empty)
    assert row_of(ledger, "toy.order")["reason"] == "the settings that it compares were not run"
    with pytest.raises(ClaimError, match="recorded are none"):
        fresh().record("toy.order", empty)


def test_a_profile_beyond_the_deciding_one_may_lack_a_claim_but_not_a_label():
    ledger = fresh("paper")  # it may read a named model, whose texts do not carry their truth
    ledger.record("toy.order", {})
    assert row_of(ledger, "toy.order")["measured"] is None
    with pytest.raises(ClaimError, match="label 'high'"):
        fresh("paper").record("toy.order", {"k=1": 1, "k=2": 0, "low": 3})


def test_what_a_custom_run_leaves_out_keeps_the_scale_of_its_call():
    ledger = fresh(n=4)
    ledger.record("toy.order", {}, scale="stand-in")
    ledger.not_assessed("toy.mse", "skipped here", scale="paper")
    assert row_of(ledger, "toy.order")["scale"] == "stand-in"
    assert row_of(ledger, "toy.mse")["scale"] == "paper"
    with pytest.raises(ClaimError, match="scale='tiny'"):
        fresh().not_assessed("toy.mse", "skipped here", scale="tiny")


def test_every_claim_is_in_the_record_in_ledger_order():
    ledger = fresh()
    ledger.record("toy.order", GOOD)
    ledger.not_assessed("toy.mse", "skipped here")
    record = ledger.verdicts().record
    assert [row["id"] for row in record["claims"]] == ["toy.mse", "toy.order", "toy.big", "toy.llm"]
    assert (record["study"], record["profile"], record["params"]["n"]) == ("toy", "laptop", 3)
    mse, _, big, llm = record["claims"]
    assert (mse["reason"], mse["n_seeds"], mse["measured"]) == ("skipped here", 0, None)
    assert "no measurement" in big["reason"]
    assert (llm["scale"], llm["reason"]) == (
        "paper",
        "needs the named model, profile paper, and a GPU",
    )
    assert record["provenance"]


def test_the_cell_output_is_the_record_a_table_and_a_summary():
    ledger = fresh()
    ledger.record("toy.order", GOOD)
    output = ledger.verdicts()._repr_mimebundle_(include=None, exclude=None)
    assert set(output) == {"application/json", "text/html", "text/plain"}
    json.dumps(output, allow_nan=False)
    assert output["text/plain"] == (
        "toy at laptop. reduced: 1 replicated, 2 not assessed; paper: 1 not assessed"
    )


def test_summaries_keep_scales_apart():
    ledger = fresh()
    ledger.record("toy.order", GOOD, scale="stand-in")
    record = ledger.verdicts().record
    counts = verdicts.summary([record, judging.never_run("toy", "paper")])
    assert {scale: row["not assessed"] for scale, row in counts.items()} == {
        "reduced": 2,
        "stand-in": 0,
        "paper": 5,
    }
    assert counts["stand-in"]["replicated"] == 1


def test_never_run_explains_each_row():
    record = judging.never_run("toy", "laptop")
    assert {row["verdict"] for row in record["claims"]} == {"not assessed"}
    assert record["claims"][0]["reason"] == "never run at this profile"
    assert record["claims"][3]["reason"].startswith("needs the named model")
    assert record["params"]["n"] == 3
    missing = judging.never_run("toy", "full")
    assert missing["claims"][0]["reason"] == "the study has no profile full"
    with pytest.raises(ClaimError, match="profile='huge'"):
        judging.never_run("toy", "huge")


def judged_record() -> dict:
    ledger = fresh()
    ledger.record("toy.mse", [2.5, 2.6, 2.7])
    ledger.record("toy.order", {**GOOD, "low": 0})
    return json.loads(json.dumps(ledger.verdicts().record))


def test_a_stored_record_is_judged_alike():
    assert judging.rejudge(judged_record()) == []
    assert judging.rejudge(judging.never_run("toy", "smoke")) == []
    assert judging.rederive(judged_record()) == judged_record()
    older = judged_record()
    for row in older["claims"]:
        del row["values"]
    assert judging.rejudge(older) == []


def edit(record: dict, index: int, **changes: object) -> dict:
    edited = copy.deepcopy(record)
    edited["claims"][index].update(changes)
    return edited


def test_rejudge_names_what_was_edited():
    record = judged_record()
    assert judging.rejudge(edit(record, 1, verdict="replicated")) == [
        "toy.order: verdict is 'replicated', should be 'partly'"
    ]
    found = judging.rejudge(edit(record, 0, values=None, measured=9.0, interval=None))
    assert "should be 'not replicated'" in found[0]
    assert judging.rejudge(edit(record, 0, measured=2.5, interval=[2.5, 2.6])) == [
        "toy.mse: measured is 2.5, should be 2.6",
        "toy.mse: interval is [2.5, 2.6], should be [2.5, 2.7]",
    ]
    assert judging.rejudge(edit(record, 0, values={"value": [2.5, 2.6, 2.8]})) == [
        "toy.mse: interval is [2.5, 2.7], should be [2.5, 2.8]"
    ]
    given = edit(record, 0, interval=[2.4, 2.9], interval_kinds={"value": "Wilson's"})
    assert judging.rejudge(given) == []
    assert "says is 'All is well.'" in judging.rejudge(edit(record, 0, says="All is well."))[0]
    assert "should be 'not assessed'" in judging.rejudge(edit(record, 2, verdict="replicated"))[0]
    assert "not in data/claims/toy.toml" in judging.rejudge(edit(record, 3, id="toy.other"))[0]
    assert "profile 'full'" in judging.rejudge({**record, "profile": "full"})[0]
    shorter = {**record, "claims": record["claims"][1:]}
    assert judging.rejudge(shorter) == ["toy.mse: missing in the record"]


def test_a_changed_rule_changes_the_verdict_of_a_stored_measurement(checkout):
    record = judged_record()
    try:
        write(checkout, LEDGER.replace("high = 3}", "high = 2.65}"))
        assert judging.rejudge(record) == ["toy.mse: verdict is 'replicated', should be 'partly'"]
        assert judging.rederive(record)["claims"][0]["verdict"] == "partly"
    finally:
        write(checkout)


def test_the_table_escapes_and_uses_the_four_words():
    ledger = fresh()
    ledger.record("toy.mse", [2.5, 2.6, 2.7], note="see <b>")
    ledger.record("toy.order", GOOD | {f"extra {i}": i for i in range(3)})
    table = verdicts.verdict_table(ledger.verdicts().record)
    assert '<th scope="col">Verdict</th>' in table
    assert '<span class="verdict verdict-replicated">✓ replicated</span>' in table
    assert '<span class="verdict verdict-not-assessed">– not assessed</span>' in table
    assert "The error is &lt;small&gt;." in table
    assert "§3 &amp; fig. 1" in table
    assert "see &lt;b&gt;" in table
    assert "2.6 [2.5, 2.7]" in table
    assert "<details><summary>8 values</summary>" in table
    japanese = verdicts.verdict_table(ledger.verdicts().record, lang="ja")
    assert "誤差は小さい。" in japanese
    assert "replicated（再現）" in japanese


@pytest.mark.parametrize(("word", "symbol"), list(zip(VERDICTS, "✓◐✗–", strict=True)))
def test_colour_is_not_the_only_cue(word, symbol):
    row = {**judging.never_run("toy", "laptop")["claims"][0], "verdict": word}
    chip = f'<span class="verdict verdict-{word.replace(" ", "-")}">{symbol} {word}</span>'
    assert chip in verdicts.verdict_table({"claims": [row]})


MUTATIONS = [
    ('says_ja = "誤差は小さい。"\n', "", "toy.mse: says_ja=''"),
    ('says_ja = "誤差は小さい。"', 'says_ja = " "', "toy.mse: says_ja=' '"),
    ('paper_value = "2.73"', "paper_value = 2.73", "toy.mse: paper_value=2.73"),
    ('kind = "value"', 'kind = "number"', "toy.mse: kind='number': allowed is value"),
    ('test = "b"', 'test = "d"', "toy.mse: test='d'"),
    ('decides = "laptop"', 'decides = "smoke"', "toy.mse: decides='smoke'"),
    ("seeds = 3", "seeds = 0", "toy.mse: seeds=0"),
    ("seeds = 3", "seed = 3", "toy.mse: unknown key 'seed'.*'seeds'"),
    ('id = "toy.order"', 'id = "toy.mse"', "toy.mse: the id occurs twice"),
    ('id = "toy.order"', 'id = "Toy order"', "id='Toy order': allowed is lower-case words"),
    ('id = "toy.order"', "", r"row 2: id=''"),
    ('of = "value", low', 'off = "value", low', "toy.mse: unknown key 'off'"),
    ('rule = [{op = "increasing", of = "k="}]', "", "toy.big: test a needs a rule"),
    ("rule = [{op", "rule = {op", "line"),
    (
        'unless_run = "needs the named model, profile paper, and a GPU"',
        "",
        "toy.llm: without a rule",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), MUTATIONS)
def test_a_fault_in_the_ledger_is_named(tmp_path, monkeypatch, old, new, message):
    assert old in LEDGER
    write(tmp_path, LEDGER.replace(old, new, 1))
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    with pytest.raises(ClaimError, match=f"^data/claims/toy.toml.*{message}"):
        claims.load_claims("toy")


def test_a_ledger_holds_claims_only(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "root", lambda: tmp_path)
    for text in ("", "[claim]\nid = 'x'\n", LEDGER + "\n[other]\n"):
        write(tmp_path, text)
        with pytest.raises(ClaimError, match="rows only"):
            claims.load_claims("toy")


def test_an_unknown_study_is_named():
    with pytest.raises(ClaimError, match=r"^study='to': allowed is toy"):
        claims.load_claims("to")
    with pytest.raises(ClaimError, match=r"^study='to'"):
        Ledger("to", params.load_spec("toy").resolve({}))
    with pytest.raises(ParameterError, match="study='to'"):
        judging.never_run("to", "laptop")


@pytest.fixture
def suite(monkeypatch) -> Path:
    """The checkout that this test file belongs to; `files.root()` points to it."""
    root = Path(__file__).resolve().parent.parent
    monkeypatch.setattr(files, "root", lambda: root)
    return root


def test_the_ledgers_of_the_suite_can_be_read_and_decided(suite):
    ids: set[str] = set()
    for study in params.studies():
        rows = claims.load_claims(study)
        assert rows and not ids & {row.id for row in rows}  # an id names one claim of the suite
        ids |= {row.id for row in rows}
        assert any("\u3040" <= c <= "\u30ff" for row in rows for c in row.says_ja)
        for row in rows:  # an empty measurement never decides anything
            verdict, reason = judging.judge(row, {}, None, 99, "paper")
            assert (verdict, bool(reason)) == ("not assessed", True)


def test_published_verdicts_and_reasons_follow_from_what_was_measured(suite):
    paths = sorted((suite / "data" / "results").glob("*.json"))
    assert paths
    for path in paths:
        record = records.load(path)
        assert judging.rejudge(record) == []
        for stored, derived in zip(
            record["claims"], judging.rederive(record)["claims"], strict=True
        ):
            assert {**derived, **stored} == derived
