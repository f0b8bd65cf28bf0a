"""Activations computed on demand: the same as harvested ones, whatever is asked first."""

from __future__ import annotations

import pytest
import torch
from tiny_lm import ids, tiny_lm
from torch import Tensor

from srclib import SAE, TopK, TrainConfig, rng, train
from srclib.errors import DataError
from srclib.lm.harvest import harvest
from srclib.sources import Streamed

ROWS = ids(0, 12, 8)


def source(**keywords: int) -> Streamed:
    return Streamed(tiny_lm("gemma2"), ROWS, 0, block_rows=4, held_out=3, **keywords)


def sorted_rows(x: Tensor) -> Tensor:
    return x[x[:, 0].argsort()]


def test_one_epoch_serves_every_token_of_its_blocks_once() -> None:
    """Nine training rows are two blocks of four: the ninth waits for another epoch's order."""
    made = source()
    epoch = torch.cat([made.batch(step, 16) for step in range(4)])
    rows = torch.randperm(9, generator=rng.stream(0, "streamed", "epoch", 0))
    expected = harvest(tiny_lm("gemma2"), ROWS[rows[:8]], 0)[0].flatten(0, 1)
    torch.testing.assert_close(sorted_rows(epoch), sorted_rows(expected), rtol=1e-4, atol=1e-5)


def test_a_batch_depends_on_the_step_alone() -> None:
    first, second = source(), source()
    later = first.batch(7, 16)
    for step in (0, 3, 7):
        second.batch(step, 16)
    assert torch.equal(later, second.batch(7, 16))
    assert torch.equal(torch.cat([first.batch(0, 16), first.batch(1, 16)]), second.batch(0, 32))
    assert not torch.equal(later, source(seed=1).batch(7, 16))
    assert not torch.equal(first.batch(0, 32), first.batch(2, 32))  # another epoch, another order


def test_batches_longer_than_a_block_and_held_out_rows() -> None:
    made = source()
    assert made.batch(0, 100).shape == (100, made.d_in)
    held = harvest(tiny_lm("gemma2"), ROWS[9:], 0)[0].flatten(0, 1)  # [24, d_in]
    torch.testing.assert_close(made.batch(-1, 10), held[:10], rtol=1e-4, atol=1e-5)
    twice = made.batch(-2, 20)
    torch.testing.assert_close(twice, held[torch.arange(20, 40) % 24], rtol=1e-4, atol=1e-5)


def test_skipped_positions_are_never_served() -> None:
    made = source(skip=1)
    behind = harvest(tiny_lm("gemma2"), ROWS, 0)[0][:, 1:]  # [12, 7, d_in]
    held = behind[9:].flatten(0, 1)
    torch.testing.assert_close(made.batch(-1, 21), held, rtol=1e-4, atol=1e-5)
    rows = torch.randperm(9, generator=rng.stream(0, "streamed", "epoch", 0))
    epoch, expected = made.batch(0, 56), behind[rows[:8]].flatten(0, 1)
    torch.testing.assert_close(sorted_rows(epoch), sorted_rows(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="skip=8"):
        source(skip=8)


def test_an_sae_trains_on_it_and_its_identity_names_the_model() -> None:
    made = source()
    sae = SAE(made.d_in, 8, TopK(2))
    train(sae, made, TrainConfig(n_steps=4, n_batch=16, lr=1e-3, eval_every=2))
    other = source()
    assert made.identity == other.identity
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1)
    assert made.identity != other.identity


def test_identity_covers_held_out_rows_their_shape_and_the_config() -> None:
    model, rows = tiny_lm("gemma2"), ROWS.clone()
    first = Streamed(model, rows, 0, block_rows=4, held_out=3).identity
    rows[-1] = rows[-1].flip(0)
    assert not torch.equal(rows, ROWS)
    assert Streamed(model, rows, 0, block_rows=4, held_out=3).identity != first
    folded = Streamed(model, ROWS.reshape(2 * len(ROWS), -1), 0, block_rows=4, held_out=3)
    assert folded.identity["rows"] != first["rows"]
    again = Streamed(model, ROWS, 0, block_rows=4, held_out=3)
    assert again.identity == first
    model.config.rms_norm_eps *= 2
    assert again.identity != first


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"block_rows 13.*block_rows <= n_rows - held_out"):
        Streamed(tiny_lm("gemma2"), ROWS, 0, block_rows=13)
    with pytest.raises(DataError, match="held_out=0"):
        Streamed(tiny_lm("gemma2"), ROWS, 0, block_rows=4).batch(-1, 4)
