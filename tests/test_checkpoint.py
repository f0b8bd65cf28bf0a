"""What is saved comes back the same, or not at all."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.errors import CheckpointError, ParameterError
from srclib.sae import SAE
from srclib.sources import Scaled, ToyFeatures
from srclib.store import files
from srclib.store.checkpoint import build_activation, describe, load_sae, save_sae
from srclib.training import state
from srclib.training.trainer import TrainConfig, train

TOY = ToyFeatures(6, 8, 0.3)
ACTIVATIONS: list[Activation] = [
    ReLU(),
    TopK(2),
    BatchTopK(1.5),
    JumpReLU(threshold=0.01, bandwidth=0.1, l0_on="pre", through_pre=True),
    JumpReLU(threshold=0.01, bandwidth=0.1, log_threshold=True),
]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def trained(activation: Activation, **keywords: Any) -> SAE:
    sae = SAE(8, 6, activation, **keywords)
    train(sae, TOY, TrainConfig(n_steps=5, n_batch=16, lr=1e-2))
    return sae


@pytest.mark.parametrize("settings_", [{}, {"subtract_b_dec": False, "select_by": "raw"}])
@each_activation
def test_round_trip(activation: Activation, settings_: dict[str, Any], tmp_path: Path) -> None:
    """Every tensor, every setting, and the reconstruction of raw activations in both modes."""
    sae, x = trained(activation, **settings_), TOY.batch(-1, 40)
    loaded = load_sae(save_sae(sae, tmp_path / "sae"))
    assert describe(loaded) == describe(sae) and loaded.activation == activation
    assert not loaded.training
    for name, tensor in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert loaded.state_dict()[name].dtype == tensor.dtype
    for mode in (True, False):
        assert torch.equal(loaded.train(mode)(x).x_hat, sae.train(mode)(x).x_hat)


@each_activation
def test_activations_describe_themselves_in_json(activation: Activation) -> None:
    text = json.dumps(describe(SAE(8, 6, activation))["activation"])
    assert build_activation(json.loads(text)) == activation


@pytest.mark.parametrize("scale", [None, 4.0])
def test_reconstruction_is_that_of_training(scale: float | None, tmp_path: Path) -> None:
    """Normalised or not: saved after folding, it reconstructs raw activations as in training."""
    source = TOY if scale is None else Scaled(TOY, scale)
    sae, factor = SAE(8, 6, BatchTopK(2)), scale or 1.0
    train(sae, source, TrainConfig(n_steps=20, n_batch=16, lr=1e-2))
    x = TOY.batch(-1, 40)
    in_training = sae.eval()(factor * x).x_hat / factor
    save_sae(sae.fold_input_scale(factor), tmp_path / "sae")
    assert torch.equal(load_sae(tmp_path / "sae")(x).x_hat, in_training)


def test_an_sae_may_be_saved_while_it_trains(tmp_path: Path) -> None:
    """Its parameters are then views of one vector; the file holds them, not the vector."""
    sae = SAE(8, 6, TopK(2))

    def observe(record: dict[str, Any]) -> None:
        loaded = load_sae(save_sae(sae, tmp_path / str(record["step"])))
        assert torch.equal(loaded.W_dec, sae.W_dec) and torch.equal(loaded.W_enc, sae.W_enc)

    train(sae, TOY, TrainConfig(n_steps=3, n_batch=16, lr=1e-2, log_every=1), observe=observe)
    size = (tmp_path / "3" / "sae.safetensors").stat().st_size
    assert size < 4 * sum(p.numel() for p in sae.parameters()) + 1000


def test_an_existing_folder_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    first, second = trained(TopK(2)), trained(TopK(3))
    save_sae(first, tmp_path / "sae")
    with pytest.raises(
        ParameterError, match=r"sae: exists\. Pass overwrite=True or another folder"
    ):
        save_sae(second, tmp_path / "sae")
    assert load_sae(tmp_path / "sae").activation == TopK(2)
    save_sae(second, tmp_path / "sae", overwrite=True)
    assert load_sae(tmp_path / "sae").activation == TopK(3)
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]  # nothing temporary stays


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_saved_sae_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    foreign = tmp_path / "thesis" if kind == "file" else tmp_path / "thesis" / "chapter.tex"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("years of work", encoding="utf-8")
    with pytest.raises(ParameterError, match=r"thesis: holds other things.*Name another folder"):
        save_sae(SAE(4, 4, ReLU()), tmp_path / "thesis", overwrite=True)
    assert foreign.read_text(encoding="utf-8") == "years of work"


def test_a_failed_save_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_sae(trained(TopK(2)), tmp_path / "sae")

    def full_disk(value: Any) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(files, "pretty", full_disk)  # the tensors are written by then
    with pytest.raises(OSError, match="no space left"):
        save_sae(trained(TopK(3)), tmp_path / "sae", overwrite=True)
    assert load_sae(tmp_path / "sae").activation == TopK(2)
    assert [p.name for p in tmp_path.iterdir()] == ["sae"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two files of an SAE by name."""
    folder = save_sae(trained(BatchTopK(1.5)), tmp_path_factory.mktemp("saved") / "sae")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def meaning(content: bytes) -> Any:
    """What a JSON file says; its spacing says nothing."""
    try:
        return json.loads(content)
    except ValueError:
        return None


