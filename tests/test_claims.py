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

from srclib.errors import ClaimError, ParameterError, SuiteError
from srclib.metrics.intervals import wilson
from srclib.store import files
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
[profiles.laptop]
seconds = 60
disk_mb = 1
[profiles.paper]
seconds = 6000
disk_mb = 1
[parameters.n]
type = "int"
help = "size"
default = 3
"""

LEDGER = """
[paper_scale.large]
n = {min = 4}

[paper_scale.sized]
kind = ["lm"]
n = {min = 3}
lm = {any = ["gemma2", "llama"]}
tokens = {min = 100}

[[claim]]
id = "toy.mse"
says = "The error is <small>."
says_ja = "誤差は小さい。"
where = "§3 & fig. 1"
paper_value = "2.73"
kind = "value"
test = "b"
decides = "laptop"
paper_scale = "large"
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
paper_scale = "sized"
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
paper_scale = "large"
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
        ([2.5, 3.1, 3.2], "partly"),
        ([3.1, 3.2, 3.3], "not replicated"),
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
    assert verdict("toy.order", {**GOOD, "k=1": [1.05, 2, 2]}) == "replicated"  # seed by seed
    assert verdict("toy.order", {**GOOD, "k=1": [0.9, 2, 2]}) == "partly"
    assert verdict("toy.order", {**GOOD, "low": [4, 5, 5], "k=1": [0.9, 2, 2]}) == "partly"


def test_one_number_does_not_decide_a_claim_about_several_seeds(checkout):
    """However many seeds stand beside it under labels that the rule does not read."""
    ledger = fresh()
    ledger.record("toy.mse", {"value": 2.5, "beside": [7, 8, 9]})
    row = row_of(ledger, "toy.mse")
    assert (row["verdict"], row["n_seeds"]) == ("not assessed", 3)
    assert row["reason"] == "'value': one number where 3 units are needed"
    try:
        write(checkout, LEDGER.replace("seeds = 3\n", 'seeds = 3\nexact = ["value"]\n', 1))
        ledger = fresh()
        ledger.record("toy.mse", {"value": 2.5, "beside": [7, 8, 9]})
        assert row_of(ledger, "toy.mse")["verdict"] == "replicated"
    finally:
        write(checkout)


def test_what_surely_fails_is_not_replicated_whatever_cannot_be_told():
    assert verdict("toy.order", {**GOOD, "low": 0, "k=1": [0.9, 2, 2]}) == "not replicated"
    assert verdict("toy.order", {**GOOD, "low": [4, 5, 5], "k=1": [0.9, 2, 2]}) == "partly"


def test_the_reason_tells_which_condition_did_what():
    ledger = fresh()
    ledger.record("toy.order", {**GOOD, "low": 0})
    reason = row_of(ledger, "toy.order")["reason"]
    holds = "Holds: argmin at k=2, expected in [2, 2]."
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
    assert interval == ([min(values), max(values)] if len(values) < 9 else sorted(values)[1:-1:6])
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
            {"a": [1.0, 3.0], "b": None, "c": None},
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


def scale_with(**facts: object) -> str:
    ledger = fresh(n=facts.pop("n", 3))
    ledger.evidence(**facts)
    ledger.record("toy.order", GOOD)
    return str(row_of(ledger, "toy.order")["scale"])


def test_the_scale_follows_from_what_ran():
    long = {"read": 100, "available": 300}
    assert scale_with() == scale_with(**long) == "stand-in"
    assert scale_with(lm="gemma2", **long) == "paper"
    assert scale_with(lm="gemma2", read=300, available=99) == "reduced"
    assert scale_with(lm="llama") == "reduced"
    assert scale_with(lm="gemma2", **long, n=2) == "reduced"
    assert scale_with(lm="gpt2", **long) == "stand-in"


def test_a_run_at_paper_scale_has_a_text_that_does_not_repeat():
    facts = {"lm": "gpt2", "read": 100, "available": 99}
    with pytest.raises(ParameterError, match="corpus='': allowed is a text as long"):
        fresh("paper").evidence(**facts)
    with pytest.raises(ParameterError, match="corpus='99 tokens': allowed is the 100 that"):
        fresh("paper").evidence(**facts, corpus="a folder")
    fresh("laptop").evidence(**facts)
    fresh("paper").evidence(**{**facts, "available": 100}, corpus="a folder")


