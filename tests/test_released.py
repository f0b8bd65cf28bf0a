"""Released SAEs: read as their authors compute them, refused when they are anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import draw
from torch import Tensor
from torch.nn import functional as F

from srclib.errors import DataError, ParameterError
from srclib.lm.released import load_released, load_series

D_IN, D_SAE, K = 6, 20, 4
SHAPES = {
    "encoder.weight": (D_SAE, D_IN),
    "encoder.bias": (D_SAE,),
    "decoder.weight": (D_IN, D_SAE),
    "b_dec": (D_IN,),
}


def weights(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: draw(i, *shape).to(dtype) for i, (name, shape) in enumerate(SHAPES.items())}


def write(folder: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    folder.mkdir()
    config = {"model_type": "topk_sae", "d_in": D_IN, "num_latents": D_SAE, "k": K, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "sae", weights())


def theirs(w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and reconstruction in float64: ReLU first, then the k largest."""
    w, x = {name: value.double() for name, value in w.items()}, x.double()
    dense = F.relu(F.linear(x - w["b_dec"], w["encoder.weight"], w["encoder.bias"]))
    top = dense.topk(K, dim=-1)
    acts = torch.zeros_like(dense).scatter_(-1, top.indices, top.values)
    return acts, F.linear(acts, w["decoder.weight"]) + w["b_dec"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_computes_what_the_authors_compute(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = weights(dtype)
    stored["encoder.bias"] -= 1.5  # some inputs get fewer than k positive latents
    sae = load_released(write(tmp_path / "sae", stored))
    x = F.normalize(draw(9, 200, D_IN), dim=1)
    acts, x_hat = theirs(stored, x)
    assert {int(n) for n in (acts > 0).sum(1)} == {3, 4}
    out = sae(x)
    torch.testing.assert_close(out.acts, acts.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.x_hat, x_hat.float(), rtol=1e-5, atol=1e-5)
    assert not sae.training and {p.dtype for p in sae.parameters()} == {torch.float32}


def change(file: str, **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def retensor(name: str, tensor: Tensor | None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors.pop(name, None)
        save_file(tensors if tensor is None else tensors | {name: tensor}, path)

    return damage


def pickled(folder: Path) -> None:
    torch.save(weights(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: (f / "config.json").unlink(), r"config\.json: missing"),
    (lambda f: (f / "config.json").write_text("{"), r"config\.json: no JSON"),
    (lambda f: (f / "config.json").write_text("[]"), "model_type=None"),
    (change("config.json", model_type="llama"), "model_type='llama': allowed is 'topk_sae'"),
    (change("config.json", k=None), "k=None: allowed is a whole number >= 1"),
    (change("config.json", d_in=7), r"encoder\.weight=.*finite floats \(20, 7\), as config"),
    (retensor("b_dec", None), r"tensors=\['decoder.weight', 'encoder.bias', 'encoder.weight'\]"),
    (retensor("W_dec", torch.ones(1)), r"tensors=\['W_dec', "),
    (retensor("b_dec", torch.full((D_IN,), torch.nan)), "b_dec=.*finite floats"),
    (retensor("b_dec", torch.ones(D_IN, dtype=torch.int32)), r"b_dec=\(\(6,\), 'torch.int32'\)"),
    (lambda f: (f / "model.safetensors").write_bytes(b"no"), "not a safetensors file"),
    (pickled, r"model\.safetensors: missing.*pickled ones .* are refused unread"),
]


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_anything_else_is_refused_by_name(
    folder: Path, fault: Callable[[Path], Any], words: str
) -> None:
    fault(folder)
    with pytest.raises(DataError, match=words) as error:
        load_released(folder)
    assert str(folder) in str(error.value)


def test_a_series_is_read_by_step(tmp_path: Path) -> None:
    for step in (1, 20):
        write(tmp_path / f"c{step}", {k: step * v for k, v in weights().items()})
    saes = load_series(str(tmp_path / "c{step}"), [1, 20], D_IN, D_SAE, K)
    torch.testing.assert_close(saes[20].W_dec, 20 * saes[1].W_dec)
    with pytest.raises(DataError, match=r"c3 missing.*c1, .*c20"):
        load_series(str(tmp_path / "c{step}"), [1, 3], D_IN, D_SAE, K)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((D_IN + 1, D_SAE, K), "released=.*d_in=6 at step 1.*d_in=7, as the model has"),
        ((D_IN, D_SAE + 1, K), "d_sae=21: allowed is 20, .* Set d_sae=20"),
        ((D_IN, D_SAE, K + 1), "k=5: allowed is 4, .* Set k=4"),
    ],
)
def test_a_series_of_other_sizes_names_the_parameter(
    tmp_path: Path, sizes: tuple[int, int, int], words: str
) -> None:
    write(tmp_path / "c1", weights())
    (tmp_path / "c1" / "model.safetensors").unlink()  # sizes are compared before weights are read
    with pytest.raises(ParameterError, match=words):
        load_series(str(tmp_path / "c1"), [1], *sizes)
