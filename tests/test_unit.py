"""Rows of norm 1: a source like any other."""

from __future__ import annotations

import pytest
import torch

from srclib import rng
from srclib.errors import DataError
from srclib.sources import Rows, Unit, unit


def test_rows_have_norm_one_and_their_direction() -> None:
    x = 7 * rng.normals(0, "x", shape=(32, 5))
    source = Unit(Rows(x))
    batch, raw = source.batch(3, 8), source.source.batch(3, 8)
    torch.testing.assert_close(batch.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(batch * raw.norm(dim=1, keepdim=True), raw)
    assert source.d_in == 5 and source.n_samples is None
    assert source.identity["of"] == source.source.identity != source.identity


def test_zero_has_no_direction() -> None:
    with pytest.raises(DataError, match="1 vectors are 0"):
        unit(torch.eye(3)[[0, 1]] * torch.tensor([[1.0], [0.0]]))
