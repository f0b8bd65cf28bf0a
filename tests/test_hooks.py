"""Language models as sources: what a run may claim."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset
from named_model import save_tiny

from srclib.errors import ParameterError
from srclib.lm.hooks import named_model

TEXT = ["the function returns a list of all the values it has seen so far"] * 200


def test_evidence_is_what_was_loaded(tmp_path: Path) -> None:
    save_tiny(tmp_path / "lm", "qwen2", TEXT)
    Dataset.from_dict({"text": TEXT}).save_to_disk(tmp_path / "wiki")
    given = str(tmp_path / "lm"), [str(tmp_path / "wiki")]
    hooks = named_model(*given, [0], [0], 5000, read=77)
    assert hooks is not None
    n_rows = hooks.n_tokens["wiki"] // 64
    available = (n_rows - max(1, n_rows // 16)) * 63  # without BOS and what is held out
    facts = {"lm": "qwen2, 2 blocks of 16", "corpus": ["wiki"]}
    assert hooks.evidence == facts | {"read": 77, "available": available}
    assert all(hooks.losses[key] < hooks.unigram[key] for key in hooks.losses)
    with pytest.raises(ParameterError, match="lm_seeds"):
        named_model(*given, [0, 1], [0], 5000)
