"""Texts from outside: read whole, mended with a note, or refused with file and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from srclib.errors import DataError, ParameterError
from srclib.lm.corpora import check, read
from srclib.lm.packing import packed, read_rows
from srclib.store import files

WORDS = ["<s>", "<unk>", "a", "b", "c", "猫"]


def words(adds_bos: bool = False, **special: Any) -> PreTrainedTokenizerFast:
    model = models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        template = {"single": "<s> $A", "special_tokens": [("<s>", 0)]}
        tokenizer.post_processor = processors.TemplateProcessing(**template)
    special = {"unk_token": "<unk>", "bos_token": "<s>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def file(folder: Path, data: str | bytes, name: str = "ja.txt") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "build", lambda: tmp_path / "build")


@pytest.mark.parametrize("adds_bos", [False, True])
def test_first_tokens_with_one_bos(tmp_path: Path, adds_bos: bool) -> None:
    text = file(tmp_path, "a b c\n猫 a b c\na b")
    corpus = read_rows([text], words(adds_bos), 4)
    assert corpus.rows.tolist() == [[0, 2, 3, 4], [0, 5, 2, 3]]
    assert corpus.rows.dtype == torch.int32
    assert corpus.n_short == 1
    without = read_rows([text], words(adds_bos), 3, bos=False)
    assert without.rows.tolist() == [[2, 3, 4], [5, 2, 3]] and without.n_short == 1


def test_files_in_order_and_no_more_than_asked(tmp_path: Path) -> None:
    rows = [json.dumps({"id": i, "text": f"{word} a"}) for i, word in enumerate("abc")]
    one = file(tmp_path, "\n".join(rows), "en.jsonl")
    other = file(tmp_path, "猫 猫\na a\n", "ja.txt")
    corpus = read_rows([one, other], words(), 3, n_documents=4)
    assert corpus.rows[:, 1].tolist() == [2, 3, 4, 5]


def test_what_loses_nothing_is_mended(tmp_path: Path) -> None:
    clean = file(tmp_path, "a b\nb c\n猫 a\n")
    dirty = file(tmp_path, "\ufeffa b\r\n\r\n \n\ufeffb c\r\n猫 a", "win.txt")
    expected, corpus = (read_rows([path], words(), 3) for path in (clean, dirty))
    assert corpus.rows.equal(expected.rows)


def test_a_byte_order_mark_inside_a_text_stays(tmp_path: Path) -> None:
    assert read_rows([file(tmp_path, "a \ufeffb")], words(), 3).rows.tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("name", "data", "words_of_error"),
    [
        ("x.txt", b"a b\nb \x8a\xbf\n", r"x\.txt, row 2: byte 3 \(0x8a\) is not UTF-8"),
        ("x.txt", "a 猫".encode()[:-1], r"x\.txt, row 1: byte 3 \(0xe7\) is not UTF-8"),
        ("x.jsonl", b'{"text": "a b"}\n{"text": "a\n', r"x\.jsonl, row 2: no JSON"),
        ("x.jsonl", b'{"txt": "a b"}\n', r"x\.jsonl, row 1: text=None: allowed is a string"),
        ("x.jsonl", b'["a b"]\n', r"x\.jsonl, row 1: text=None"),
        ("x.jsonl", b'{"text": 3}\n', r"x\.jsonl, row 1: text=3"),
        ("x.jsonl", b'{"text": "a \\ud800"}\n', r"row 1: text='half a character \(\\\\+ud800\)'"),
        ("x.jsonl", b"[" * 10**5 + b"\n", r"x\.jsonl, row 1: no JSON"),
        ("x.csv", b"a b\n", r"file='.*x\.csv': allowed is one of \.txt, \.jsonl"),
        ("x.txt", b"a\n\n", r"corpus: 0 documents of at least 3 tokens \(1 shorter\)"),
        ("x.txt", b"", "one document or more, and it has none"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, data: bytes, words_of_error: str
) -> None:
    with pytest.raises(DataError, match=words_of_error):
        read_rows([file(tmp_path, data, name)], words(), 3)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt.: allowed is an existing"):
        read_rows([tmp_path / "none.txt"], words(), 3)


def test_fewer_documents_than_asked_are_an_error(tmp_path: Path) -> None:
    text = file(tmp_path, "a b\na\nb c\n")
    assert len(read_rows([text], words(), 3, n_documents=2).rows) == 2
    with pytest.raises(DataError, match=r"2 documents .*\(1 shorter\)\. Allowed is 3 or more"):
        read_rows([text], words(), 3, n_documents=3)


def test_a_bos_that_does_not_exist_and_a_context_of_nothing(tmp_path: Path) -> None:
    text = file(tmp_path, "a b")
    with pytest.raises(ParameterError, match="bos=True: allowed is a tokeniser that has a BOS"):
        read_rows([text], words(bos_token=None), 3)
    assert read_rows([text], words(bos_token=None), 2, bos=False).rows.tolist() == [[2, 3]]
    with pytest.raises(ParameterError, match="n_documents=0"):
        read_rows([text], words(), 3, n_documents=0)
    for context in (1, 0, 2.0, True):
        with pytest.raises(ParameterError, match="context="):
            read_rows([text], words(), context)  # type: ignore[arg-type]


def saved(texts: list[str], **columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"text": texts, **columns})


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, Path]:
    """The same two documents in every form."""
    forms = {name: tmp_path / name for name in ("saved", "folder")}
    table = saved(["a b", "b c"], id=[1, 2])
    table.save_to_disk(forms["saved"])
    forms["folder"].mkdir()
    file(forms["folder"], "a b\r\n\n", "1.txt")
    file(forms["folder"], '{"text": "b c", "id": 2}\n', "2.jsonl")
    file(forms["folder"], "no text", "README")
    forms["txt"] = file(tmp_path, "a b\nb c")
    forms["parquet"] = tmp_path / "x.parquet"
    table.to_parquet(forms["parquet"])
    return forms


@pytest.mark.parametrize("form", ["saved", "folder", "txt", "parquet"])
def test_every_form_is_the_same_corpus(
    corpora: dict[str, Path], form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = read(corpora[form])
    assert found.column_names == ["text"] and list(found["text"]) == ["a b", "b c"]
    assert "Generating" not in capfd.readouterr().err, "no progress bars"
    expected = [[0, 2, 3], [0, 3, 4]]
    for corpus in (corpora[form], str(corpora[form]), found):
        assert read_rows(corpus, words(), 3).rows.tolist() == expected


def test_a_changed_file_is_read_again(corpora: dict[str, Path]) -> None:
    assert len(read(corpora["txt"])) == 2
    corpora["txt"].write_text("c")
    assert list(read(corpora["txt"])["text"]) == ["c"]


def test_bad_bytes_further_on_are_named_when_read(corpora: dict[str, Path]) -> None:
    bad = file(corpora["folder"], b"a b\nb \x8a\n", "3.txt")
    check(corpora["folder"])
    with pytest.raises(DataError, match=rf"{bad}, row 2: byte 3"):
        read(corpora["folder"])


def splits(folder: Path) -> None:
    DatasetDict({"train": saved(["a"]), "test": saved(["b"])}).save_to_disk(folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: None, "corpus='.*there': allowed is an existing saved dataset"),
        (lambda f: f.mkdir(), "corpus='.*there': allowed is an existing saved"),
        (splits, "allowed is one split of a saved dataset. Name .*there/train or .*there/test"),
        (lambda f: saved(["a"]).rename_column("text", "t").save_to_disk(f), r"columns=\['t'\]"),
        (lambda f: saved([]).save_to_disk(f), "dataset is broken or empty"),
        (lambda f: (f.mkdir(), file(f, "\n \n")), "one document or more, and it has none"),
        (lambda f: (f.mkdir(), (f / "state.json").touch()), "dataset is broken or empty"),
        (lambda f: f.write_text("a"), "file=.*there': allowed is one of .txt, .jsonl, .parquet"),
        (lambda f: (f.mkdir(), file(f, "a", "x.parquet")), "cannot be read as parquet"),
    ],
)
def test_what_is_no_corpus_is_refused_at_once(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "there")
    for look in (check, read):
        with pytest.raises(DataError, match=message):
            look(tmp_path / "there")


def test_an_empty_name_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path, "numpy==1.0", "constraints.txt")
    monkeypatch.chdir(tmp_path)
    for look in (check, read, lambda path: read_rows(path, words(), 3)):
        with pytest.raises(DataError, match="corpus='': allowed is an existing saved dataset"):
            look("")


def test_packed_rows_split_by_document_and_come_from_a_sealed_file() -> None:
    made = [f"{'a ' * (1 + i % 5)}b c 猫 {'c ' * (i % 7)} x{i}" for i in range(300)]
    texts = Dataset.from_dict({"text": made})
    rows = packed(texts, words(), 8, 50).clone()  # the file is damaged below
    assert rows.shape == (50, 8) and rows.dtype == torch.int32
    assert torch.equal(rows, packed(texts, words(), 8, 10**6)[:50])
    held, rest = (packed(texts, words(), 1, 10**6, held_out=side) for side in (True, False))
    n_tokens = sum(map(len, words()(made)["input_ids"]))
    assert len(held) + len(rest) == n_tokens and 0.03 < len(held) / n_tokens < 0.2
    backwards = packed(texts.select(range(299, -1, -1)), words(), 1, 10**6, held_out=True)
    assert torch.equal(backwards.sort(dim=0).values, held.sort(dim=0).values)
    stored = (files.build() / "cache" / "tokens").glob("*.int32")
    same = [each for each in stored if each.read_bytes().startswith(rows.numpy().tobytes())]
    file = min(same, key=lambda each: each.stat().st_size)
    data = file.read_bytes()
    file.write_bytes(b"\3\0\0\0" + data[4:])
    assert torch.equal(packed(texts, words(), 8, 50), rows) and file.read_bytes() == data
    with pytest.raises(DataError, match=r">= 100000"):
        packed(texts, words(), 100_000, 1)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([b"\xff\xfe"], "column text='binary'"),
        ([["a"], ["b"]], "column text='list"),
        ([1, 2], "column text='int64'"),
    ],
)
def test_a_column_that_holds_no_text_is_refused(
    tmp_path: Path, column: list[Any], told: str
) -> None:
    Dataset.from_dict({"text": column}).to_parquet(tmp_path / "x.parquet")
    Dataset.from_dict({"text": column}).save_to_disk(tmp_path / "saved")
    for place in (tmp_path / "x.parquet", tmp_path / "saved"):
        with pytest.raises(DataError, match=f"{told}.*: allowed is string"):
            check(place)


def test_a_saved_dataset_with_holes_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", None, "b"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="1 of 3 empty"):
        check(tmp_path / "saved")


@pytest.mark.parametrize("other", ["b.jsonl.zst", "D.TXT", "data/x.parquet", "c.csv"])
def test_a_folder_that_would_be_read_in_part_is_refused(tmp_path: Path, other: str) -> None:
    file(tmp_path, "a b")
    file(tmp_path, "about", "README.md")
    check(tmp_path)
    (tmp_path / other).parent.mkdir(exist_ok=True)
    file(tmp_path, "a b", other)
    with pytest.raises(DataError, match=f"would pass over='{other}'"):
        check(tmp_path)


def test_damage_is_told_with_the_file(tmp_path: Path) -> None:
    rows = [f"text {i} " * 50 for i in range(3000)]
    Dataset.from_dict({"text": rows}).to_parquet(tmp_path / "x.parquet")
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[len(data) // 3 : len(data) // 2] = b"\0" * (len(data) // 2 - len(data) // 3)
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as parquet"):
        list(read(tmp_path / "x.parquet"))
    DatasetDict({"train": Dataset.from_dict({"text": ["a"]})}).save_to_disk(tmp_path / "splits")
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"spl')
    with pytest.raises(DataError, match=r"dataset_dict\.json: is damaged"):
        check(tmp_path / "splits")
    with pytest.raises(DataError, match=r"none\.jsonl.: allowed is an existing"):
        check([file(tmp_path, "a b"), tmp_path / "none.jsonl"])


def test_tokens_are_those_of_the_tokeniser_s_rules() -> None:
    texts = Dataset.from_dict({"text": ["A B", "a B"] * 50})
    lower = words()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert lower.get_vocab() == words().get_vocab()
    plain, lowered = (packed(texts, each, 4, 5).tolist() for each in (words(), lower))
    assert plain != lowered