def test_a_model_that_fails_its_own_check_stops_the_study_by_name():
    pd = pytest.importorskip("pandas")
    gain = pd.Series({"a": 0.5, "b": -0.25, "c": math.nan})
    with pytest.raises(SuiteError, match=r"^gain='b: -0.25, c: nan': allowed is above 0"):
        fresh().require("gain", gain, above=0)
    fresh().require("gain", gain[:1], above=0)
    fresh("smoke").require("gain", gain, above=0)  # decides nothing anyway


def test_evidence_comes_before_what_follows_from_it():
    ledger = fresh()
    ledger.record("toy.order", GOOD)
    with pytest.raises(ClaimError, match="evidence after a record"):
        ledger.evidence(lm="gemma2")


def test_a_stored_record_keeps_its_evidence_and_a_typed_scale_is_named():
    record = fresh_record(lm="gemma2", read=100, available=100)
    assert record["evidence"] == {"lm": "gemma2", "tokens": 100}
    assert judging.rejudge(record) == []
    edited = {**record, "evidence": {"lm": "gpt2", "tokens": 100}}
    assert judging.rejudge(edited) == ["toy.order: scale is 'paper', should be 'stand-in'"]
    del record["evidence"]  # an older record states its scale
    assert judging.rejudge(record) == []


def fresh_record(**facts: object) -> dict:
    ledger = fresh()
    ledger.evidence(**facts)
    ledger.record("toy.order", GOOD)
    return json.loads(json.dumps(ledger.verdicts().record))


WORKS = 'instrument = [{op = ">", left = "oracle", right = "floor"}]\n'
FAULT = (
    'fault = "too short"\nexcluded_by = [{op = "equal", left = "long", right = 5, within = 1}]\n'
)


@pytest.fixture
def with_checks(checkout):
    """The toy ledger with an instrument and a fault of ours on its first claim."""
    write(checkout, LEDGER.replace("seeds = 3\n", f"seeds = 3\n{WORKS}{FAULT}", 1))
    yield
    write(checkout)


def checked(value: float, **labels: float) -> dict[str, object]:
    ledger = fresh()
    ledger.record("toy.mse", {"value": [value] * 3, "oracle": 1, "floor": 0, "long": 9, **labels})
    return row_of(ledger, "toy.mse")


def test_a_score_whose_oracle_fails_is_not_assessed(with_checks):
    assert checked(2.5)["verdict"] == "replicated"
    row = checked(2.5, oracle=-1)
    assert row["verdict"] == "not assessed"
    assert row["reason"] == "the instrument does not work here: oracle = -1 > floor = 0"


def test_it_could_be_us_until_a_run_has_excluded_that(with_checks):
    assert checked(2.5)["could_be_us"] is False
    row = checked(9.0)
    assert (row["verdict"], row["could_be_us"]) == ("not replicated", True)
    assert "Could be us (too short): long = 9 = 5 within 1." in row["reason"]
    row = checked(9.0, long=5.5)
    assert row["could_be_us"] is False and "Not us (too short)" in row["reason"]


def test_what_holds_by_construction_is_in_no_count(checkout):
    try:
        write(checkout, LEDGER.replace("seeds = 3\n", 'seeds = 3\nbasis = "by construction"\n', 1))
        ledger = fresh()
        ledger.record("toy.mse", [2.5, 2.6, 2.7])
        record = ledger.verdicts().record
    finally:
        write(checkout)
    assert record["claims"][0]["verdict"] == "replicated"
    assert sum(n for row in verdicts.summary(record).values() for n in row.values()) == 3
    assert verdicts.told(record).endswith("; 1 by construction")
    assert "by construction" in verdicts.claim_list(record)


