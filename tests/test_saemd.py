"""What SAE-MD compares: an MLP's part of its block, pairs of SAEs, a subject and its scores."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import CFG, TOY, draw, make
from torch import Tensor

from srclib.activations import ReLU
from srclib.errors import DataError
from srclib.evals.bench import Bench
from srclib.lm.models import FAMILIES, LMConfig, new_model
from srclib.lm.sites import mlp_pass
from srclib.lm.subject import Subject, named, own
from srclib.methods.mirror import mlp_output_weights
from srclib.methods.saemd import (
    agreement,
    f1_with,
    fit,
    matched_gap,
    meaning,
    mlp_share,
    modes,
    pair,
    still,
    usage,
)
from srclib.runs.run import Run
from srclib.runs.tables import tidy
from srclib.sae import SAE
from srclib.sources.held_out import HeldOut
from srclib.training.trainer import train
from srclib.worlds.text import TextWorld

SIZES: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 32}


def a_run(sae: SAE, x: Tensor | None = None) -> Run:
    return Run(sae, HeldOut(TOY, draw(1, 50, 8) if x is None else x), CFG)


# --- the MLP's term -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_is_its_stream_and_the_term_that_its_mlp_writes(family: str) -> None:
    model = new_model(LMConfig(family, vocab_size=50, **SIZES)).double()
    seen = mlp_pass(model, 1, torch.arange(40).view(2, 20))
    assert torch.allclose(seen.stream + seen.term, seen.out)
    U, bias = mlp_output_weights(model, 1)
    written = seen.neurons @ U.T.double() + (0 if bias is None else bias.double())
    assert torch.allclose(written, seen.term) == (family != "gemma2")  # a norm stands behind it
    share = mlp_share(model, 1, torch.arange(40).view(2, 20))
    assert share["share"] > 0 and share["residual"] > 0 and -1 <= share["cosine"] <= 1


def test_no_hook_is_left_behind() -> None:
    model = new_model(LMConfig("gemma2", vocab_size=50, **SIZES))
    with pytest.raises(IndexError):
        mlp_pass(model, 1, torch.tensor([[50]]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# --- pairs --------------------------------------------------------------------------------------


def test_an_sae_shares_all_latents_with_itself_and_dead_ones_do_not_count() -> None:
    run = a_run(make(ReLU()))
    row = agreement(run, run)
    assert row["shared"] == row["all"] == row["equal"] == 1
    assert row["agree"] == pytest.approx(1) and math.isnan(row["disagree"])
    silenced = a_run(make(ReLU()))
    with torch.no_grad():
        silenced.sae.b_enc[2] = -100
    assert pair(silenced, run).both.tolist() == [i != 2 for i in range(6)]
    assert usage(silenced).rate[2] == 0 and fit(silenced)["alive"] == 5 / 6
    acts = silenced.sae.encode(draw(1, 50, 8))
    assert usage(silenced).l0 == pytest.approx(float(acts.count_nonzero() / 50))


def with_cosines(*cosines: float) -> tuple[Run, Run]:
    """Two runs of latents in one plane each, whose matched rows have these cosines."""
    n = len(cosines)
    a, b = torch.zeros(2, n, 8), torch.zeros(2, n, 8)
    for i, cosine in enumerate(cosines):
        a[:, i, 2 * i] = 1
        b[:, i, 2 * i], b[:, i, 2 * i + 1] = cosine, math.sqrt(1 - cosine**2)
    runs = [a_run(make(ReLU(), d_sae=n), torch.eye(8)) for _ in range(2)]
    with torch.no_grad():
        for run, rows in zip(runs, (a[0], b[0]), strict=True):
            run.sae.W_dec.copy_(rows)
            run.sae.W_enc.copy_(rows.T)
    return runs[0], runs[1]


def test_two_groups_are_two_modes_and_one_is_not() -> None:
    found = modes(*with_cosines(0.25, 0.2, 0.9, 0.95), 0.2)
    assert found == {"high": 0.5, "low": 0.5, "valley": 0.0}
    assert modes(*with_cosines(0.5, 0.5, 0.9, 0.95), 0.2)["valley"] == 1e3


def test_modes_of_all_latents_count_the_dead() -> None:
    a, b = with_cosines(0.2, 0.9)
    with torch.no_grad():
        a.sae.b_enc[1] = -100
    assert modes(a, b, 0.2)["high"] == 0 and modes(a, b, 0.2, dead_too=True)["high"] == 0.5


def test_a_curve_that_is_lifted_by_a_constant_has_that_gap() -> None:
    a = [(0.1, 1.5), (0.9, 2.5), (0.5, 2.0)]
    b = [(0.0, 0.125 + 0.25), (1.0, 1.625)]  # half below, at every x
    assert matched_gap(a, b) == pytest.approx((1, 1))
    assert all(map(math.isnan, matched_gap(a, [(0.95, 0.0), (1.0, 1.0)])))


def test_a_gap_that_changes_its_sign_is_told_from_its_mean() -> None:
    rises, flat = [(0.0, -1.0), (1.0, 1.0)], [(0.0, 0.0), (1.0, 0.0)]
    assert matched_gap(rises, flat) == pytest.approx((0, -1))
    assert matched_gap(rises, flat, below=0.5).mean == pytest.approx(-0.5)
    assert math.isnan(matched_gap(rises, flat, below=0.0).mean)


def test_a_latent_that_fires_with_a_predicate_means_it() -> None:
    truth = torch.eye(3, dtype=torch.bool)
    x = torch.cat([torch.eye(3), torch.zeros(3, 5)], dim=1)
    run = a_run(make(ReLU(), d_sae=3), x)
    with torch.no_grad():
        run.sae.W_enc.copy_(x.T)
        run.sae.W_dec.copy_(x)
    assert torch.equal(f1_with(run, x, truth), torch.eye(3))
    row = meaning(run, run, x, truth)
    assert row["found either"] == row["found both"] == row["aligned"] == 1 and row["missed"] == 0
    assert row["rate aligned"] == pytest.approx(1 / 3)
    assert "f1 shared" not in row  # all are
    assert meaning(run, run, x, truth[:, :0]) == {}


def test_what_stands_still_is_told_by_arm_and_as_nothing_where_nothing_ran() -> None:
    seen = {"md": {"alive": 0.25, "stayed": 0.5}, "std": {"alive": 1.0, "stayed": 0.0}}
    table = tidy({("a", arm): row for arm, row in seen.items()}, ("lm", "arm"))
    assert still(table).loc[("a", "md")].to_dict() == {"dead": 0.75, "unmoved": 0.5}
    assert still(table, ["md"], " late").loc["a"].to_dict() == {
        "dead md late": 0.75,
        "unmoved md late": 0.5,
    }
    assert not len(still(table[:0], ["md"])) and "dead md" in still(table[:0], ["md"])


# --- sources and subjects -----------------------------------------------------------------------


def test_a_source_with_rows_held_out_trains_as_before_and_evaluates_on_other_rows() -> None:
    test = draw(3, 5, 8)
    source = HeldOut(TOY, test)
    assert torch.equal(source.batch(4, 7), TOY.batch(4, 7))
    assert torch.equal(source.batch(-1, 3), test[:3])
    assert torch.equal(source.batch(-2, 3), test[[3, 4, 0]])
    assert source.identity != HeldOut(TOY, -test).identity
    plain, other = make(ReLU()), make(ReLU())
    train(plain, TOY, CFG)
    train(other, source, CFG)
    assert torch.equal(plain.W_dec, other.W_dec)
    with pytest.raises(DataError, match="d_in=8"):
        HeldOut(TOY, draw(3, 5, 4))


@pytest.fixture(scope="module")
def subject() -> Subject:
    world = TextWorld()
    cfg = LMConfig("gemma2", vocab_size=len(world.words), n_steps=2, warmup=1, **SIZES)
    return own(world, cfg, 60, layer=0, n_rows=40, n_test_rows=8)


def test_a_subject_of_our_own(subject: Subject) -> None:
    assert subject.source.batch(0, 40 * 32).square().sum(1).mean() == pytest.approx(1, rel=1e-4)
    assert subject.source.test.shape == (8 * 32, 16)
    assert subject.decode(subject.ids[0, :1]) == "<bos>" and not subject.evidence
    x, truth = subject.told(3, "probe")
    assert len(x) == len(truth) and truth.any(1).all()
    assert subject.siblings([]) == {}
    again = subject.siblings([1])
    assert list(again) == [0, 1] and again[0] is subject
    assert not torch.equal(again[1].source.test, subject.source.test)


def test_no_name_is_no_named_model() -> None:
    assert named("", "", 32, layer=0, n_rows=4, n_test_rows=4) is None


def test_a_complete_dictionary_loses_nothing(subject: Subject) -> None:
    """Rows [I, -I] and ReLU rebuild every input exactly, so the spliced model is the clean one."""
    sae = SAE(16, 32, ReLU(), decoder_norm=1.0, subtract_b_dec=False)
    rows = torch.cat([torch.eye(16), -torch.eye(16)])
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
    bench = Bench(subject, n_documents=60, n_facts=5, n_pairs=4)
    (one,) = bench.draws(1)
    scores = bench.score(sae, one)
    assert scores["loss_recovered"] == pytest.approx(1, abs=1e-3)
    assert 0 < scores["sparse_probing"] < 1 and 0 < scores["floor"] < 1
    assert "ravel" not in scores  # an untrained model knows no facts
    limits = bench.oracle(one)
    assert set(limits) == {"sparse_probing", "range", "scr", "tpp"} and limits["tpp"] > 0.05
    assert bench.score(sae, one) == pytest.approx(scores, rel=0, abs=0, nan_ok=True)
