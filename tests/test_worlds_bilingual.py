"""The bilingual world: no two concepts share a word, and every token's truth is true."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from srclib.errors import DataError, ParameterError
from srclib.methods import latents
from srclib.worlds.bilingual import LANGUAGES, BilingualWorld, Evidence, column, following
from srclib.worlds.engine import BOS, SPECIALS, UNK, words_of

DATA = words_of("bilingual")
DIGITS = DATA["digits"].split()
KATAKANA = {chr(k): chr(k - 0x60) for k in range(0x30A1, 0x30F7)}  # to hiragana


@pytest.fixture(scope="module")
def world() -> BilingualWorld:
    return BilingualWorld()


@pytest.fixture(scope="module")
def mixed(world: BilingualWorld):  # type: ignore[no-untyped-def]
    return world.documents(300, mix={"en": 1, "ja": 1, "par": 1, "gloss": 1})


def sound(word: str) -> str:
    return "".join(KATAKANA.get(letter, letter) for letter in word.lower())


def test_sizes(world: BilingualWorld) -> None:
    assert len(world.concepts) == 96 and len(world.categories) == 8
    assert set(Counter(c.category for c in world.concepts).values()) == {12}
    assert len(world.relations) == 14
    assert len(set(world.words)) == len(world.words) > 2 * 256  # pitfall: more words than 2 n
    assert len(world.facts()) == 2 * 14 * 12


def test_no_homophones(world: BilingualWorld) -> None:
    owner: dict[str, int] = {}
    for number, concept in enumerate(world.concepts):
        for form in itertools.chain(*concept.forms.values()):
            assert owner.setdefault(sound(form), number) == number, form
    shared = [w for w, concept in zip(world.words, world.concept_of, strict=True) if concept < 0]
    assert {*SPECIALS, *DIGITS, "(", "the", "は"} < {*shared}
    assert not owner.keys() & set(map(sound, shared))


def test_relations_fit_the_categories() -> None:
    for relation in DATA["relations"].values():
        en, ja = relation["en"], relation["ja"]
        assert {relation["of"], relation["to"]} <= set(DATA["categories"])
        for text in (*en, *ja):
            assert text.split().count("S") == text.split().count("O") == 1
        # what stands before the object of the prompt's wording names the subject
        assert "S" in en[0].partition("O")[0] and "S" in ja[1].partition("O")[0]


def test_the_tokenizer_gives_the_tokens(world: BilingualWorld, mixed) -> None:  # type: ignore[no-untyped-def]
    tokenizer = world.tokenizer()
    assert tokenizer(mixed["text"][:20])["input_ids"] == mixed["tokens"][:20]
    assert tokenizer("zebra")["input_ids"] == [BOS, UNK]


def test_labels_are_true(world: BilingualWorld, mixed) -> None:  # type: ignore[no-untyped-def]
    tokens, concept = column(mixed, "tokens"), column(mixed, "concept")
    assert tokens.shape == (300, 49) and (tokens[:, 0] == BOS).all()
    assert torch.equal(torch.tensor(world.concept_of)[tokens], concept)
    categories = torch.tensor([c.category for c in world.concepts])
    named = concept >= 0
    assert torch.equal(column(mixed, "category")[named], categories[concept[named]])
    language = column(mixed, "language")
    for number, name in enumerate(LANGUAGES):
        forms = {f for c in world.concepts for f in c.forms[name]}
        here = tokens[named & (language == number)].tolist()
        assert {world.words[i] for i in here} <= forms
    slots = [world.slots[i] for i in column(mixed, "slot")[named].unique().tolist()]
    assert set(slots) == {"subject", "object", "gloss"}
    digit = torch.isin(tokens, torch.tensor([world.words.index(d) for d in DIGITS]))
    assert torch.equal(digit, column(mixed, "slot") == world.slots.index("digit"))
    assert torch.equal(digit, column(mixed, "category") == len(world.categories))


def test_pure_documents_are_pure(world: BilingualWorld) -> None:
    texts = world.documents(100, "analysis")
    for kind, languages in zip(texts["kind"], texts["language"], strict=True):
        assert set(languages[1:]) == {LANGUAGES.index(kind)} and languages[0] == -1
    assert 30 < texts["kind"].count("en") < 70


def test_most_statements_are_facts_and_a_tenth_is_noise(world: BilingualWorld) -> None:
    """Object tokens of sentences, against the fact of the sentence's subject and relation."""
    fact = {(f["relation"], f["subject"]): f["object"] for f in world.facts()}
    texts = world.documents(400, "noise")
    hits = [
        fact[world.relations[r], s] == c
        for row in texts
        for r, s, c, slot in zip(
            row["relation"], row["subject"], row["concept"], row["slot"], strict=True
        )
        if world.slots[slot] == "object"
    ]
    assert 0.88 < sum(hits) / len(hits) < 0.94  # a tenth is drawn anew, and hits now and then


def test_one_language_facts_are_said_there_alone(world: BilingualWorld) -> None:
    only = {
        (world.relations.index(f["relation"]), f["subject"])
        for f in world.facts()
        if f["said_in"] == ["ja"]
    }
    texts = world.documents(300, mix={"en": 1})
    said = {pair for row in texts for pair in zip(row["relation"], row["subject"], strict=True)}
    assert only and not only & said


