"""The text world: every label is the truth, and every document a pure function of its place."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.stats import chi2_contingency
from transformers import AutoTokenizer

from srclib.errors import DataError, ParameterError
from srclib.worlds.engine import BOS, EOS, PAD, UNK, pack, words_of
from srclib.worlds.text import TextWorld, predicates

Rows = list[dict[str, Any]]
WORLD = TextWorld()
DATA = words_of("text")
REGISTERS = (  # the word lists that hold pairs casual/formal
    *DATA["determiners"],
    *(DATA[kind] for kind in ("prepositions", "connectives", "intensifiers", "reports", "seem")),
)
SMALL = TextWorld(seed=3, n_topics=5, n_people=20)


@pytest.fixture(scope="module")
def train() -> Dataset:
    return WORLD.documents(6_000)


@pytest.fixture(scope="module")
def rows(train: Dataset) -> Rows:
    """The first thousand documents, row by row."""
    return train.select(range(1_000)).to_list()


def words(tokens: list[int]) -> list[str]:
    return [WORLD.words[i] for i in tokens]


def labels(documents: Dataset, name: str) -> np.ndarray:
    return np.asarray(documents[name][:])


def surprise(a: np.ndarray, b: np.ndarray) -> float:
    """Standard deviations by which the chi-square of a table exceeds that of independence."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    result = chi2_contingency(table, correction=False)
    return float((result.statistic - result.dof) / np.sqrt(2 * result.dof))


# The lexicon


def test_each_word_is_one_token_of_one_class() -> None:
    assert len(set(WORLD.words)) == len(WORLD.words) == len(WORLD.class_of)
    assert WORLD.words[:4] == ("<pad>", "<bos>", "<eos>", "<unk>")
    assert all(word == word.lower().strip() and " " not in word for word in WORLD.words)
    assert 600 <= len(WORLD.words) <= 900
    for i, name in enumerate(WORLD.word_classes):
        assert [WORLD.class_of[word] for word in WORLD.members(name)] == [i] * WORLD.class_of.count(
            i
        )


def test_word_lists_are_read_once_and_each_is_named_by_its_use() -> None:
    assert words_of("text") is DATA
    for relation in DATA["relations"].values():
        assert {relation["of"], relation["answers"]} <= {"noun", *WORLD.word_classes}
        for place, text in zip(("SUBJECT", "OWNER"), relation["wordings"], strict=True):
            assert text.split().count(place) == 1 and text.split()[-1] == "ANSWER"
        assert relation.get("epithet", "ANSWER").split()[-1] == "ANSWER"


def test_topics_have_equally_many_words() -> None:
    topics = DATA["topics"].values()
    shapes = {tuple(len(part.split()) for part in topic.values()) for topic in topics}
    assert shapes == {(10, 4, 5)}


def test_the_language_has_no_idle_word(train: Dataset) -> None:
    used = {i for tokens in train["tokens"][:] for i in tokens}
    assert set(range(len(WORLD.words))) - used == {PAD, EOS, UNK}


def test_popular_words_are_drawn_more_often(train: Dataset) -> None:
    counts = np.bincount(np.concatenate(train["tokens"][:]), minlength=len(WORLD.words))
    for name in ("food", "tool", "law adjective", "law noun"):
        first, *_, last = counts[list(WORLD.members(name))]
        assert first > 2 * last


# Documents


def test_a_document_depends_on_its_place_alone() -> None:
    many, few = SMALL.documents(30), TextWorld(3, 5, 20).documents(11)
    assert many.select(range(11)).to_dict() == few.to_dict()
    assert SMALL.documents(30).to_dict() == many.to_dict()


def test_splits_and_seeds_are_their_own() -> None:
    one, two = SMALL.documents(40, "train"), SMALL.documents(40, "test")
    three = TextWorld(4, 5, 20).documents(40)
    texts = [*one["text"], *two["text"], *three["text"]]
    assert len(set(texts)) == 120
    assert TextWorld(4, 5, 20).words == SMALL.words
    assert TextWorld(4, 5, 20).attributes != SMALL.attributes


def test_no_global_generator_is_touched() -> None:
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    TextWorld(5).documents(3)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_every_token_carries_its_truth(rows: Rows) -> None:
    person = {word: i for i, word in enumerate(WORLD.people)}
    is_verb = {i: name.endswith("verb") for i, name in enumerate(WORLD.word_classes)}
    function = {"determiner", "preposition", "connective", "subordinator", "punctuation"}
    is_function = {i: name in function for i, name in enumerate(WORLD.word_classes)}
    for row in rows:
        tokens, roles = row["tokens"], [WORLD.roles[r] for r in row["role"]]
        assert row["text"].split() == words(tokens[1:])
        assert row["word_class"] == [WORLD.class_of[i] for i in tokens]
        assert row["entity"] == [person.get(i, -1) for i in tokens]
        assert [r == "verb" for r in roles] == [is_verb[c] for c in row["word_class"]]
        assert [r == "function" for r in roles] == [is_function[c] for c in row["word_class"]]
        assert tokens[0] == BOS and min(tokens[1:]) > UNK
        assert roles.index("special") == 0 and roles.count("special") == 1


