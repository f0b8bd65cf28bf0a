"""Checkpoints that exist already: found, refused by name, and run for real on a tiny Llama."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from srclib.errors import DataError, ParameterError
from srclib.lm.harvest import harvest
from srclib.lm.hub import expand, shared_tokenizer
from srclib.lm.models import LMConfig, load_model, new_model, save_model
from srclib.lm.packing import read_rows

WORDS = ["<s>", "<unk>", "cat", "dog", "eats", "fish", "猫", "犬", "魚", "は", "を", "食べる"]
STEPS = [9, 10, 1000]
SIZES = LMConfig("llama", d_model=16, n_layers=2, n_heads=2, d_mlp=24, context=12, vocab_size=12)


def words(vocabulary: list[str] = WORDS, **changes: Any) -> PreTrainedTokenizerFast:
    model = models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "unk_token": "<unk>", **changes}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints in hub layout, the tokeniser beside each."""
    root = tmp_path_factory.mktemp("run [1] 実験")
    for seed, step in enumerate(STEPS):
        folder = root / f"iter_{step:07d}"
        save_model(new_model(replace(SIZES, seed=seed)), folder)
        words().save_pretrained(folder)
    return root


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def test_a_template_names_one_folder_per_step(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = expand(f"{saved}/iter_{{step:07d}}", STEPS)
    assert folders == {step: saved / f"iter_{step:07d}" for step in STEPS}
    monkeypatch.chdir(saved)
    assert expand("iter_000000{step}", [9])[9].resolve() == folders[9]
    assert expand(f"{saved}/iter_0001000", [5]) == {5: folders[1000]}, "one model at any step"
    monkeypatch.setenv("HOME", str(saved.parent))
    assert expand(f"~/{saved.name}/iter_{{step:07d}}", [9]) == {9: folders[9]}


def test_one_missing_in_the_middle_is_named_with_what_exists(run: Path) -> None:
    (run / "iter_0000010" / "config.json").unlink()
    (run / "iter_final").mkdir()
    with pytest.raises(DataError) as error:
        expand(f"{run}/iter_{{step:07d}}", [9, 10, 99, 1000])
    text = str(error.value)
    missing, exists = text.split("Allowed is what exists: ")
    assert f"{run}/iter_0000010, {run}/iter_0000099 missing" in missing
    assert f"{run}/iter_0001000" not in missing
    assert exists.startswith(f"{run}/iter_0000009, {run}/iter_0001000. ")


def test_an_empty_place_says_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="what exists: none"):
        expand(f"{tmp_path}/nowhere/iter_{{step}}/model", [1, 2])


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for step in range(30):
        (tmp_path / f"s{step}").mkdir()
        (tmp_path / f"s{step}" / "config.json").touch()
    with pytest.raises(DataError, match=r"s8, \S*s9, \S*s10, .*s19 and 10 more"):
        expand(f"{tmp_path}/s{{step}}", [77])


@pytest.fixture
def cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache of the hub with two branches of one model and a commit without a name."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--some--model"
    for commit, step in zip("abc", STEPS, strict=True):
        shutil.copytree(saved / f"iter_{step:07d}", model / "snapshots" / (commit * 40))
    (model / "refs").mkdir()
    for commit, step in zip("ab", STEPS, strict=False):
        (model / "refs" / f"step{step}").write_text(commit * 40)
    return model


def test_a_template_names_revisions_of_a_hub_model(cache: Path) -> None:
    folders = expand("some/model@step{step}", [9, 10])
    assert folders == {9: cache / "snapshots" / ("a" * 40), 10: cache / "snapshots" / ("b" * 40)}
    commit = "c" * 40
    assert expand(f"some/model@{commit}", [0]) == {0: cache / "snapshots" / commit}
    same = load_model(folders[9]).state_dict()["lm_head.weight"]
    assert not same.equal(load_model(folders[10]).state_dict()["lm_head.weight"])


def test_a_revision_that_does_not_exist_lists_what_does(cache: Path) -> None:
    with pytest.raises(DataError) as error:
        expand("some/model@step{step}", [9, 11])
    assert "some/model@step11 missing" in str(error.value)
    assert "what exists: some/model@step9, some/model@step10. " in str(error.value)
    assert "`hf download some/model --revision step11`" in str(error.value)
    with pytest.raises(DataError, match=f"exists: some/model@{'c' * 40}, some/model@step9, some"):
        expand("some/model@v{step}", [1])
    for strange in ("other/model@step{step}", "a--b/..@step{step}"):
        with pytest.raises(DataError, match="exists: none"):
            expand(strange, [1])


def test_a_series_may_be_one_model_per_step(cache: Path) -> None:
    """As the released SAEs of the paper are."""
    for step in (10, 100):
        folder = cache.parent / f"models--org--sae-c{step}"
        (folder / "snapshots" / "d").mkdir(parents=True)
        (folder / "snapshots" / "d" / "config.json").touch()
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("d")
    assert [path.parts[-3] for path in expand("org/sae-c{step}@main", [10, 100]).values()] == [
        "models--org--sae-c10",
        "models--org--sae-c100",
    ]
    with pytest.raises(DataError, match="exists: org/sae-c10@main, org/sae-c100@main"):
        expand("org/sae-c{step}@main", [10, 1000])


