"""The path for a named model, run for real: three tiny random Llamas in hub layout."""

from __future__ import annotations

from pathlib import Path

from named_model import run

from srclib.lm.models import LMConfig, new_model
from srclib.worlds.bilingual import BilingualWorld

SMALL = {"n_texts_sae": 40, "n_texts": 30, "layer": 1, "n_steps": 10, "min_texts": 2}


def test_the_notebook_runs_on_checkpoints_from_folders(tmp_path: Path) -> None:
    world = BilingualWorld()
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = world.documents(80, "corpus", length=64)["text"]
    (corpus / "wiki.txt").write_text("\n".join([*texts, "too short"]), encoding="utf-8")
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 65}
    for step in (0, 20, 40):
        folder = tmp_path / "tiny llama" / f"iter_{step:07d}"
        config = LMConfig("llama", vocab_size=len(world.words), seed=step, **sizes)
        new_model(config).save_pretrained(folder)
        world.tokenizer().save_pretrained(folder)

    template = tmp_path / "tiny llama" / "iter_{step:07d}"
    record = run("checkpoints", tmp_path / "out.ipynb", model=template, corpus=corpus, **SMALL)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    assert claims["ckpt.recon.k"]["measured"]["largest K"] > 0  # ran on these models
    assert 0 <= claims["ckpt.lang.dip"]["measured"]["middle"] <= 1
    assert claims["ckpt.v2.order"]["measured"] is None  # needs the truth of our texts
