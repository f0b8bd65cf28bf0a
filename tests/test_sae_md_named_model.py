"""The path for a named model, run for real: a tiny random Gemma-2 in hub layout, its tokeniser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from srclib import store
from srclib.lm.models import LMConfig, new_model
from srclib.worlds import python_docs

SMALL = {"context": 32, "layer": 0, "other_layer": 1, "n_rows": 40, "n_test_rows": 8, "n_steps": 50}


def test_the_notebook_runs_on_a_model_from_a_folder(tmp_path: Path) -> None:
    tokenizer = python_docs.tokenizer(python_docs.prose(60_000), 300)
    folder, out = tmp_path / "tiny gemma", tmp_path / "out.ipynb"
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 32}
    model = new_model(LMConfig("gemma2", vocab_size=len(tokenizer), **sizes))
    model.config.bos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    command = [sys.executable, "-m", "papermill", "notebooks/sae_md.ipynb", str(out)]
    for name, value in {"profile": "smoke", "model_name": folder, **SMALL}.items():
        command += ["-p", name, str(value)]
    run = subprocess.run(command, cwd=store.root(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]

    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    data = [o.get("data", {}) for cell in cells for o in cell.get("outputs", [])]
    (record,) = [d["application/json"] for d in data if "claims" in d.get("application/json", {})]
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert record["params"]["model_name"] == str(folder)
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    assert claims["md.stab.md_high"]["measured"]["md cos_dec"] > 0  # ran on this model
    assert not claims["md.quality.ravel"]["measured"]  # needs the world's truth
