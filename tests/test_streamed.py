"""Activations computed on demand: the same as harvested ones, whatever is asked first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lm import ids, tiny_lm
from torch import Tensor

from srclib import SAE, Run, TopK, TrainConfig, rng, sweep, train
from srclib.errors import DataError
from srclib.lm.harvest import harvest
from srclib.lm.streamed import Blocks, Streamed
from srclib.sources import SEED_STRIDE
from srclib.sources.rows import Unit

ROWS = ids(0, 12, 8)


def blocks(**keywords: Any) -> Blocks:
    return Blocks(tiny_lm("gemma2"), ROWS, block_rows=4, held_out=3, **keywords)


def source(**keywords: Any) -> Streamed:
    return blocks(**keywords).at(0)


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
        next(iter(other.blocks.model.parameters())).add_(1)
    assert made.identity != other.identity


def test_identity_covers_held_out_rows_their_shape_and_the_config() -> None:
    model, rows = tiny_lm("gemma2"), ROWS.clone()
    first = Blocks(model, rows, block_rows=4, held_out=3).at(0).identity
    rows[-1] = rows[-1].flip(0)
    assert not torch.equal(rows, ROWS)
    assert Blocks(model, rows, block_rows=4, held_out=3).at(0).identity != first
    wide = ROWS.reshape(2 * len(ROWS), -1)
    folded = Blocks(model, wide, block_rows=4, held_out=3).at(0)
    assert folded.identity["rows"] != first["rows"]
    again = Blocks(model, ROWS, block_rows=4, held_out=3).at(0)
    assert again.identity == first
    model.config.rms_norm_eps *= 2
    assert again.identity != first


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match=r"block_rows 13.*block_rows <= n_rows - held_out"):
        Blocks(tiny_lm("gemma2"), ROWS, block_rows=13)
    with pytest.raises(DataError, match="held_out=0"):
        Blocks(tiny_lm("gemma2"), ROWS, block_rows=4).at(0).batch(-1, 4)


def test_a_seed_permutes_inside_a_block_and_every_seed_reads_the_same_blocks() -> None:
    made = source()
    first, other = (made.batch(seed * SEED_STRIDE, 32) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert torch.equal(sorted_rows(first), sorted_rows(other))
    assert made.blocks.n_computed == 1


def test_several_places_come_from_one_pass_and_are_those_of_one_alone() -> None:
    together = blocks()
    below, above = together.at(0, "in"), together.at(1)
    forwards: list[int] = []
    handle = together.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    found = below.batch(0, 16), above.batch(0, 16)
    handle.remove()
    assert len(forwards) == 1
    for own, (layer, site) in zip(found, ((0, "in"), (1, "out")), strict=True):
        assert torch.equal(own, blocks().at(layer, site).batch(0, 16))


def test_a_block_computed_ahead_is_the_same_block() -> None:
    calm, ahead = source(), source(ahead=True)
    for step in range(5):
        assert torch.equal(calm.batch(step, 20), ahead.batch(step, 20))


def test_blocks_on_disk_are_read_again_and_damaged_ones_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    first = source(disk_bytes=10**9)
    x = first.batch(0, 64)
    again = source(disk_bytes=10**9)
    assert torch.equal(again.batch(0, 64), x) and again.blocks.n_computed == 0
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    mended = source(disk_bytes=10**9)
    assert torch.equal(mended.batch(0, 64), x) and mended.blocks.n_computed == 2
    bounded = source(disk_bytes=first.blocks.n_bytes)
    bounded.batch(0, 64)
    assert bounded.blocks.n_computed == 1  # the second block has no room


def test_runs_of_a_sweep_forward_every_token_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four seeds, two batch sizes, two layers: as many blocks as one run reads alone."""
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path))
    made = blocks()
    sites = {layer: made.at(layer) for layer in (0, 1)}
    runs = {
        (seed, layer, n): Run(
            SAE(made.at(0).d_in, 8, TopK(2), seed=seed),
            Unit(sites[layer]),
            TrainConfig(n_steps=192 // n, n_batch=n, lr=1e-3, seed=seed),
        )
        for seed in range(4)
        for layer in sites
        for n in (16, 24)
    }
    trained = sweep(runs, ("seed", "layer", "n"), workers=1)
    assert made.n_computed == 192 // made.n_tokens
    alone = blocks()
    sae = SAE(made.at(0).d_in, 8, TopK(2), seed=3)
    train(sae, Unit(alone.at(1)), TrainConfig(n_steps=8, n_batch=24, lr=1e-3, seed=3))
    assert torch.equal(sae.W_dec, trained[3, 1, 24].sae.W_dec)
