"""The `paper` path of the studies on language models, with everything but the size."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset
from named_model import run, save_tiny

SMALL = {"context": 32, "layer": 0, "other_layer": 1, "n_rows": 40, "n_test_rows": 8, "n_steps": 50}


@pytest.mark.long
def test_sae_md_runs_on_gemma_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny gemma"
    save_tiny(folder, "gemma2")
    record = run("sae_md", tmp_path / "out.ipynb", model_name=folder, **SMALL)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert record["params"]["model_name"] == str(folder)
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    assert claims["md.stab.md_high"]["measured"]["md cos_dec"] > 0  # ran on this model
    assert not claims["md.quality.ravel"]["measured"]  # needs the world's truth


@pytest.mark.long
@pytest.mark.parametrize("family", ["qwen2"])
def test_gba_runs_on_a_named_model_and_two_corpora(tmp_path: Path, family: str) -> None:
    corpora, texts = [], {"wiki": "the function returns a list", "github": "def f(x): return x"}
    lines = {name: [f"{text} {i}" * 9 for i in range(300)] for name, text in texts.items()}
    for name, documents in lines.items():
        Dataset.from_dict({"text": documents}).save_to_disk(tmp_path / name)
        corpora.append(str(tmp_path / name))
    folder = tmp_path / f"tiny {family}"
    save_tiny(folder, family, [each for documents in lines.values() for each in documents])
    given = {"model_name": folder, "corpora": corpora, "layers": [0, 1], "n_steps": 20}
    record = run("gba_lm", tmp_path / "out.ipynb", **given)
    claims = {claim["id"]: claim for claim in record["claims"]}
    alive = claims["gba.llm.alive"]
    assert 0 < alive["measured"]["GBA"] <= 1
    assert alive["verdict"] == "not assessed"  # smoke
    assert not claims["gba.saebench.ev"]["measured"]  # needs the world's truth


@pytest.mark.parametrize("family", ["llama"])
def test_l0_lm_runs_on_a_named_model(tmp_path: Path, family: str) -> None:
    folder = tmp_path / f"tiny {family}"
    save_tiny(folder, family)
    given = {"model_name": folder, "layer": 0, "other_layers": [1], "context": 32, "n_rows": 60}
    record = run("l0_lm", tmp_path / "out.ipynb", lm_seeds=[0, 1], **given)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert record["evidence"]["lm"] == f"{family}, 2 blocks of 16"
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    measured = claims["l0.llm.elbow"]["measured"]
    assert claims["l0.llm.elbow"]["n_seeds"] == 2 and measured["least"] > 0  # of its SAEs
    assert measured["raw"] is None  # nothing to probe in a text without its truth
