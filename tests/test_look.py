"""Named models and corpora are refused by name, before anything is computed or loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from srclib.errors import DataError, ParameterError, SuiteError
from srclib.lm.hub import load_tokenizer
from srclib.lm.look import look
from srclib.lm.models import LMConfig, new_model, save_model
from srclib.worlds import python_docs

SIZES = LMConfig("llama", d_model=16, n_layers=2, n_heads=2, d_mlp=24, context=32, vocab_size=300)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with their tokeniser, and a corpus."""
    root = tmp_path_factory.mktemp("named")
    tokenizer = python_docs.tokenizer(python_docs.prose(20_000), 300)
    for step in (1, 2):
        save_model(new_model(replace(SIZES, seed=step)), root / f"step{step}")
        tokenizer.save_pretrained(root / f"step{step}")
    (root / "corpus").mkdir()
    (root / "corpus" / "a.txt").write_text("one document\n")
    return root


@pytest.fixture
def named(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage; loading weights would fail."""
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return Path(shutil.copytree(saved, tmp_path / "named"))


def test_what_is_sound_passes(named: Path) -> None:
    model, corpus = str(named / "step1"), str(named / "corpus")
    look("")
    look(model, corpus, layers=[0, 1], context=32)
    look(str(named / "step{step}"), corpus, steps=[1, 2], layers=[1], needs_corpus=True)
    look(model, [corpus, shutil.copytree(corpus, named / "other").as_posix()])
    look("", [corpus], corpus_alone=True)
    look("", [])
    assert load_tokenizer(model)("def f")["input_ids"]


def edit(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / file
        (path.parent / "sealed.json").unlink(missing_ok=True)  # as somebody else's
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda root: [file.unlink() for file in root.glob(pattern)] and None


def one_shard_short(root: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (root / "step1" / "model.safetensors.index.json").write_text(json.dumps(index))
    (root / "step1" / "model.safetensors").rename(root / "step1" / "model-1.safetensors")


def no_map(root: Path) -> None:
    (root / "step1" / "model.safetensors.index.json").write_text("{}")


def copied(root: Path) -> None:
    """The weights of one step in the place of another's, with a header of their own."""
    tensors = load_file(root / "step1" / "model.safetensors")
    save_file(tensors, root / "step2" / "model.safetensors", metadata={"format": "pt", "a": "b"})


FAULTS: list[tuple[Callable[[Path], None] | None, dict[str, Any], str]] = [
    (None, {"model_name": "nobody/none"}, "hf download nobody/none"),
    (None, {"model_name": "./typo"}, "'./typo'.*neither a folder with a config.json"),
    (remove("step1/config.json"), {}, "step1.*does not load"),
    (
        edit("step1/config.json", model_type="opt"),
        {"families": ["gpt2"]},
        "model_type='opt': allowed is one of",
    ),
    (edit("step1/config.json", auto_map={"AutoModel": "evil.Model"}), {}, "brings code of its own"),
    (remove("step1/*.safetensors"), {}, r"step1: model.safetensors missing"),
    (one_shard_short, {}, "step1: model-2.safetensors missing"),
    (no_map, {}, "step1/model.safetensors.index.json: no weight_map"),
    (edit("step1/config.json", model_type="bert"), {}, r"step1 \(bert\)': allowed is a decoder"),
    (
        edit("step1/config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        {},
        "quantization_config.*allowed is weights in a float dtype",
    ),
    (remove("step1/*token*"), {}, "step1: no tokeniser"),
    (None, {"layers": [0, 2]}, "layer=2: allowed is 0 <= layer < 2"),
    (None, {"layers": [-1]}, "layer=-1"),
    (None, {"context": 33}, "context=33: allowed is at most 32"),
    (None, {"corpus": "nowhere"}, "corpus='nowhere': allowed is an existing saved"),
    (None, {"corpus": ["nowhere"]}, "corpus='nowhere'"),
    (None, {"corpus": ["named/corpus", "./named/corpus"]}, "corpora=.*of different names"),
    (None, {"corpus": [""]}, "corpus='': allowed is an existing saved"),
    (None, {"needs_corpus": True}, r"corpus='': allowed is a corpus where a model is named"),
    (None, {"model_name": "", "corpus": "x"}, "corpus='x': allowed is empty where no model"),
    (remove("corpus/*"), {"corpus": "named/corpus"}, "corpus='named/corpus'"),
    (None, {"model_name": "named/step{step}", "steps": [1, 3]}, "step3 missing.*exists: .*step1"),
    (copied, {"model_name": "named/step{step}", "steps": [1, 2]}, "steps 1 and 2=.*its own"),
]


@pytest.mark.parametrize(("fault", "asked", "words"), FAULTS)
def test_what_could_not_be_used_is_refused(
    named: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Path], None] | None,
    asked: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.chdir(named.parent)
    if fault:
        fault(named)
    with pytest.raises((DataError, ParameterError), match=words):
        look(**{"model_name": "named/step1", **asked})


@pytest.mark.parametrize("name", ["nobody/none", "a folder that is not there", "", "../x"])
def test_a_tokenizer_that_is_not_there_is_no_raw_error(named: Path, name: str) -> None:
    with pytest.raises(SuiteError):
        load_tokenizer(name)
