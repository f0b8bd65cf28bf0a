"""The path for a named model, run for real: a tiny random GPT-2 in hub layout, its tokeniser."""

from __future__ import annotations

from pathlib import Path

from named_model import run, save_tiny_people


def test_the_notebook_runs_on_a_model_from_a_folder(tmp_path: Path) -> None:
    given = save_tiny_people(tmp_path)
    record = run("align_sae", tmp_path / "out.ipynb", **given)
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert record["params"]["model_name"] == str(given["model_name"])
    assert {claim["verdict"] for claim in claims.values()} == {"not assessed"}  # smoke
    missing = {id for id, claim in claims.items() if not claim["measured"]}
    assert missing <= {"align.ctl.added", "align.ctl.causal"}  # too few swaps for these pairs
