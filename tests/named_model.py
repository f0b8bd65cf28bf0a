"""Runs a study on a named model for real: a tiny one in hub layout, with its tokeniser."""

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
from srclib.worlds.bilingual import BilingualWorld
from srclib.worlds.engine import pack
from srclib.worlds.people import ListSizes, draw_world


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


def save_tiny_series(folder: Path, n_texts: int = 400) -> dict[str, Any]:
    """Three checkpoints of a random Llama and a corpus, as parameters of `checkpoints`."""
    world, corpus = BilingualWorld(), folder / "corpus"
    corpus.mkdir()
    written = world.documents(n_texts, "corpus", length=64)["text"]
    (corpus / "wiki.txt").write_text("\n".join([*written, "too short"]), encoding="utf-8")
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 65}
    for step in (0, 20, 40):
        config = LMConfig("llama", vocab_size=len(world.words), seed=step, **sizes)
        made = folder / "tiny llama" / f"iter_{step:07d}"
        new_model(config).save_pretrained(made)
        world.tokenizer().save_pretrained(made)
    return {"model": folder / "tiny llama" / "iter_{step:07d}", "corpus": corpus}


PEOPLE = {
    **{"n_known": 4, "n_other": 2, "list_sizes": [3, 3, 3, 2, 2, 2, 2], "lm_layers": 2},
    **{"lm_steps": 40, "qa_batch": 24, "bio_batch": 1, "sites": [0, 1, 2], "n_free": 60},
    **{"stage_1": 2, "stage_2": 4, "input_rms": 0, "n_swap": 6, "head": "vocabulary"},
}


def save_tiny_people(folder: Path) -> dict[str, Any]:
    """A random GPT-2 with the words of a few people, as parameters of `align_sae`."""
    sizes = ListSizes(*PEOPLE["list_sizes"])
    tokenizer = draw_world(PEOPLE["n_known"], PEOPLE["n_other"], sizes).tokenizer()
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 2, "d_mlp": 64, "context": 512}
    made = folder / "tiny gpt2"
    new_model(LMConfig("gpt2", vocab_size=len(tokenizer), **shape)).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return {"model_name": made, **PEOPLE}


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
