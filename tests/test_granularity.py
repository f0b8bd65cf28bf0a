"""Language trend and granularity: the rules at their edges, and what must not change a verdict."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from srclib.errors import DataError, ParameterError
from srclib.methods import latents as g

few = settings(deadline=None, max_examples=60)
words = st.sampled_from(["cat", "Cat", " dog", "猫", "ネコ", "ねこ ", "42", "、", "", "bird", "鳥"])
texts = st.lists(words, max_size=40)
seeds = st.integers(0, 10**6)
BLIND = ["", " ", "\n", "\u3000", "2024", "１２", "-3.5", "、", "。", "・", "「", ":;/&", "!?", "%"]
BLIND += ["€", "<0x0A>", "<0xE3>", "</s>", " <unk> ", "Привет", "한국", "①", "😀", "\ufffd", "▁"]


def distinct(n: int) -> list[str]:
    return [f"w{i}" for i in range(n)]


# --- language -----------------------------------------------------------------------------------

ENGLISH = ["cat", " The", "don't", "café", "Ａ", "ﬁn", "m²", "a<b>", "x-1", "▁cat"]
JAPANESE = [
    "猫",
    "ネコ",
    "ねこ",
    "ﾈｺ",
    "ー",
    "々",
    "〆",
    "Tシャツ",
    "3月",
    "LLMの",
    "が",
    "𠮷",
    "、そして",
]


@pytest.mark.parametrize(
    ("expected", "tokens"), [("en", ENGLISH), ("ja", JAPANESE), (None, BLIND)], ids=str
)
def test_a_token_votes_by_its_script(expected: str | None, tokens: list[str]) -> None:
    assert {token: g.script(token) for token in tokens} == dict.fromkeys(tokens, expected)


@pytest.mark.parametrize("n_votes", range(1, 61))
def test_the_threshold_is_nine_tenths_exactly(n_votes: int) -> None:
    for n_en in range(n_votes + 1):
        tokens = ["cat"] * n_en + ["猫"] * (n_votes - n_en)
        shares = {"en": Fraction(n_en, n_votes), "ja": Fraction(n_votes - n_en, n_votes)}
        at_least = [name for name, share in shares.items() if share >= Fraction(9, 10)]
        above = [name for name, share in shares.items() if share > Fraction(9, 10)]
        assert [g.language(tokens)] == (at_least or ["mixed"])
        assert [g.language(tokens, rule=">")] == (above or ["mixed"])


@few
@given(texts, st.lists(st.sampled_from(BLIND), max_size=30), seeds)
def test_what_has_no_script_casts_no_vote_and_order_is_nothing(
    tokens: list[str], blind: list[str], seed: int
) -> None:
    mingled = random.Random(seed).sample(tokens + blind, len(tokens) + len(blind))
    assert g.language(mingled) == g.language(tokens)
    assert g.language(mingled, ">") == g.language(tokens, ">")


@few
@given(st.lists(st.sampled_from(["en", "ja", None]), max_size=40))
def test_exchanging_the_languages_exchanges_the_trend(votes: list[Any]) -> None:
    swap = {"en": "ja", "ja": "en", "mixed": "mixed", None: None}
    for rule in (">=", ">"):
        assert g.trend([swap[v] for v in votes], rule) == swap[g.trend(votes, rule)]


def test_no_votes_are_mixed() -> None:
    assert g.language([]) == g.language(BLIND) == g.trend([None] * 20) == "mixed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (["5", "月", "May"], ["ja", "ja", "en"]),  # nothing to the left: the right, no wrap
        (["May", "5", "、", "猫"], ["en", "en", "en", "ja"]),  # the left before the nearer right
        (["cat", "猫", "1", "dog"], ["en", "ja", "ja", "en"]),  # the nearest of the left
        (["1", ",", "2"], [None, None, None]),
    ],
)
def test_a_token_without_script_takes_its_neighbours(text: list[str], expected: list[Any]) -> None:
    assert [g.vote(text, i) for i in range(len(text))] == expected


# --- granularity from tokens --------------------------------------------------------------------


@few
@given(texts.filter(len))
def test_scores_are_the_textbook_share_and_entropy(tokens: list[str]) -> None:
    count = Counter(token.strip().lower() for token in tokens)
    found = g.scores(tokens)
    assert found.top_share == max(count.values()) / len(tokens)
    expected = entropy(list(count.values())) / math.log(len(tokens)) if len(tokens) > 1 else 0
    assert found.entropy == pytest.approx(float(expected), abs=1e-12)
    assert math.copysign(1, found.entropy) == 1


def test_the_ends_of_the_scale() -> None:
    assert g.scores(["cat"] * 50) == (1, 0)
    assert g.scores(["cat"]) == (1, 0)
    assert g.scores(["Cat", " cat", "CAT\n", "▁cat", "\u3000cat"]) == (1, 0)
    assert g.scores(distinct(50)) == (1 / 50, pytest.approx(1))
    # 16 texts of 2 ** b equally frequent tokens: b bits of 4
    for bits in range(5):
        tokens = distinct(2**bits) * 2 ** (4 - bits)
        assert g.scores(tokens) == (2**-bits, pytest.approx(bits / 4))


CLASSES = {
    "one token": (["cat"] * 50, "token"),
    "cases and spaces of one token": (["Cat", " cat", "CAT\n", "▁cat", "\u3000cat"] * 10, "token"),
    "two tokens, half each": (["猫", "犬"] * 25, "token"),
    "a spelling that leads": (["ねじ"] * 35 + ["ネジ"] * 11 + distinct(4), "token"),
    "just below half": (["cat"] * 24 + ["dog"] * 24 + ["cow"] * 2, "concept"),
    "three tokens": (["猫", "ネコ", "ねこ"] * 16, "concept"),
    "half of 16 in 8 tokens": (distinct(8) * 2, "concept"),  # entropy 3/4
    "each its own": (distinct(50), "uninterpretable"),
    "5 of 10 and 5 others": (["cat"] * 5 + distinct(5), "token"),  # 0.651
    "3 of 10 and 7 others": (["cat"] * 3 + distinct(7), "uninterpretable"),  # 0.857
    "4 of 10 and 6 others": (["cat"] * 4 + distinct(6), "concept"),  # 0.759
    "13 of 50 and 37 others": (["cat"] * 13 + distinct(37), "concept"),  # 0.830
    "12 of 50 and 38 others": (["cat"] * 12 + distinct(38), "uninterpretable"),  # 0.848
    "nine texts": (["cat"] * 9, "excluded"),
    "no text": ([], "excluded"),
}


@pytest.mark.parametrize(("tokens", "expected"), CLASSES.values(), ids=CLASSES)
def test_classes(tokens: list[str], expected: str) -> None:
    assert g.classify(tokens) == expected


@few
@given(texts, seeds)
def test_only_the_pattern_of_repetition_counts(tokens: list[str], seed: int) -> None:
    rng = random.Random(seed)
    names = {
        word: f"t{i}" for i, word in enumerate(dict.fromkeys(t.strip().lower() for t in tokens))
    }
    renamed = [names[token.strip().lower()] for token in tokens]
    dressed = [rng.choice([str.upper, str.title, " {}\n".format])(name) for name in renamed]
    shuffled = rng.sample(tokens, len(tokens))
    assert len({g.classify(each) for each in (tokens, renamed, dressed, shuffled)}) == 1


def test_min_texts_is_the_first_number_that_is_classified() -> None:
    for n in (1, 2, 10, 50):
        assert g.classify(["cat"] * n, min_texts=n) == "token"
        assert g.classify(["cat"] * (n - 1), min_texts=n) == "excluded"


# --- planted latents ----------------------------------------------------------------------------

LEXICON = {"Cat": "cat", "cats": "cat", "猫": "cat", "ネコ": "cat", "dog": "dog", "犬": "dog"}
LEXICON |= {"cow": "cow", "牛": "cow", "horse": "horse", "馬": "horse"}
FORMS = [word for word, concept in LEXICON.items() if concept == "cat"]
PLANTED = {"token": ["犬"], "synonymy": FORMS, "similarity": list(LEXICON)}
PLANTED["uninterpretable"] = [f"u{i}" for i in range(5000)]


def planted(kind: str, seed: int, contamination: float) -> Iterator[str]:
    rng = random.Random(seed)
    for i in range(50):
        pool = PLANTED["uninterpretable"] if i < 50 * contamination else PLANTED[kind]
        yield rng.choice(pool)


@pytest.mark.parametrize("contamination", [0, 0.1, 0.2])
@pytest.mark.parametrize("kind", PLANTED)
def test_planted_latents_are_found(kind: str, contamination: float) -> None:
    coarse = {"synonymy": "concept", "similarity": "concept"}.get(kind, kind)
    for seed in range(20):
        tokens = list(planted(kind, seed, contamination))
        assert g.classify(tokens) == coarse


# --- from ground truth --------------------------------------------------------------------------


def truth(**replaced: Any) -> dict[str, Any]:
    """Ten texts in which nothing repeats, but for what is replaced."""
    rows = {
        name: [f"{name}{i}" for i in range(10)]
        for name in ("tokens", "concepts", "category", "relation", "before", "after", "topics")
    } | replaced
    return {
        "tokens": rows["tokens"],
        "concepts": rows["concepts"],
        "meanings": {name: rows[name] for name in ("category", "relation")},
        "neighbours": {name: rows[name] for name in ("before", "after")},
        "topics": rows["topics"],
    }


def agree(n: int) -> list[str]:
    return ["same"] * n + distinct(10 - n)


KINDS = {"tokens": "token", "concepts": "synonymy", "category": "similarity"}
KINDS |= {"relation": "similarity", "before": "context", "after": "context", "topics": "text"}


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
def test_each_kind_of_label_decides_from_eight_tenths(name: str, kind: str) -> None:
    assert g.oracle(**truth(**{name: agree(8)})) == kind
    assert g.oracle(**truth(**{name: agree(7)})) == "uninterpretable"


@pytest.mark.parametrize(("name", "kind"), [row for row in KINDS.items() if row[0] != "tokens"])
def test_no_label_agrees_with_nothing_and_counts_as_a_text(name: str, kind: str) -> None:
    assert g.oracle(**truth(**{name: [None] * 10})) == "uninterpretable"
    assert g.oracle(**truth(**{name: [7] * 8 + [None] * 2})) == kind
    assert g.oracle(**truth(**{name: [7] * 7 + [None] * 3})) == "uninterpretable"


def test_the_first_rule_that_holds_wins() -> None:
    for i, (first, kind) in enumerate(KINDS.items()):
        later = {name: agree(10) for name in list(KINDS)[i + 1 :]}
        assert g.oracle(**truth(**{first: agree(8)}, **later)) == kind


def test_the_oracle_reads_tokens_as_classify_does() -> None:
    assert g.oracle(**truth(tokens=["Cat", " cat"] * 5)) == "token"
    assert g.oracle(**truth(after=["Of", "of "] * 5)) == "context"
    assert g.oracle(**truth(), min_texts=11) == "excluded"


def test_shuffled_truth_is_uninterpretable() -> None:
    """The null of section 7.1: labels of random positions must not reach 0.8 together."""
    rng = random.Random(0)
    labels = [f"c{i}" for i in range(8)]
    found = Counter(
        g.oracle(**truth(category=rng.choices(labels, k=10), concepts=rng.choices(labels, k=10)))
        for _ in range(500)
    )
    assert found["uninterpretable"] >= 495


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        ("猫猫猫猫猫猫猫猫猫猫", "tokens='猫"),  # a string would be ten tokens
        (b"cat", "tokens=b'cat'"),
        (None, "tokens=None"),
        (7, "tokens=7"),
        ({"cat"}, "tokens={'cat'}"),
        (Counter({"cat": 50}), "tokens=Counter"),
        (["cat", 7], r"tokens\[1\]=7"),
        (["cat", None], r"tokens\[1\]=None"),
        ([float("nan")], r"tokens\[0\]=nan"),
    ],
)
def test_what_is_no_list_of_tokens_is_refused(tokens: Any, named: str) -> None:
    calls = (g.language, g.classify, g.scores)
    for call in calls:
        with pytest.raises(DataError, match=named):
            call(tokens)


@pytest.mark.parametrize("rule", ["=>", "", None, 0.9])
def test_another_rule_is_refused(rule: Any) -> None:
    with pytest.raises(ParameterError, match="rule="):
        g.language(["cat"], rule)


def test_a_vote_for_another_language_is_refused() -> None:
    with pytest.raises(DataError, match="votes='eng'"):
        g.trend(["en"] * 20 + ["eng"])


@pytest.mark.parametrize("min_texts", [0, -1, 2.5, True, "10", None])
def test_min_texts_is_a_positive_whole_number(min_texts: Any) -> None:
    with pytest.raises(ParameterError, match="min_texts="):
        g.classify(["cat"] * 20, min_texts)
    with pytest.raises(ParameterError, match="min_texts="):
        g.oracle(**truth(), min_texts=min_texts)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "tokens"])
def test_labels_of_another_length_are_named(name: str) -> None:
    with pytest.raises(DataError, match=rf"len\({name}\)=9: allowed is 10"):
        g.oracle(**truth(**{name: distinct(9)}))


@pytest.mark.parametrize("name", [name for name in KINDS if name != "tokens"])
def test_labels_that_do_not_compare_by_value_are_refused(name: str) -> None:
    sevens = torch.full((10,), 7)
    assert g.oracle(**truth(**{name: sevens.tolist()})) == KINDS[name]
    assert g.oracle(**truth(**{name: sevens.numpy()})) == KINDS[name]
    for labels in (sevens, list(sevens), [0.5] * 10):
        with pytest.raises(DataError, match=rf"{name}\[0\]="):
            g.oracle(**truth(**{name: labels}))


@pytest.mark.parametrize("position", [-1, 2])
def test_a_position_outside_the_text_is_named(position: int) -> None:
    with pytest.raises(ParameterError, match=f"position={position}"):
        g.vote(["cat", "猫"], position)


def test_scores_of_no_text_are_refused() -> None:
    with pytest.raises(DataError, match="tokens="):
        g.scores([])
