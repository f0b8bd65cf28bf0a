"""Runs a study on a named model for real: a tiny random one in hub layout, with its tokeniser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srclib.lm.models import LMConfig, new_model
from srclib.lm.train import train_lm
from srclib.store import files
from srclib.worlds import python_docs
from srclib.worlds.engine import pack


def save_tiny(folder: Path, family: str, texts: Sequence[str] = ()) -> None:
    """What a hub folder holds: configuration, safetensors, tokeniser; trained on texts if given."""
    tokenizer = python_docs.tokenizer(python_docs.prose(60_000), 300)
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 64}
    config = LMConfig(family, vocab_size=len(tokenizer), n_steps=40, lr=1e-2, **sizes)
    if texts:
        model = train_lm(config, pack(tokenizer(list(texts))["input_ids"], 64))
    else:
        model = new_model(config)
    model.config.bos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run(study: str, out: Path, **parameters: Any) -> dict[str, Any]:
    """Execute the notebook with plain papermill at smoke; the record it ends with."""
    command = [sys.executable, "-m", "papermill", f"notebooks/{study}.ipynb", str(out)]
    for name, value in {"profile": "smoke", **parameters}.items():
        command += ["-p", name, str(value)]
    done = subprocess.run(command, cwd=files.root(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    data = [o.get("data", {}) for cell in cells for o in cell.get("outputs", [])]
    (record,) = [d["application/json"] for d in data if "claims" in d.get("application/json", {})]
    return record
