"""Text that ships with Python: cleaned in the open, the same every time, spelled without loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from srclib.errors import DataError, ParameterError
from srclib.worlds import python_docs
from srclib.worlds.engine import BOS

TEXTS = ["the quick brown fox and the other fox\n", "def fox(x):\n    return x\n"] * 20
VOCABULARY = 270
FOX = python_docs.tokenizer(TEXTS, VOCABULARY)


def planted(folder: Path) -> Path:
    """A library with every kind of file that must not pass unseen."""
    files = {
        "b.py": b'"""About b."""\r\nx = 1\r\n',
        "a/marked.py": b"\xef\xbb\xbf# caf\xc3\xa9\n",
        "a/latin.py": b"# caf\xe9\n",
        "a/empty.py": b"",
        "a/blank.py": b" \n\t\n",
        "old.py": b"# one\rtwo\n",
        "a/notes.txt": b"no source",
        "test/t.py": b"x = 1\n",
        "site-packages/p.py": b"x = 1\n",
        "_sysconfigdata_here.py": b"path = '/home/somebody'\n",
    }
    for name, raw in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(raw)
    return folder


def test_sources_are_cleaned_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    found = python_docs.code(folder=planted(tmp_path))
    assert found["name"][:] == ["a/marked.py", "b.py", "old.py"]
    assert found["text"][:] == ["# café\n", '"""About b."""\nx = 1\n', "# one\ntwo\n"]
    n_chars = sum(map(len, found["text"]))
    wanted = f"3 documents, {n_chars} characters; left out: 2 empty, 1 not UTF-8"
    assert found.info.description == wanted


def test_docstrings_stand_in_source_order(tmp_path: Path) -> None:
    source = '''
"""Module."""
class A:
    """Class A."""
    def f(self):
        """Method
        of A."""
        return "no docstring \\d"
async def g():
    """Function."""
'''
    (tmp_path / "m.py").write_text(source.lstrip())
    (tmp_path / "broken.py").write_text('"""Never read."""\nx = = 1\n')
    (tmp_path / "silent.py").write_text("x = 1\n")
    found = python_docs.prose(folder=tmp_path)
    assert found["text"][:] == ["Module.\n\nClass A.\n\nMethod\nof A.\n\nFunction."]
    assert "2 empty" in found.info.description


@pytest.mark.parametrize("read", [python_docs.prose, python_docs.code])
def test_a_smaller_corpus_is_a_beginning_of_a_larger_one(read: object) -> None:
    large, small = (read(n_chars_max=n) for n in (150_000, 60_000))  # type: ignore[operator]
    n = len(small)
    assert 0 < n < len(large)
    assert large.select(range(n)).to_dict() == small.to_dict()
    assert sum(map(len, small["text"])) <= 60_000 < sum(map(len, large["text"][: n + 1]))
    assert all(text.strip() and "\r" not in text for text in large["text"])


def test_this_python_brings_prose_and_code() -> None:
    prose, code = python_docs.prose(100_000), python_docs.code(100_000)
    assert all(name.startswith("topics/") for name in prose["name"])
    assert "__future__.py" in code["name"][:]
    assert " the " in prose["text"][0] and "import " in "".join(code["text"])


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=80, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    ids = FOX(text)["input_ids"]
    assert ids[0] == BOS and ids.count(BOS) == 1
    assert FOX.decode(ids[1:]) == text


def test_specials_in_a_text_are_text() -> None:
    ids = FOX("<bos>a<eos><pad>")["input_ids"]
    assert ids.count(BOS) == 1 and min(ids[1:]) > 2
    assert FOX.decode(ids[1:]) == "<bos>a<eos><pad>"


def test_training_asks_for_the_texts_alone() -> None:
    """Not for their order."""
    corpus = python_docs.prose(60_000)
    one = python_docs.tokenizer(corpus, 700).backend_tokenizer.to_str()
    two = python_docs.tokenizer(corpus["text"][::-1], 700).backend_tokenizer.to_str()
    assert one == two
    assert one != python_docs.tokenizer(corpus["text"][1:], 700).backend_tokenizer.to_str()


def test_a_saved_tokeniser_is_the_same(tmp_path: Path) -> None:
    FOX.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert len(loaded) == len(FOX) == VOCABULARY
    for text in ("", "the fox <bos>", " é\n\n"):
        assert loaded(text)["input_ids"] == FOX(text)["input_ids"]
    assert loaded("fox", add_special_tokens=False)["input_ids"] == FOX("fox")["input_ids"][1:]
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize(
    ("corpus", "vocab_size", "error", "name"),
    [
        (TEXTS, 258, ParameterError, "vocab_size=258: allowed is a whole number >= 259"),
        (TEXTS, 5_000, ParameterError, "vocab_size=5000: allowed is at most"),
        ([], 300, ParameterError, "vocab_size=300: allowed is at most 259 for these 0 texts"),
        ("one text", 300, DataError, "corpus='one text'"),
        (["one text", None], 300, DataError, "corpus="),
    ],
)
def test_a_tokeniser_that_cannot_be_is_refused(
    corpus: object, vocab_size: int, error: type[Exception], name: str
) -> None:
    with pytest.raises(error, match=name):
        python_docs.tokenizer(corpus, vocab_size)  # type: ignore[arg-type]


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_bytes(b"")
    with pytest.raises(DataError, match=r"left out: 1 empty, 0 not UTF-8"):
        python_docs.code(folder=tmp_path)
    with pytest.raises(DataError, match="folder="):
        python_docs.code(folder=tmp_path / "missing")
    (tmp_path / "long.py").write_text("x = 1\n" * 10)
    with pytest.raises(ParameterError, match=r"n_chars_max=59: allowed is >= 60.*long\.py"):
        python_docs.code(59, folder=tmp_path)
    for wrong in (0, True, 1e6):
        with pytest.raises(ParameterError, match="n_chars_max="):
            python_docs.prose(wrong)  # type: ignore[arg-type]


def test_a_python_without_its_manual_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="pydoc_data: this Python comes without it"):
        python_docs.prose()


def test_the_package_is_light() -> None:
    """Neither transformers nor datasets come along with `import srclib`."""
    asked = "import srclib.worlds, sys; print({'transformers', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