quick = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", ["sae.json", "sae.safetensors"])
@quick
@given(data=st.data())
def test_any_altered_byte_is_noticed(
    name: str, saved: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(saved[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    folder = write(tmp_path / "sae", {**saved, name: bytes(content)})
    if name == "sae.json" and meaning(bytes(content)) == meaning(saved[name]):
        load_sae(folder)
        return
    with pytest.raises(CheckpointError, match=name):
        load_sae(folder)


@pytest.mark.parametrize("name", ["sae.json", "sae.safetensors"])
@quick
@given(share=st.floats(0, 0.999))
def test_any_truncation_is_noticed(
    name: str, saved: dict[str, bytes], tmp_path: Path, share: float
) -> None:
    content = saved[name][: int(share * (len(saved[name]) - 1))]  # without the last brace or number
    with pytest.raises(CheckpointError, match=name):
        load_sae(write(tmp_path / "sae", {**saved, name: content}))


def test_halves_of_two_saes_do_not_make_one(saved: dict[str, bytes], tmp_path: Path) -> None:
    other = save_sae(trained(BatchTopK(1.5), seed=1), tmp_path / "other")
    (other / "sae.json").write_bytes(saved["sae.json"])
    with pytest.raises(CheckpointError, match=r"sae\.safetensors: altered since it was written"):
        load_sae(other)


@pytest.mark.parametrize("name", ["sae.json", "sae.safetensors"])
def test_the_missing_file_is_named(name: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "sae", {k: v for k, v in saved.items() if k != name})
    with pytest.raises(CheckpointError, match=f"{name}: missing.*sae.json and sae.safetensors"):
        load_sae(folder)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "1", '"text"', "{not json", '{"sha256": "a", "b": NaN}']
)
def test_other_json_is_no_description(text: str, saved: dict[str, bytes], tmp_path: Path) -> None:
    folder = write(tmp_path / "sae", {**saved, "sae.json": text.encode()})
    with pytest.raises(CheckpointError, match=r"sae\.json: not a checkpoint description"):
        load_sae(folder)


def reseal(saved: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """Change fields of the JSON and put a right checksum on it."""
    meta = {**json.loads(saved["sae.json"]), **changes}
    meta.pop("sha256")
    meta["sha256"] = files.sha256(files.canonical(meta))
    return {**saved, "sae.json": files.pretty(meta).encode()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "format=99, allowed is 1"),
        ({"d_in": 9}, "does not describe its tensors"),
        ({"d_in": "8"}, "d_in='8'"),
        (
            {"activation": {"name": "Softmax"}},
            "activation 'Softmax': allowed are ReLU, TopK, Batch",
        ),
        ({"activation": {"name": "TopK", "q": 1}}, "does not describe its tensors"),
        ({"activation": {"name": "JumpReLU"}}, "does not describe its tensors"),
    ],
)
def test_descriptions_that_do_not_fit(
    changes: dict[str, Any], words: str, saved: dict[str, bytes], tmp_path: Path
) -> None:
    """Also with a right checksum: a JumpReLU without thresholds, a width that is another."""
    with pytest.raises((CheckpointError, ParameterError), match=words):
        load_sae(write(tmp_path / "sae", reseal(saved, **changes)))


class Payload:
    """Unpickling this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("names", [["sae.pt"], ["sae.json"], ["sae.json", "sae.safetensors"]])
def test_pickles_are_refused_unread(
    names: list[str], saved: dict[str, bytes], tmp_path: Path
) -> None:
    """Under their own name, and disguised as one or both files of an SAE."""
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    kept = {} if names == ["sae.pt"] else saved
    folder = write(tmp_path / "sae", {**kept, **dict.fromkeys(names, payload)})
    with pytest.raises(CheckpointError):
        load_sae(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(payload)
    assert (tmp_path / "ran").exists()  # it would have run


def test_the_newest_complete_checkpoint_is_taken(tmp_path: Path) -> None:
    for step in (5, 40, 300):
        write(tmp_path / f"step-{step:09d}", {"state.json": b"{}"})
    (tmp_path / "step-000009999").mkdir()  # being removed
    write(tmp_path / ".step-000009998.x1", {"state.json": b"{}"})  # being written
    assert state.latest(tmp_path).name == "step-000000300"


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds no step-\* checkpoint. Train with checkpoint"
    ):
        state.latest(tmp_path)
