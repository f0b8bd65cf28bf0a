"""An estimate counts what a run then does, and does next to nothing of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import estimates
import pandas as pd
import pytest
import torch
from conftest import command
from tiny_lm import ids, tiny_lm
from torch.utils.flop_counter import FlopCounterMode

from srclib import SAE, BatchTopK, ReLU, Run, TrainConfig, sweep, train
from srclib.engines import estimate
from srclib.errors import ParameterError, SuiteError
from srclib.lm.harvest import harvest
from srclib.lm.models import LMConfig
from srclib.lm.streamed import Blocks
from srclib.lm.train import train_lms
from srclib.sources import ToyFeatures
from srclib.store import files
from srclib.suite import costs, params
from srclib.suite.ledger import Ledger
from srclib.suite.plan import Job, plan

TOY = ToyFeatures(12, 16, 0.2)
CFG = TrainConfig(n_steps=90, n_batch=32, lr=1e-3, log_every=0)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRCLIB_BUILD", str(tmp_path / "store"))
    return tmp_path


def runs(n: int = 4) -> dict[int, Run]:
    return {s: Run(SAE(16, 12, BatchTopK(2), seed=s), TOY, CFG) for s in range(n)}


def test_flop_of_a_training_are_those_that_torch_counts_in_it() -> None:
    def trained() -> None:
        train(SAE(16, 12, ReLU()), ToyFeatures(12, 16, 0.2), CFG)

    with FlopCounterMode(display=False) as counter:
        trained()
    with estimate.counting() as counted:
        trained()
    (charge,) = counted.charges
    assert charge.flop == counter.get_total_flops() > 0
    assert (charge.tokens, charge.seconds > 0) == (90 * 32, True)


def test_of_equal_kinds_one_is_timed_and_none_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    batch = ToyFeatures.batch
    monkeypatch.setattr(ToyFeatures, "batch", lambda *a: read.append(a[1]) or batch(*a))
    with estimate.counting() as counted:
        sweep(runs(), "seed", workers=2)
        sweep(runs(), "seed", workers=2)  # equal ones are not asked for twice
    n_tried = estimate.WARM_UP + estimate.STEPS
    late = range(89 - n_tried, 89)
    assert [step for step in read if step >= 0] == [*range(n_tried), *late]
    assert sum(each.tokens for each in counted.charges) == 2 * 90 * 32  # two chunks of two SAEs
    assert len({each.seconds for each in counted.charges}) == 1


def test_what_the_store_holds_is_not_counted_again_and_nothing_is_left(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sweep(runs(2), "seed", workers=1)
    before = sorted((store / "store").rglob("*"))
    monkeypatch.setenv("SRCLIB_BEHIND", str(store / "store"))
    monkeypatch.setenv("SRCLIB_BUILD", str(store / "thrown away"))
    with estimate.counting() as counted:
        found = sweep(runs(3), "seed", workers=1)
    assert counted.stored == {run.key for run in made.values()}
    assert sum(each.tokens for each in counted.charges) == 90 * 32
    assert torch.equal(found[0].sae.W_dec, made[0].sae.W_dec)
    assert sorted((store / "store").rglob("*")) == before


def test_a_harvest_is_counted_once_for_all_that_read_it() -> None:
    def read(blocks: Blocks) -> None:
        source = [blocks.at(0), blocks.at(1)]
        made = {s: Run(SAE(16, 12, BatchTopK(2), seed=s), source[s], CFG) for s in (0, 1)}
        sweep(made, "layer", workers=1)

    with estimate.counting() as counted:
        read(Blocks(tiny_lm("gemma2"), ids(0, 12, 8), block_rows=4))
        ((n_tokens, rate),) = estimate.harvested()
    assert len(counted.charges) == 2
    blocks = Blocks(tiny_lm("gemma2"), ids(0, 12, 8), block_rows=4)
    files.empty(files.build())
    with FlopCounterMode(display=False) as counter:
        read(blocks)
    assert n_tokens == blocks.n_computed * blocks.block_rows * 8 == 90 * 32
    of_saes = sum(each.flop for each in counted.charges)
    assert n_tokens * rate.flop + of_saes == pytest.approx(counter.get_total_flops())


def test_slow_passes_of_equal_shape_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_lm("gemma2"), ids(0, 12, 8)
    monkeypatch.setattr(estimate, "SLOW", 0.0)
    with estimate.counting() as counted:
        harvest(model, rows, 1, batch_tokens=16)
    assert sum(n for n, _ in counted.passes) == 10 * 8  # of twelve rows, two were forwarded


def test_language_models_are_counted_with_their_checkpoints() -> None:
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_mlp": 16, "context": 8}
    cfg = LMConfig(vocab_size=30, n_steps=200, n_batch=4, checkpoint_steps=(0, 100, 200), **sizes)
    with estimate.counting() as counted:
        (found,) = train_lms([cfg], ids(0, 40, 8))
    assert [(c.what, c.tokens) for c in counted.charges] == [("language models", 200 * 4 * 8)]
    assert all((folder / "config.json").is_file() for folder in found.values())


def test_hours_are_those_of_the_longest_worker_or_of_a_stated_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(costs.os, "cpu_count", lambda: 8)
    charge = estimate.Charge("SAEs", 1, 6e12, 5.0, 0, 0)
    counted = estimate.Counted(groups=[(4, [charge] * 8), (4, [charge]), (1, [charge] * 2)])
    assert costs._trainings(counted, None) == 10 + 5 + 10
    assert costs._trainings(counted, 2.0) == 6 + 3 + 6
    monkeypatch.setattr(costs.os, "cpu_count", lambda: 2)
    assert costs._trainings(counted, None) == 20 + 5 + 10, "four workers on two cores"
    with pytest.raises(ParameterError, match="--peak"):
        costs.show("matrix", "smoke", {}, -1.0)


def test_a_check_of_what_was_trained_stops_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(job: Job) -> costs.Failures:
        checked = Ledger(
            job.study, params.load_spec(job.study).resolve({"profile": job.profile.name})
        )
        checked.require("gain over the unigram's loss", pd.Series([-1.0]), above=0)
        return []

    monkeypatch.setattr(costs, "_cells", cells)
    costs.show("gba_lm", "laptop", {}, None)
    with pytest.raises(SuiteError, match="gain over the unigram's loss"):
        cells(plan("gba_lm", "laptop", {}))


UNITS = {"s": 1, "min": 60, "h": 3600}


@pytest.mark.scale
@pytest.mark.parametrize("study", ["matrix", "l0", "gba"])
def test_an_estimate_asks_for_what_the_run_then_stores(store: Path, study: str) -> None:
    def srclib(*options: str) -> str:
        started = command(files.root(), "run", study, "--profile", "smoke", *options)
        done = subprocess.run(**started, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    before, _, after = srclib("--estimate"), srclib(), srclib("--estimate")
    folder = files.build() / study / "smoke"
    rows = (folder / "saes.jsonl").read_text(encoding="utf-8").splitlines()
    n_saes = len({json.loads(row)["key"] for row in rows})
    assert "stored already: 0 results" in before and "    SAEs: " in before
    assert f"stored already: {n_saes} results" in after and "    SAEs: " not in after

    number, unit = re.findall(r"in all: ([0-9.]+) (s|min|h);", before)[0]
    estimated, measured = float(number) * UNITS[unit], estimates.measured(folder)
    print(f"{study} at smoke: {estimated:.0f} s estimated, {measured:.0f} s measured in its cells,")
    print(f"factor {estimated / measured:.2f}")  # printed, not judged: other work slows either