@pytest.mark.parametrize(
    ("pattern", "roles"),  # [a word class] stands for each of its words, * for any role
    [
        ("[person] lives in [city] .", "subject verb function complement function"),
        ("home of [person] is [city] .", "subject function oblique verb complement function"),
        ("hue of the [law noun] is", "subject function function oblique verb"),
        ("thinks that [person]", "verb function subject"),
        ("orbits the [astronomy noun]", "verb function object"),
        ("near [person]", "function oblique"),
        ("[person] the [job]", "* function complement"),
        ("is [intensifier] [colour] .", "verb modifier complement function"),
        ("the [colour] [tool]", "function modifier *"),
    ],
)
def test_roles_are_those_a_reader_would_give(rows: Rows, pattern: str, roles: str) -> None:
    fits = [
        set(WORLD.members(slot[1:-1])) if slot[0] == "[" else {WORLD.words.index(slot)}
        for slot in re.findall(r"\[.+?\]|\S+", pattern)
    ]
    wanted, n_hits = roles.split(), 0
    for row in rows:
        for start in range(len(row["tokens"]) - len(fits) + 1):
            part = row["tokens"][start : start + len(fits)]
            if part[0] in fits[0] and all(map(set.__contains__, fits, part)):
                found = [WORLD.roles[r] for r in row["role"][start : start + len(fits)]]
                assert all(w in ("*", f) for w, f in zip(wanted, found, strict=True)), words(part)
                n_hits += 1
    assert n_hits >= 3


def test_verbs_agree_with_their_subject(rows: Rows) -> None:
    """`<bos> the comets orbit`, `. the comet orbits`, and anywhere `the comet which orbits`."""
    plural = {n: i % 2 for t in WORLD.topics for i, n in enumerate(WORLD.members(f"{t} noun"))}
    form = {v: i % 3 for t in WORLD.topics for i, v in enumerate(WORLD.members(f"{t} verb"))}
    which, stop = WORLD.words.index("which"), WORLD.words.index(".")
    main, relative = list[int](), list[int]()
    for tokens in (row["tokens"] for row in rows if not row["past"]):
        for a, b, c, verb in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
            if verb not in form:
                continue
            if a in (BOS, stop) and c in plural:
                main.append(plural[c] + form[verb])
            elif c == which and b in plural:
                relative.append(plural[b] + form[verb])
    for seen in (main, relative):
        assert len(seen) > 50 and set(seen) == {1}, "orbit goes with comets, orbits with comet"


def changes(one: Dataset, two: Dataset) -> list[tuple[str, str, str]]:
    """(word, word, class) wherever two datasets differ; they must agree in all but single words."""
    found = []
    for a, b in zip(one, two, strict=True):
        assert all(a[k] == b[k] for k in ("topic", "role", "entity", "word_class"))
        triples = zip(words(a["tokens"]), words(b["tokens"]), a["word_class"], strict=True)
        found += [(x, y, WORLD.word_classes[c]) for x, y, c in triples if x != y]
    return found


def test_registers_differ_in_partners_alone() -> None:
    slots = [slot.split("/") for slot in " ".join(REGISTERS).split() if "/" in slot]
    partners = {pair for a, b in slots for pair in zip(a.split("-"), b.split("-"), strict=True)}
    found = changes(*(WORLD.documents(300, "test", formal=f) for f in (False, True)))
    assert {(x, y) for x, y, _ in found} == partners
    assert len(found) > 4 * 300, "visible in many tokens of a document"


def test_tenses_differ_in_verbs_alone() -> None:
    found = changes(*(WORLD.documents(300, "test", past=p) for p in (False, True)))
    assert all(name.endswith("verb") for *_, name in found)
    assert not {x for x, *_ in found} & {y for _, y, _ in found}, "a form of both tenses"
    assert len(found) > 4 * 300


# Latent variables


def test_topic_register_and_tense_are_independent(train: Dataset) -> None:
    drawn = {name: labels(train, name).astype(int) for name in ("topic", "formal", "past")}
    for a, b in combinations(drawn, 2):
        assert abs(surprise(drawn[a], drawn[b])) < 4, (a, b)
    for values in drawn.values():
        share = np.bincount(values) / len(values)
        assert np.abs(share * len(share) - 1).max() < 0.2


