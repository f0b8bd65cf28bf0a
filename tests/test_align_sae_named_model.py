"""The path for a named model, run for real: a tiny random GPT-2 in hub layout, its tokeniser."""

from __future__ import annotations

from pathlib import Path

from named_model import run

from srclib.lm.models import LMConfig, new_model
from srclib.worlds.people import ListSizes, draw_world

SMALL = {
    **{"n_known": 4, "n_other": 2, "list_sizes": [3, 3, 3, 2, 2, 2, 2], "lm_layers": 2},
    **{"lm_steps": 40, "qa_batch": 24, "bio_batch": 1, "sites": [0, 1, 2], "n_free": 60},
    **{"stage_1": 2, "stage_2": 4, "input_rms": 0, "n_swap": 6, "head": "vocabulary"},
}


def test_the_notebook_runs_on_a_model_from_a_folder(tmp_path: Path) -> None:
    tokenizer = draw_world(4, 2, ListSizes(3, 3, 3, 2, 2, 2, 2)).tokenizer()  # that of SMALL
    folder = tmp_path / "tiny gpt2"
    sizes = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 512}
    model = new_model(LMConfig("gpt2", vocab_size=len(tokenizer), **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    record = run("align_sae", tmp_path / "out.ipynb", model_name=folder, **SMALL)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert record["params"]["model_name"] == str(folder)
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    missing = {id for id, claim in claims.items() if not claim["measured"]}
    assert missing <= {"align.ctl.added", "align.ctl.causal"}  # too few swaps for these pairs
