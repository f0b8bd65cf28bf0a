"""The path for a named model, run for real: three tiny random Llamas in hub layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from named_model import run, save_tiny_series
from safetensors.torch import save_file
from tiny import draw
from torch import Tensor

SMALL = {"n_texts_sae": 40, "n_texts": 30, "layer": 1, "n_steps": 10, "min_texts": 2}


@pytest.fixture
def series(tmp_path: Path) -> dict[str, Any]:
    return save_tiny_series(tmp_path, 80) | SMALL


@pytest.mark.long
def test_the_notebook_runs_on_checkpoints_from_folders(
    tmp_path: Path, series: dict[str, Any]
) -> None:
    record = run("checkpoints", tmp_path / "out.ipynb", **series)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    assert claims["ckpt.recon.k"]["measured"]["largest K"] > 0  # ran on these models
    assert 0 <= claims["ckpt.lang.dip"]["measured"]["middle"] <= 1
    assert claims["ckpt.v2.order"]["measured"] is None  # needs the truth of our texts


def write_released(folder: Path, tensors: dict[str, Tensor]) -> None:
    folder.mkdir()
    config = {"model_type": "topk_sae", "d_in": 16, "num_latents": 48, "k": 3}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.long
def test_the_notebook_reads_released_saes_instead_of_training(
    tmp_path: Path, series: dict[str, Any]
) -> None:
    rows = torch.cat([torch.eye(16), -torch.eye(16), torch.eye(16).flip(0)])  # keeps 3 coordinates
    tensors = {"encoder.weight": rows, "encoder.bias": torch.zeros(48)}
    tensors |= {"decoder.weight": rows.T.contiguous(), "b_dec": torch.zeros(16)}
    for step in (0, 20, 40):
        write_released(tmp_path / f"sae-c{step}", tensors)
    options = series | {"released": tmp_path / "sae-c{step}", "d_sae": 48, "k": 3}
    record = run("checkpoints", tmp_path / "out.ipynb", **options)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert claims["ckpt.recon.k"]["measured"] is None  # one size only
    assert claims["ckpt.prior.topk_over_relu"]["measured"] is None  # no ReLU SAEs either
    assert 0 <= claims["ckpt.lang.dip"]["measured"]["middle"] <= 1


def test_released_saes_of_another_block_are_refused(tmp_path: Path, series: dict[str, Any]) -> None:
    shapes = {"encoder.weight": (48, 16), "encoder.bias": (48,)}
    shapes |= {"decoder.weight": (16, 48), "b_dec": (16,)}
    for step in (0, 20, 40):  # as little related to the activations as another block's
        tensors = {name: draw(step + i, *shape) for i, (name, shape) in enumerate(shapes.items())}
        write_released(tmp_path / f"sae-c{step}", tensors)
    options = series | {"released": tmp_path / "sae-c{step}", "d_sae": 48, "k": 3}
    with pytest.raises(AssertionError, match=r"released: the SAEs lose .* set layer"):
        run("checkpoints", tmp_path / "out.ipynb", **options)