def test_attributes_of_people_are_independent() -> None:
    assert list(WORLD.attributes) == ["city", "job", "animal"]
    columns = {k: np.asarray(v) - min(v) for k, v in WORLD.attributes.items()}
    for a, b in combinations(columns, 2):
        assert abs(surprise(columns[a], columns[b])) < 4, (a, b)
    assert surprise(columns["city"], columns["city"]) > 50  # the measure can tell


def test_a_wanted_label_holds_and_moves_no_other() -> None:
    free = SMALL.documents(60)
    fixed = SMALL.documents(60, topic=2, past=True)
    assert set(fixed["topic"]) == {2} and all(fixed["past"])
    assert fixed["formal"][:] == free["formal"][:]
    assert fixed["role"][:] == free["role"][:], "the topic alone does not change the structure"


def test_topic_words_stay_in_their_topic(rows: Rows) -> None:
    first = [name.split()[0] for name in WORLD.word_classes]
    for row in rows:
        found = {first[c] for c in row["word_class"]} & set(WORLD.topics)
        assert found <= {WORLD.topics[row["topic"]]}


# Facts


def test_a_fact_is_a_prompt_with_its_answer() -> None:
    person = {word: i for i, word in enumerate(WORLD.people)}
    rows = list(WORLD.facts())
    for row in rows:
        relation = DATA["relations"][row["relation"]]
        assert row["prompt"][0] == BOS and BOS not in row["prompt"][1:]
        assert row["prompt"][row["entity_position"]] == row["subject"]
        assert row["answer"] in WORLD.members(relation["answers"])
        assert row["entity"] == person.get(row["subject"], -1)
        assert (row["entity"] >= 0) == (relation["of"] == "person")
        assert (row["topic"] >= 0) == (relation["of"] == "noun")
        if row["entity"] >= 0:
            assert WORLD.attributes[row["relation"]][row["entity"]] == row["answer"]
    keys = [(row["relation"], row["subject"], row["wording"]) for row in rows]
    assert len(set(keys)) == len(keys) == 4 * (128 * 3 + 24 + 240)
    assert len({tuple(row["prompt"]) for row in rows}) == len(rows), "a prompt with two answers"
    assert WORLD.facts().to_dict() == TextWorld().facts().to_dict()


def test_cities_lie_where_they_lie() -> None:
    lies = {
        WORLD.words[row["subject"]]: WORLD.words[row["answer"]]
        for row in WORLD.facts().filter(lambda r: r == "country", input_columns="relation")
    }
    assert len(lies) == 24 and lies["osaka"] == "japan" and lies["cusco"] == "peru"


def test_the_text_states_every_fact_and_nothing_false(train: Dataset) -> None:
    """Each prompt, wherever it stands in any document, is followed by its answer."""
    answers = {tuple(row["prompt"][1:]): row for row in WORLD.facts()}
    lengths = {len(prompt) for prompt in answers}
    told: dict[tuple[str, int], int] = {}
    for tokens in train["tokens"][:]:
        for n in lengths:
            for start in range(1, len(tokens) - n):
                row = answers.get(tuple(tokens[start : start + n]))
                if row is not None:
                    assert tokens[start + n] == row["answer"], words(tokens)
                    key = row["relation"], row["subject"]
                    told[key] = told.get(key, 0) + 1
    assert len(told) == len(answers) / 4
    assert min(told.values()) >= 2


@pytest.mark.parametrize(
    ("relation", "link"), [("city", "in"), ("country", "in"), ("origin", "from")]
)
def test_epithets_tell_the_truth(train: Dataset, relation: str, link: str) -> None:
    """`alice in tokyo`, `tokyo in japan`, `the comets from peru`: nothing else reads like that."""
    facts = WORLD.facts().filter(lambda name: name == relation, input_columns="relation")
    truth = dict(zip(facts["subject"], facts["answer"], strict=True))
    if relation == "origin":  # ids of plurals follow those of their singulars
        truth |= {noun + 1: answer for noun, answer in truth.items()}
    word = WORLD.words.index(link)
    found = [
        (truth[a], c)
        for tokens in train["tokens"][:3_000]
        for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if a in truth and b == word
    ]
    assert len(found) > 100
    assert all(said == wanted for wanted, said in found)


# Tokeniser and rows


