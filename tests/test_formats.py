"""Foreign SAEs: read as their libraries compute them, and refused when they are anything else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import draw
from torch import Tensor
from torch.nn import functional as F

import srclib
from srclib.errors import DataError, ParameterError
from srclib.formats import read_sae, write_saelens

D_IN, D_SAE, K = 6, 20, 4
X = draw(99, 300, D_IN)


def weights(*extra: str) -> dict[str, Tensor]:
    w = {"W_enc": draw(1, D_IN, D_SAE), "W_dec": draw(2, D_SAE, D_IN), "b_dec": draw(3, D_IN)}
    return w | {name: draw(4 + i, D_SAE) for i, name in enumerate(extra)}


def saelens(folder: Path, w: dict[str, Tensor], **cfg: Any) -> Path:
    folder.mkdir()
    save_file(w, folder / "sae_weights.safetensors")
    base = {"d_in": D_IN, "d_sae": D_SAE, "apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps(base | {"normalize_activations": "none"} | cfg))
    return folder


def top(scores: Tensor, acts: Tensor) -> Tensor:
    kept = scores.topk(K, dim=-1).indices
    return torch.zeros_like(acts).scatter(-1, kept, acts.gather(-1, kept))


def reference(kind: str, w: dict[str, Tensor], x: Tensor) -> Tensor:
    """x_hat in float64, written out as each library does it."""
    w, x = {name: value.double() for name, value in w.items()}, x.double()
    centred = x - w["b_dec"]
    if kind == "gated":
        pre = centred @ w["W_enc"]
        magnitude = F.relu(centred @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"])
        acts = (pre + w["b_gate"] > 0) * magnitude
        return acts @ w["W_dec"] + w["b_dec"]
    pre = centred @ w["W_enc"] + w["b_enc"]
    norms = w["W_dec"].norm(dim=1)
    acts = {
        "standard": lambda: F.relu(pre),
        "topk": lambda: top(pre, F.relu(pre)),
        "topk rescaled": lambda: top(pre * norms, F.relu(pre)),
        "jumprelu": lambda: F.relu(pre) * (pre > w.get("threshold", pre)),
    }[kind]()
    return acts @ w["W_dec"] + w["b_dec"]


CASES = [
    ("standard", ("b_enc",), {}),
    ("topk", ("b_enc",), {"k": K}),
    ("topk rescaled", ("b_enc",), {"k": K, "rescale_acts_by_decoder_norm": True}),
    ("jumprelu", ("b_enc", "threshold"), {}),
    ("gated", ("b_gate", "r_mag", "b_mag"), {}),
]


@pytest.mark.parametrize(("kind", "extra", "cfg"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("factor", [None, 7.0])
def test_saelens(tmp_path: Path, kind: str, extra: tuple[str, ...], cfg: Any, factor: Any) -> None:
    w = weights(*extra)
    folder = saelens(tmp_path / "sae", w, architecture=kind.split()[0], **cfg)
    expected = reference(kind, w, X)
    if factor:  # trained on 7 x: the reconstruction of x is a seventh of that of 7 x
        scaled = json.loads((folder / "cfg.json").read_text())
        scaled["normalize_activations"] = "expected_average_only_in"
        (folder / "cfg.json").write_text(json.dumps(scaled))
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
        expected = reference(kind, w, factor * X) / factor
    x_hat = read_sae(folder)(X).x_hat
    assert (x_hat - expected).abs().max() < 1e-4
    assert expected.std() > 0.1, "the reference is no constant"


def test_an_old_saelens_folder_that_says_topk_is_no_relu(tmp_path: Path) -> None:
    w = weights("b_enc")
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    folder = saelens(tmp_path / "sae", w, architecture="standard", **old)
    assert (read_sae(folder)(X).x_hat - reference("topk", w, X)).abs().max() < 1e-4


def test_gemma_scope_ignores_the_bias_at_the_input(tmp_path: Path) -> None:
    w = weights("b_enc", "threshold")
    np.savez(tmp_path / "params.npz", **{name: value.numpy() for name, value in w.items()})
    w64 = {name: value.double() for name, value in w.items()}
    pre = X.double() @ w64["W_enc"] + w64["b_enc"]
    expected = F.relu(pre) * (pre > w64["threshold"]) @ w64["W_dec"] + w64["b_dec"]
    for path in (tmp_path, tmp_path / "params.npz"):
        assert (read_sae(path)(X).x_hat - expected).abs().max() < 1e-4


def test_sparsify(tmp_path: Path) -> None:
    w = weights("b_enc")
    theirs = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    save_file(theirs | {"W_dec": w["W_dec"], "b_dec": w["b_dec"]}, tmp_path / "sae.safetensors")
    cfg = {"d_in": D_IN, "num_latents": D_SAE, "k": K, "expansion_factor": 32}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    assert (read_sae(tmp_path)(X).x_hat - reference("topk", w, X)).abs().max() < 1e-4


def test_a_pickle_is_opened_only_where_it_is_asked_for(tmp_path: Path) -> None:
    w = weights("b_enc")
    theirs = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "bias": w["b_dec"]}
    torch.save(theirs | {"decoder.weight": w["W_dec"].T}, tmp_path / "ae.pt")
    with pytest.raises(DataError, match="refused unread"):
        read_sae(tmp_path)
    x_hat = read_sae(tmp_path, pickled=True)(X).x_hat
    assert (x_hat - reference("standard", w, X)).abs().max() < 1e-4


class Bomb:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_hostile_pickle_runs_nothing(tmp_path: Path) -> None:
    torch.save({"encoder.weight": Bomb(tmp_path / "harm")}, tmp_path / "ae.pt")
    with pytest.raises(DataError, match="other things than weights"):
        read_sae(tmp_path / "ae.pt", pickled=True)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "activation",
    [srclib.ReLU(), srclib.TopK(3), srclib.BatchTopK(2.5), srclib.JumpReLU(threshold=0.2)],
    ids=str,
)
@pytest.mark.parametrize("select_by", ["rescaled", "raw"])
def test_what_is_written_computes_the_same(tmp_path: Path, activation: Any, select_by: Any) -> None:
    sae = srclib.SAE(D_IN, D_SAE, activation, seed=5, decoder_norm=0.7, select_by=select_by)
    with torch.no_grad():
        sae.b_enc += 0.1 * draw(7, D_SAE)
        sae.W_dec *= 1 + 0.5 * draw(8, D_SAE, 1).abs()
    sae.threshold.fill_(0.6)
    sae.eval()
    again = read_sae(write_saelens(sae, tmp_path / "out"))
    assert torch.equal(again.encode(X) != 0, sae.encode(X) != 0)
    assert (again(X).x_hat - sae(X).x_hat).abs().max() < 1e-6
    with pytest.raises(ParameterError, match="exists"):
        write_saelens(sae, tmp_path / "out")


def test_ours_is_read_as_well(tmp_path: Path) -> None:
    sae = srclib.SAE(D_IN, D_SAE, srclib.TopK(2))
    srclib.save_sae(sae, tmp_path / "own")
    assert torch.equal(srclib.read_sae(tmp_path / "own").W_dec, sae.W_dec)


def _nan(w: dict[str, Tensor]) -> dict[str, Tensor]:
    w["W_dec"][0, 0] = float("nan")
    return w


REFUSED = [
    ({"architecture": "temporal"}, lambda w: w, "architecture='temporal'"),
    ({"architecture": "topk"}, lambda w: w, "k=None"),
    ({"architecture": "topk", "k": 21}, lambda w: w, "k=21"),
    ({"d_in": D_SAE, "d_sae": D_IN}, lambda w: w, "It is transposed"),
    ({"d_in": "6"}, lambda w: w, "d_in='6'"),
    ({"normalize_activations": "layer_norm"}, lambda w: w, "normalize_activations='layer_norm'"),
    ({"normalize_activations": "expected_average_only_in"}, lambda w: w, "activation_scaler.json"),
    ({"activation_fn_str": "tanh-relu"}, lambda w: w, "activation_fn='tanh-relu'"),
    ({"finetuning_scaling_factor": True}, lambda w: w, "activation_fn='a scaling factor'"),
    ({"architecture": "batchtopk", "k": 4}, lambda w: w, "a threshold for BatchTopK"),
    ({}, _nan, "W_dec holds values that are not finite"),
    ({}, lambda w: {k: v for k, v in w.items() if k != "b_enc"}, "one named b_enc"),
    ({}, lambda w: w | {"b_enc": torch.zeros(D_SAE, dtype=torch.int64)}, "b_enc="),
]


@pytest.mark.parametrize(("cfg", "change", "named"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_is_wrong_is_named(tmp_path: Path, cfg: Any, change: Any, named: str) -> None:
    folder = saelens(tmp_path / "sae", change(weights("b_enc")), **cfg)
    with pytest.raises(DataError) as error:
        read_sae(folder)
    assert named in str(error.value) and "sae" in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no SAE of a known layout"):
        read_sae(tmp_path)
    (tmp_path / "cfg.json").write_text("[1")
    with pytest.raises(DataError, match="not JSON"):
        read_sae(tmp_path)
    folder = saelens(tmp_path / "sae", weights("b_enc"))
    (folder / "sae_weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(DataError, match="not a safetensors file"):
        read_sae(folder)
    (folder / "sae_weights.safetensors").unlink()
    with pytest.raises(DataError, match="missing"):
        read_sae(folder)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "params.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_enc.npy", b"\0" * 10_000_000)
    with pytest.raises(DataError, match="unpacks to more than"):
        read_sae(tmp_path)
    np.savez(tmp_path / "params.npz", W_enc=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="not an archive of arrays"):
        read_sae(tmp_path)