@pytest.mark.parametrize(
    ("template", "steps", "message"),
    [
        ("", [1], "checkpoint_template=''"),
        ("a/{step.__class__}", [1], "checkpoint_template="),
        ("a/{0}", [1], "checkpoint_template="),
        ("a/{step:>9}", [1], "checkpoint_template="),
        ("a/{step", [1], "checkpoint_template="),
        ("a/step}", [1], "checkpoint_template="),
        ("a/b", [1, 2], r"a \{step\} where there are several steps"),
        ("a/{step}", [], r"steps=\[\]"),
        ("a/{step}", [2, 1], r"steps=\[2, 1\]"),
        ("a/{step}", [1, 1], r"steps=\[1, 1\]"),
        ("a/{step}", [-1], "steps="),
        ("a/{step}", [1.0], "steps="),
        ("a/{step}", [True], "steps="),
    ],
)
def test_templates_and_steps_that_mean_nothing(template: str, steps: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        expand(template, steps)


def folders_of(run: Path) -> dict[int, Path]:
    return expand(f"{run}/iter_{{step:07d}}", STEPS)


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def test_one_tokenizer_for_all(run: Path) -> None:
    tokenizer = shared_tokenizer(folders_of(run))
    assert tokenizer("猫 は fish")["input_ids"] == [6, 9, 5]
    for step in (9, 1000):
        without_tokenizer(run / f"iter_{step:07d}")
    assert shared_tokenizer(folders_of(run)).get_vocab() == tokenizer.get_vocab()
    without_tokenizer(run / "iter_0000010")
    with pytest.raises(DataError, match=r"iter_0000009, .*no tokeniser"):
        shared_tokenizer(folders_of(run))


def swapped() -> PreTrainedTokenizerFast:
    return words([*WORDS[:2], "dog", "cat", *WORDS[4:]])


def lower_casing() -> PreTrainedTokenizerFast:
    tokenizer = words()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (swapped, r"'cat' is id 2 and 3 \(2 tokens\)"),
        (lambda: words([*WORDS, "ねこ"]), r"'ねこ' is id None and 12 \(1 tokens\)"),
        (lambda: words(bos_token="cat"), "special tokens"),
        (lower_casing, "other rules of splitting"),
    ],
)
def test_tokenizers_that_differ_are_both_named(
    run: Path, other: Callable[[], PreTrainedTokenizerFast], difference: str
) -> None:
    other().save_pretrained(run / "iter_0001000")
    with pytest.raises(DataError, match=difference) as error:
        shared_tokenizer(folders_of(run))
    assert f"{run}/iter_0000009 and {run}/iter_0001000 differ" in str(error.value)


def test_padding_and_truncation_are_no_difference(run: Path) -> None:
    tokenizer = words(pad_token="<s>")
    plain = words(pad_token="<s>")
    tokenizer("cat dog", truncation=True, max_length=1, padding="max_length")
    assert tokenizer.backend_tokenizer.truncation
    for step in STEPS:
        (tokenizer if step == 10 else plain).save_pretrained(run / f"iter_{step:07d}")
    assert shared_tokenizer(folders_of(run))


def test_a_tokenizer_that_brings_code_or_is_broken_is_refused(run: Path) -> None:
    file = run / "iter_0000010" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "auto_map": {"AutoTokenizer": "evil.Tokenizer"}}))
    with pytest.raises(DataError, match=r"tokenizer_config.json: brings code of its own"):
        shared_tokenizer(folders_of(run))
    file.write_text("{")
    with pytest.raises(DataError, match=r"tokenizer_config.json: no JSON"):
        shared_tokenizer(folders_of(run))
    file.write_text(json.dumps(config))
    (run / "iter_0000010" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="iter_0000010: tokeniser does not load"):
        shared_tokenizer(folders_of(run))


def test_from_files_to_activations(saved: Path, tmp_path: Path) -> None:
    """The path of a named model: templates, tokeniser, corpus, activations of each checkpoint."""
    folders = folders_of(saved)
    text = tmp_path / "ja.txt"
    text.write_text("猫 は 魚 を 食べる\n猫\n犬 は 魚 を 食べる 猫\n", encoding="utf-8")
    corpus = read_rows([text], shared_tokenizer(folders), context=5)
    assert corpus.rows.tolist() == [[0, 6, 9, 8, 10], [0, 7, 9, 8, 10]] and corpus.n_short == 1
    seen = []
    for step, folder in folders.items():
        model = load_model(folder)
        acts, mask = harvest(model, corpus.rows, layer=1, bos="drop", bos_id=0)
        seen.append(acts[mask])
        assert seen[-1].shape == (8, 16), step
        assert acts[:, 0].eq(0).all() and mask[:, 0].logical_not().all(), "no BOS"
    assert not seen[0].allclose(seen[1]) and not seen[1].allclose(seen[2])