def test_earlier_rules_stay_beside_the_claim(checkout):
    old = '{profile = "laptop", verdict = "partly", rule = "It was < 1.", change = "looser"}'
    try:
        write(checkout, LEDGER.replace("seeds = 3\n", f"seeds = 3\nhistory = [{old}]\n", 1))
        ledger = fresh()
        ledger.record("toy.mse", [2.5, 2.6, 2.7])
        record = ledger.verdicts().record
    finally:
        write(checkout)
    assert record["claims"][0]["history"][0]["verdict"] == "partly"
    assert "Earlier rule (looser since): It was &lt; 1." in verdicts.claim_list(record)


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
        "toy at laptop. reduced: 2 not assessed; stand-in: 1 replicated; paper: 1 not assessed"
    )


def test_summaries_keep_scales_apart():
    ledger = fresh()
    ledger.record("toy.order", GOOD)
    counts = verdicts.summary(ledger.verdicts().record)
    found = {scale: row["not assessed"] for scale, row in counts.items()}
    assert found == {"reduced": 2, "stand-in": 0, "paper": 1}
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
    record = judged_record()  # made once: its provenance holds the time
    assert judging.rederive(record) == record
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
    assert "verdict is 'replicated', should be 'not replicated'" in found[0]
    assert "should be" in judging.rejudge(edit(record, 0, reason="Everything is proven."))[0]
    assert judging.rejudge(edit(record, 0, measured=2.5, interval=[2.5, 2.6])) == [
        "toy.mse: measured is 2.5, should be 2.6",
        "toy.mse: interval is [2.5, 2.6], should be [2.5, 2.7]",
    ]
    found = judging.rejudge(edit(record, 0, values={"value": [2.5, 2.6, 2.8]}))
    assert found[1:] == ["toy.mse: interval is [2.5, 2.7], should be [2.5, 2.8]"]
    assert found[0].startswith("toy.mse: reason is")
    given = edit(record, 0, interval=[2.4, 2.9], interval_kinds={"value": "Wilson's"})
    assert [fault.split(" is ")[0] for fault in judging.rejudge(given)] == ["toy.mse: reason"]
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
        assert judging.rejudge(record) == [
            "toy.mse: verdict is 'replicated', should be 'partly'",
            "toy.mse: reason is 'Holds: 2 <= value = 2.6 [2.5, 2.7] <= 3.', should be "
            "'No difference measured: 2 <= value = 2.6 [2.5, 2.7] <= 2.65.'",
            "toy.mse: could_be_us is False, should be True",
        ]
        assert judging.rederive(record)["claims"][0]["verdict"] == "partly"
    finally:
        write(checkout)


def test_the_list_escapes_and_uses_the_four_words():
    ledger = fresh()
    ledger.record("toy.mse", [2.5, 2.6, 2.7])
    ledger.record("toy.order", GOOD | {f"extra {i}": i for i in range(3)})
    listed = verdicts.claim_list(ledger.verdicts().record)
    assert '<span class="verdict verdict-replicated">✓ replicated</span>' in listed
    assert '<span class="verdict verdict-not-assessed">– not assessed</span>' in listed
    assert "The error is &lt;small&gt;." in listed
    assert '<span lang="ja">誤差は小さい。</span>' in listed
    assert "§3 &amp; fig. 1" in listed
    assert '<span class="claim-ours">2.6 [2.5, 2.7]</span>' in listed
    assert "(+7)</span>" in listed, "one label on the line, the others inside"
    assert "2 ≤ value ≤ 3" in listed, "the rule in words"


@pytest.mark.parametrize(("word", "symbol"), list(zip(VERDICTS, "✓◐✗–", strict=True)))
def test_colour_is_not_the_only_cue(word, symbol):
    row = {**judging.never_run("toy", "laptop")["claims"][0], "verdict": word}
    chip = f'<span class="verdict verdict-{word.replace(" ", "-")}">{symbol} {word}</span>'
    assert chip in verdicts.claim_list({"study": "toy", "claims": [row]})


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
    ('of = "value", low', 'off = "value", low', "toy.mse: rule: unknown key 'off'"),
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
        with pytest.raises(ClaimError, match=r"rows and .* only"):
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
            empty = {"measured": {}, "interval": None, "values": None, "n_seeds": 99}
            judged = judging.judge(row, empty, "paper")
            assert (judged.verdict, bool(judged.reason)) == ("not assessed", True)


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