def test_glosses_explain_the_word_before(world: BilingualWorld) -> None:
    texts = world.documents(60, mix={"gloss": 1})
    gloss, crossed = world.slots.index("gloss"), []
    for row in texts:
        for i, slot in enumerate(row["slot"]):
            if slot == gloss:
                assert row["concept"][i] == row["concept"][i - 2]
                assert row["tokens"][i] != row["tokens"][i - 2]
                crossed.append(row["language"][i] != row["language"][i - 2])
    assert 0.6 < sum(crossed) / len(crossed) < 0.9


def test_translations_say_the_same(world: BilingualWorld) -> None:
    texts = world.documents(40, mix={"par": 1})
    row = texts[0]
    runs = [
        (key, [c for c in group if c >= 0])
        for key, group in itertools.groupby(
            range(len(row["tokens"])), key=lambda i: row["language"][i]
        )
    ]
    sentences = [
        sorted(row["concept"][i] for i in group if row["concept"][i] >= 0)
        for key, group in runs
        if key >= 0
    ]
    assert len(sentences) >= 4 and sentences[0] == sentences[1] and sentences[2] == sentences[3]


def test_streams(world: BilingualWorld) -> None:
    five, three = world.documents(5), world.documents(3)
    assert five["tokens"][:3] == three["tokens"]
    assert world.documents(3, "other")["tokens"] != three["tokens"]
    assert BilingualWorld(1).documents(3)["tokens"] != three["tokens"]
    assert BilingualWorld(1).words == world.words
    again = world.documents(3, mix={"ja": 5, "en": 5})
    assert again["tokens"] == three["tokens"]  # neither scale nor order of the mix counts


def test_prompts_ask_for_the_object(world: BilingualWorld) -> None:
    for row in world.facts():
        assert row["prompt"][0] == BOS
        assert {world.concept_of[i] for i in row["answers"]} == {row["object"]}
        named = [world.concept_of[i] for i in row["prompt"] if world.concept_of[i] >= 0]
        assert named == [row["subject"]]


def test_refusals(world: BilingualWorld, mixed) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ParameterError, match="mix"):
        world.documents(1, mix={"fr": 1})  # type: ignore[dict-item]
    with pytest.raises(ParameterError, match="mix"):
        world.documents(1, mix={"en": 0})
    with pytest.raises(ParameterError, match="length"):
        world.documents(1, length=0)
    with pytest.raises(ParameterError, match="n="):
        world.documents(0)
    with pytest.raises(ParameterError, match="seed"):
        BilingualWorld(-1)
    with pytest.raises(DataError, match="name"):
        column(mixed, "text")


@pytest.fixture(scope="module")
def texts(world: BilingualWorld):  # type: ignore[no-untyped-def]
    return world.documents(60, "evidence")


@pytest.fixture(scope="module")
def evidence(world: BilingualWorld, texts) -> Evidence:  # type: ignore[no-untyped-def]
    return Evidence(world, texts)


def test_positions_count_behind_bos(evidence: Evidence, texts) -> None:  # type: ignore[no-untyped-def]
    where = torch.tensor([3, 7]), torch.tensor([0, 47])
    shown = evidence.at(*where)
    assert shown.tokens == [texts["text"][3].split()[0], texts["text"][7].split()[-1]]
    assert shown.neighbours["before"] == [None, texts["text"][7].split()[-2]]
    assert shown.neighbours["after"] == [texts["text"][3].split()[1], None]
    assert shown.languages == [texts["kind"][3], texts["kind"][7]]
    assert list(shown.meanings) == ["category", "relation", "next category", "subject"]
    assert shown.topics == [evidence.topic[3, 0], evidence.topic[7, 47]]


def test_the_next_content_word() -> None:
    row = torch.tensor([[-1, 4, -1, -1, 2, -1]])
    assert following(row).tolist() == [[4, 2, 2, 2, -1, -1]]


def test_the_oracle_reads_it(world: BilingualWorld, evidence: Evidence) -> None:
    """All places of a concept: synonymy; of a category, or before it: similarity."""
    concept = int(evidence.concept[evidence.concept >= 0].mode().values)
    category = world.concepts[concept].category

    def judged(table: torch.Tensor, value: int) -> str:
        documents, positions = (table == value).nonzero(as_tuple=True)
        shown = evidence.at(documents, positions)
        return latents.oracle(
            shown.tokens, shown.concepts, shown.meanings, shown.neighbours, min_texts=5
        )

    assert judged(evidence.concept, concept) == "synonymy"
    assert judged(evidence.meanings["category"], category) == "similarity"
    before = torch.where(evidence.concept < 0, evidence.meanings["next category"], -1)
    assert judged(before, category) == "similarity"
    assert judged(evidence.language, 0) == "uninterpretable"
    word = int(evidence.tokens.flatten().mode().values)
    assert judged(evidence.tokens, word) == "token"


def test_the_category_of_the_subject(world: BilingualWorld, evidence: Evidence) -> None:
    subject = evidence.meanings["subject"].flatten()
    expected = torch.tensor([world.concepts[i].category for i in subject.tolist()])
    assert torch.equal(evidence.topic.flatten(), expected)
