"""Activations that a user brings: every row once, no row changed, no file that could run."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from srclib import rng
from srclib.errors import DataError, ParameterError
from srclib.sources import Centred, Rows, Scaled, Unit, unit


def numbered(n_rows: int, d_in: int = 2) -> Tensor:
    """Row i holds i: a row says where it comes from."""
    return torch.arange(n_rows).float().unsqueeze(1).repeat(1, d_in)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 5), st.integers(1, 9), st.integers(0, 99))
def test_every_epoch_visits_every_training_row_once(
    n: int, held: int, batch: int, seed: int
) -> None:
    source = Rows(numbered(n + held), held_out=held, seed=seed)
    n_batches = 3 * n  # n * batch * 3 rows are 3 * batch whole epochs
    served = torch.cat([source.batch(step, batch)[:, 0] for step in range(n_batches)])
    aside = set(
        torch.cat(
            [source.batch(-1 - i, batch)[:, 0] for i in range(max(held, 0))] or [torch.empty(0)]
        ).tolist()
    )
    for epoch in served.split(n):
        assert len(set(epoch.tolist())) == n
    assert aside.isdisjoint(served.tolist()) and len(aside) == held


def test_epochs_come_in_orders_of_their_own() -> None:
    source = Rows(numbered(30))
    epochs = [tuple(source.batch(step, 30)[:, 0].tolist()) for step in range(3)]
    assert len(set(epochs)) == 3
    assert epochs[0] != tuple(Rows(numbered(30), seed=1).batch(0, 30)[:, 0].tolist())


def test_a_step_may_be_any_whole_number() -> None:
    """The stream of seed s starts at step s 2^32, so 64 bits do not hold every row's number."""
    source, step = Rows(numbered(30)), 3 * 2**70  # a multiple of the 3 steps of an epoch
    served = [source.batch(step + i, 10)[:, 0] for i in range(3)]
    assert sorted(torch.cat(served).tolist()) == list(range(30))


def test_a_single_epoch_says_how_much_there_is() -> None:
    assert Rows(numbered(10), held_out=4, repeat=False).n_samples == 6
    assert Rows(numbered(10), held_out=4).n_samples is None


def test_the_callers_tensor_is_neither_changed_nor_shared() -> None:
    x = numbered(10)
    copy, source = x.clone(), Rows(x)
    served = source.batch(0, 10)
    served.mul_(-1)
    assert torch.equal(x, copy)
    x.fill_(-7)  # the caller goes on
    assert bool((source.batch(0, 10) >= 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_become_float32(dtype: torch.dtype) -> None:
    source = Rows(numbered(10).to(dtype))
    assert source.batch(0, 4).dtype == torch.float32
    assert source.identity == Rows(numbered(10)).identity


def test_identity_follows_the_content_and_the_settings() -> None:
    x, other = numbered(10), numbered(10)
    other[3, 1] += 1e-3
    made = [Rows(x), Rows(other), Rows(x, held_out=1), Rows(x, seed=1), Rows(x, repeat=False)]
    made += [Scaled(Rows(x), 2.0), Scaled(Rows(x), 3.0)]  # type: ignore[list-item]
    assert len({repr(source.identity) for source in made}) == len(made)


def test_rows_from_files(tmp_path: Path) -> None:
    x = torch.randn(10, 3)
    save_file({"acts": x}, tmp_path / "x.safetensors")
    np.save(tmp_path / "x.npy", x.numpy())
    for name in ("x.safetensors", "x.npy"):
        assert torch.equal(Rows(tmp_path / name).batch(2, 4), Rows(x).batch(2, 4))
        assert Rows(str(tmp_path / name)).identity == Rows(x).identity


class Payload:
    """Unpickling this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x.pt", "x.pkl", "x.bin", "x.npz", "x.npy", "x.safetensors", "x"])
def test_pickles_are_refused_unread(name: str, tmp_path: Path) -> None:
    file, target = tmp_path / name, tmp_path / "ran"
    if name.endswith(".npy"):
        with open(file, "wb") as handle:
            np.save(handle, np.array([Payload(target)], dtype=object), allow_pickle=True)
    else:
        file.write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(DataError, match=f"{name}: (refused unread|not a )"):
        Rows(file)
    assert not target.exists()


def test_files_that_are_not_one_matrix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npy: no such file\. Give a \.safetensors or \.npy"):
        Rows(tmp_path / "x.npy")
    save_file({"a": numbered(3), "b": numbered(4)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="holds a, b; allowed is exactly one tensor"):
        Rows(tmp_path / "x.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_row_that_is_not_finite_is_named(bad: float) -> None:
    x = numbered(10)
    x[6, 1] = x[8, 0] = bad
    with pytest.raises(DataError, match=r"x: row 6 holds NaN or infinity \(2 such rows\).*drop"):
        Rows(x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(4), r"x\.shape=\(4,\): allowed is \[n_rows, d_in\]"),
        (torch.zeros(2, 3, 4), r"x\.shape=\(2, 3, 4\).*Flatten"),
        (torch.zeros(0, 4), r"x\.shape=\(0, 4\)"),
        (torch.zeros(4, 2, dtype=torch.int64), r"x\.dtype=torch\.int64.*a float type"),
    ],
)
def test_tensors_that_are_no_rows(x: Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Rows(x)


@pytest.mark.parametrize("held_out", [-1, 10])
def test_some_rows_must_be_left_for_training(held_out: int) -> None:
    with pytest.raises(ParameterError, match=r"held_out=.*0 <= held_out < 10"):
        Rows(numbered(10), held_out=held_out)


def test_evaluation_needs_held_out_rows() -> None:
    with pytest.raises(DataError, match="held_out=0: allowed is at least 1 row for evaluation"):
        Rows(numbered(10)).batch(-1, 4)


def test_scaled_is_the_same_stream_in_other_units() -> None:
    rows = Rows(numbered(10), held_out=2, repeat=False)
    scaled = Scaled(rows, 0.5)
    for step in (-1, 0, 3):
        assert torch.equal(scaled.batch(step, 4), rows.batch(step, 4) / 2)
    assert (scaled.d_in, scaled.n_samples) == (rows.d_in, rows.n_samples)


def test_centred_is_the_same_stream_from_another_origin() -> None:
    rows = Rows(numbered(10), held_out=2, repeat=False)
    mean = rows.batch(-1, 2).mean(dim=0)
    centred = Centred(rows, mean)
    assert torch.equal(centred.batch(3, 2) + mean, rows.batch(3, 2))
    torch.testing.assert_close(centred.batch(-1, 2).mean(dim=0), torch.zeros_like(mean))
    assert (centred.d_in, centred.n_samples) == (rows.d_in, rows.n_samples)
    assert centred.identity != Centred(rows, 2 * mean).identity


def test_a_mean_of_another_width_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"mean\.shape=.*d_in="):
        Centred(Rows(numbered(10)), torch.zeros(99))
    with pytest.raises(ParameterError, match="finite"):
        Centred(Rows(numbered(10)), torch.full_like(numbered(10)[0], math.nan))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_that_are_no_scale(factor: float) -> None:
    with pytest.raises(ParameterError, match=r"factor=.*a finite number > 0"):
        Scaled(Rows(numbered(10)), factor)


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


def test_labels_of_another_type_or_shape_are_another_source() -> None:
    x, labels = torch.zeros(9, 4), torch.arange(18, dtype=torch.int32).view(9, 2)
    same_bytes = [labels, labels.view(torch.int64).view(9), labels.view(9, 1, 2)]
    keys = {str(Rows(x, labels=each).identity) for each in same_bytes}
    assert len(keys) == 3
