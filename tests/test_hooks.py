"""Language models as sources: what a model must have learnt, and what a run may claim."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from datasets import Dataset
from named_model import save_tiny

from srclib.errors import ParameterError, SuiteError
from srclib.lm.hooks import check_learnt, named_model

TEXT = ["the function returns a list of all the values it has seen so far"] * 200


@pytest.mark.parametrize("loss", [2.0, 3.0, math.nan, math.inf])
def test_a_model_that_learnt_nothing_is_refused_by_name(loss: float) -> None:
    check_learnt("mine", 1.9, 2.0)
    with pytest.raises(SuiteError, match=r"held-out loss of mine.*below 2\.000"):
        check_learnt("mine", loss, 2.0)


def test_an_untrained_model_stops_before_any_activation_is_read(tmp_path: Path) -> None:
    save_tiny(tmp_path / "lm", "qwen2")
    Dataset.from_dict({"text": TEXT}).save_to_disk(tmp_path / "wiki")
    with pytest.raises(SuiteError, match=r"qwen2, 2 blocks of 16, seed 0, on wiki"):
        named_model(str(tmp_path / "lm"), [str(tmp_path / "wiki")], [0], [0], 5000)


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
