"""Any bytes at all given to any loader: what was meant, or one line that says what is wrong."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import CLAIMS, PROFILES, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from srclib.activations import BatchTopK
from srclib.errors import SuiteError
from srclib.formats import read_sae, write_saelens
from srclib.lm import corpora
from srclib.sae import SAE
from srclib.sources import Rows
from srclib.store import checkpoint, files, seals
from srclib.suite import cells, claims, params, records, trust, verify


class Loader(NamedTuple):
    """A file, and what reads it."""

    file: Path
    read: Callable[[], Any]


class Loaders(dict[str, Loader]):
    """By name; told by its size where a test fails."""

    def __repr__(self) -> str:
        return f"{len(self)} loaders"


def loaders(root: Path) -> Loaders:
    """A sound file of every kind below a folder that stands for the checkout."""
    for name, text in (("profiles", PROFILES), ("claims", CLAIMS)):
        files.make(root / "data" / name)
        (root / "data" / name / "toy.toml").write_text(text, encoding="utf-8")
    checkpoint.save_sae(SAE(4, 4, BatchTopK(2)), root / "sae")
    write_saelens(SAE(4, 4, BatchTopK(2)), root / "saelens")
    np.save(root / "x.npy", np.ones((8, 2), dtype="float32"))
    save_file({"x": torch.ones(8, 2)}, root / "x.safetensors")
    (root / "t.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    shutil.copy(ROOT / "data" / "results" / "align_2hop.laptop.json", root / "record.json")
    files.make(root / "sealed")
    (root / "sealed" / "a").write_text("a")
    seals.close(root / "sealed")
    written = trust.write("faults", {"flips": {"n": 3}})
    cell = {
        "cell_type": "code",
        "source": "x: int = 3  # help",
        "metadata": {"tags": ["parameters"]},
    }
    (root / "n.ipynb").write_text(json.dumps({"cells": [cell], "metadata": {}}), encoding="utf-8")
    made = {
        "a profile": (root / "data/profiles/toy.toml", lambda: params.load_spec("toy")),
        "a ledger": (root / "data/claims/toy.toml", lambda: claims.load_claims("toy")),
        "a record": (root / "record.json", lambda: records.load(root / "record.json")),
        "a notebook": (root / "n.ipynb", lambda: cells.parameters_cell(root / "n.ipynb")),
        "figures": (written, lambda: trust.load("faults")),
        "a seal": (root / "sealed" / seals.NAME, lambda: seals.check(root / "sealed")),
        "an SAE": (root / "sae" / "sae.json", lambda: checkpoint.load_sae(root / "sae")),
        "its tensors": (
            root / "sae" / "sae.safetensors", lambda: checkpoint.load_sae(root / "sae"),
        ),
        "an SAE of SAELens": (root / "saelens" / "cfg.json", lambda: read_sae(root / "saelens")),
        "rows as npy": (root / "x.npy", lambda: Rows(root / "x.npy", held_out=2)),
        "rows as safetensors": (
            root / "x.safetensors", lambda: Rows(root / "x.safetensors", held_out=2),
        ),
        "a corpus": (root / "t.jsonl", lambda: list(corpora.read(root / "t.jsonl"))),
    }  # fmt: skip
    return Loaders({name: Loader(*each) for name, each in made.items()})


NAMES = (
    "a profile", "a ledger", "a record", "a notebook", "figures", "a seal", "an SAE", "its tensors",
    "an SAE of SAELens", "rows as npy", "rows as safetensors", "a corpus",
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Iterator[Loaders]:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "root", lambda: Path(name))
        patch.setenv("SRCLIB_BUILD", str(Path(name) / "store"))
        yield loaders(Path(name))


PIECES = [
    b"", b"\0", b"\xff\xfe", b"[", b"{}", b"null", b"1e999", b"NaN", b'"', b"\n", b"\\ud800",
    b"= = =", b"[[claim]]", b"true", b"[1]", b"-1", b"0", b'{"a": [[[[', b"\xc3\x28",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Sound bytes with pieces cut out and others put in their place."""
    for where, length, piece in edits:
        at = int(where * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


def attempt(loader: Loader, data: bytes) -> None:
    before = loader.file.read_bytes()
    loader.file.write_bytes(data)
    try:
        loader.read()
    except SuiteError as error:
        assert "\n" not in str(error).strip() and len(str(error)) < 3000
    finally:
        loader.file.write_bytes(before)


# The same examples each time: a search for new ones is a run of its own, not a test.
QUIET = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sound_is_read(name: str, made: Loaders) -> None:
    assert set(made) == set(NAMES)
    made[name].read()


@pytest.mark.parametrize("name", NAMES)
@QUIET
@given(edits=EDITS)
def test_edited_bytes_are_read_or_refused(
    name: str, made: Loaders, edits: list[tuple[float, int, bytes]]
) -> None:
    attempt(made[name], edited(made[name].file.read_bytes(), edits))


@pytest.mark.parametrize("name", NAMES)
@QUIET
@given(
    data=st.binary(max_size=60)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_or_refused(name: str, made: Loaders, data: bytes) -> None:
    attempt(made[name], data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@QUIET
@given(key=st.data(), value=JSON)
def test_a_record_with_another_value_is_no_crash(
    made: Loaders, key: st.DataObject, value: Any
) -> None:
    """One field of a record, at any depth, holds anything: reading and judging go on or refuse."""
    loader = made["a record"]
    record = json.loads(loader.file.read_text("utf-8"))
    where: Any = record
    while isinstance(where, dict | list) and where:
        keys = sorted(where) if isinstance(where, dict) else list(range(len(where)))
        step = key.draw(st.sampled_from(keys))
        if not isinstance(where[step], dict | list) or not where[step] or key.draw(st.booleans()):
            where[step] = value
            break
        where = where[step]
    attempt(loader, files.pretty(record).encode("utf-8", "surrogatepass"))
    before = loader.file.read_bytes()
    loader.file.write_bytes(files.pretty(record).encode("utf-8", "surrogatepass"))
    try:
        verify.findings(loader.file, aged=False)
    finally:
        loader.file.write_bytes(before)
