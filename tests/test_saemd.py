"""What SAE-MD compares: an MLP's part of its block, pairs of SAEs, a subject and its scores."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny import CFG, TOY, draw, make

from srclib.activations import ReLU
from srclib.errors import DataError
from srclib.evals.bench import Bench
from srclib.lm.models import FAMILIES, LMConfig, new_model
from srclib.lm.subject import Subject, named, own
from srclib.methods.mirror import mlp_output_weights
from srclib.methods.saemd.mlp_term import mlp_pass, mlp_share
from srclib.methods.saemd.pairs import f1_with, matched_gap, meaning, modes, pair, usage
from srclib.sae import SAE
from srclib.sources import tested
from srclib.trainer import train
from srclib.worlds.text import TextWorld

SIZES: dict[str, Any] = {"d_model": 16, "n_layers": 2, "n_heads": 2, "d_mlp": 24, "context": 32}
ALL = torch.ones(6, dtype=torch.bool)


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


def test_an_sae_shares_all_latents_with_itself() -> None:
    sae = make(ReLU())
    two = pair(sae, sae, ALL, ALL)
    row = two.agreement()
    assert row["shared"] == row["all"] == row["equal"] == 1
    assert row["agree"] == pytest.approx(1) and math.isnan(row["disagree"])
    live = ALL.clone()
    live[2] = False
    assert pair(sae, sae, live, ALL).both.sum() == 5


def test_usage_counts_what_fires() -> None:
    sae, x = make(ReLU()), draw(1, 50, 8)
    with torch.no_grad():
        sae.b_enc[0] = -100
    seen = usage(sae, x)
    acts = sae.encode(x)
    assert seen.rate[0] == 0 and seen.live.tolist() == [False] + [True] * 5
    assert seen.l0 == pytest.approx(float(acts.count_nonzero() / 50))


def test_two_groups_are_two_modes_and_one_is_not() -> None:
    two = torch.cat([torch.full((50,), 0.2), torch.full((50,), 0.9), torch.tensor([0.5])])
    found = modes(two, 0.2)
    assert found["low"] == found["high"] == 50 / 101 and found["valley"] < 0.2
    assert modes(torch.linspace(0.4, 0.9, 99), 0.2)["valley"] == 1e3


def test_a_curve_that_is_lifted_by_a_constant_has_that_gap() -> None:
    a = [(0.1, 1.5), (0.9, 2.5), (0.5, 2.0)]
    b = [(0.0, 0.125 + 0.25), (1.0, 1.625)]  # half below, at every x
    assert matched_gap(a, b) == pytest.approx(1.0)
    assert math.isnan(matched_gap(a, [(0.95, 0.0), (1.0, 1.0)]))


def test_a_latent_that_fires_with_a_predicate_means_it() -> None:
    truth = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    acts = torch.cat([truth.float(), (~truth).float()], dim=1)
    f1 = f1_with(acts, truth)
    assert f1[:3].diag().tolist() == [1, 1, 1] and f1[3:].diag().tolist() == [0, 0, 0]
    sae = make(ReLU())
    row = meaning(pair(sae, sae, ALL, ALL), f1, f1)
    assert row["found either"] == row["found both"] == 1 and "f1 shared" not in row
    assert meaning(pair(sae, sae, ALL, ALL), torch.zeros(6, 0), torch.zeros(6, 0)) == {}


# --- sources and subjects -----------------------------------------------------------------------


def test_a_tested_source_trains_as_before_and_evaluates_on_other_rows() -> None:
    test = draw(3, 5, 8)
    source = tested.Tested(TOY, test)
    assert torch.equal(source.batch(4, 7), TOY.batch(4, 7))
    assert torch.equal(source.batch(-1, 3), test[:3])
    assert torch.equal(source.batch(-2, 3), test[[3, 4, 0]])
    assert source.identity != tested.Tested(TOY, -test).identity
    plain, other = make(ReLU()), make(ReLU())
    train(plain, TOY, CFG)
    train(other, source, CFG)
    assert torch.equal(plain.W_dec, other.W_dec)
    with pytest.raises(DataError, match="d_in=8"):
        tested.Tested(TOY, draw(3, 5, 4))


@pytest.fixture(scope="module")
def subject() -> Subject:
    world = TextWorld()
    cfg = LMConfig("gemma2", vocab_size=len(world.words), n_steps=2, warmup=1, **SIZES)
    return own(world, cfg, 60, layer=0, n_rows=40, n_test_rows=8)


def test_a_subject_of_our_own(subject: Subject) -> None:
    assert subject.source.batch(0, 40 * 32).square().sum(1).mean() == pytest.approx(1, rel=1e-4)
    assert subject.source.test.shape == (8 * 32, 16) and list(subject.before) == ["twin"]
    assert subject.decode(subject.ids[0, :1]) == "<bos>" and subject.evidence == "stand-in"
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
    assert bench.score(sae, one) == pytest.approx(scores, rel=0, abs=0, nan_ok=True)