def test_the_tokeniser_gives_back_every_document(tmp_path: Path) -> None:
    documents = SMALL.documents(50)
    SMALL.tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for tokenizer in (SMALL.tokenizer(), loaded):
        assert len(tokenizer) == len(SMALL.words)
        assert tokenizer(documents["text"][:])["input_ids"] == documents["tokens"][:]
        assert tokenizer.decode(documents["tokens"][0][1:]) == documents["text"][0]
        assert tokenizer("").input_ids == [BOS]
        assert tokenizer("the", add_special_tokens=False).input_ids == [SMALL.words.index("the")]
        assert tokenizer("antidisestablishmentarianism").input_ids == [BOS, UNK]
        assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)


def test_packing_keeps_order_and_drops_the_rest() -> None:
    documents = SMALL.documents(20)
    rows = SMALL.pack(documents, 16)
    stream = [i for tokens in documents["tokens"] for i in tokens]
    assert rows.dtype == torch.int64 and rows.shape == (len(stream) // 16, 16)
    assert rows.flatten().tolist() == stream[: rows.numel()]
    assert pack([[1, 5], [1, 6]], 4).tolist() == [[1, 5, 1, 6]]
    with pytest.raises(DataError, match=r"tokens in all documents=4.*>= 5"):
        pack([[1, 5], [1, 6]], 5)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("seed", lambda: TextWorld(seed=-1)),
        ("n_topics", lambda: TextWorld(n_topics=13)),
        ("n_topics", lambda: TextWorld(n_topics=True)),
        ("n_people", lambda: TextWorld(n_people=129)),
        ("n", lambda: SMALL.documents(0)),
        ("n", lambda: SMALL.documents(2.0)),  # type: ignore[arg-type]
        ("split", lambda: SMALL.documents(1, "")),
        ("topic", lambda: SMALL.documents(1, topic=5)),
        ("topic", lambda: SMALL.documents(1, topic=-1)),
        ("formal", lambda: SMALL.documents(1, formal=1)),  # type: ignore[arg-type]
        ("past", lambda: SMALL.documents(1, past="no")),  # type: ignore[arg-type]
        ("word_class", lambda: SMALL.members("war noun")),
        ("context", lambda: SMALL.pack(SMALL.documents(1), 0)),
    ],
)
def test_bad_arguments_are_refused_by_name(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ParameterError, match=rf"^{name}="):
        call()


# What can be said of each token

TOLD = TextWorld(seed=3, n_topics=4, n_people=12)
DOCS = TOLD.documents(20, "predicates")
LENGTH = 30
NAMES, TABLE = predicates(TOLD, DOCS, LENGTH)
WHERE = {name: TABLE[..., i] for i, name in enumerate(NAMES)}


def test_every_token_has_one_word_one_class_one_role_one_topic() -> None:
    there = torch.zeros(len(DOCS), LENGTH)
    for row, tokens in zip(there, DOCS["tokens"], strict=True):
        row[: len(tokens)] = 1
    for kind in ("word", "class", "role", "topic", "formal", "past"):
        total = torch.stack([t for name, t in WHERE.items() if name.startswith(f"{kind}: ")]).sum(0)
        assert torch.equal(total.float(), there), kind


def test_names_say_what_the_columns_of_the_corpus_say() -> None:
    assert len(set(NAMES)) == len(NAMES) and TABLE.any(dim=(0, 1)).all()
    seen = set()
    for d, row in enumerate(DOCS):
        for place, token in enumerate(row["tokens"][:LENGTH]):
            assert WHERE[f"word: {TOLD.words[token]}"][d, place]
            assert WHERE[f"class: {TOLD.word_classes[row['word_class'][place]]}"][d, place]
            assert WHERE[f"role: {TOLD.roles[row['role'][place]]}"][d, place]
            assert WHERE[f"topic: {TOLD.topics[row['topic']]}"][d, place]
            assert WHERE[f"past: {'yes' if row['past'] else 'no'}"][d, place]
            for relation, answers in TOLD.attributes.items():
                if row["entity"][place] >= 0:
                    value = TOLD.words[answers[row["entity"][place]]]
                    assert WHERE[f"{relation}: {value}"][d, place]
                    seen.add(relation)
    assert seen == set(TOLD.attributes)
    assert WHERE["place: first"].nonzero()[:, 1].unique().tolist() == [0]


def test_attributes_are_said_of_people_alone() -> None:
    """An animal is mentioned as such too; that is a word, not an attribute."""
    people = torch.stack(
        [WHERE[f"word: {TOLD.words[p]}"] for p in TOLD.people if f"word: {TOLD.words[p]}" in WHERE]
    ).any(0)
    for relation in TOLD.attributes:
        total = torch.stack(
            [t for name, t in WHERE.items() if name.startswith(f"{relation}: ")]
        ).sum(0)
        assert torch.equal(total.bool(), people) and total.max() == 1
