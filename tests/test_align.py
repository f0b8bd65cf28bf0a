"""AlignSAE: slots, heads, the terms and the stages of its objective."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srclib.activations import ReLU
from srclib.errors import CheckpointError, DataError, ParameterError
from srclib.methods import alignsae
from srclib.methods.alignsae import AlignSAE, binding, terms
from srclib.methods.alignsae.terms import Binding, Orthogonality, Reconstruction, Sparsity, Value
from srclib.objectives import Context, Objective
from srclib.rng import normals
from srclib.runs.keys import key_of
from srclib.runs.run import Run
from srclib.sae import SAE
from srclib.sources.rows import Rows
from srclib.store.checkpoint import load_sae, save_sae
from srclib.training.config import TrainConfig
from srclib.training.trainer import train

K, D, ANSWERS = 3, 8, 5
RELATION = torch.arange(60) % K
ANSWER = torch.arange(60) % ANSWERS
LABELS = alignsae.labels(RELATION, ANSWER, K)


def world(seed: int = 0) -> Tensor:
    """Vectors [60, D] in which a direction tells the relation."""
    means = 3 * normals(seed, "means", shape=(K, D))
    return means[RELATION] + 0.3 * normals(seed, "noise", shape=(60, D))


def new(seed: int = 0, **options: bool) -> AlignSAE:
    return AlignSAE(D, 20, K, ANSWERS, d_head=4, seed=seed, **options)


def fit(sae: SAE, objective: Objective, n_steps: int = 200) -> list[dict[str, float]]:
    cfg = TrainConfig(n_steps, 20, 1e-2, clip=math.inf, log_every=1)
    return train(sae, Rows(world(), labels=LABELS), cfg, objective=objective).history


def test_slots_are_the_last_latents_and_linear_has_no_threshold() -> None:
    sae, x = new(), world()
    out = sae(x)
    assert torch.equal(torch.cat([sae.free(out.acts), sae.slots(out.acts)], dim=1), out.acts)
    assert out.acts.min() == 0 and sae.slots(out.acts).shape == (60, K)
    linear = new(linear=True)
    out = linear(x)
    assert torch.equal(out.acts, out.pre_acts) and out.acts.min() < 0
    torch.testing.assert_close(out.x_hat, out.acts @ linear.W_dec + linear.b_dec)


def test_folding_the_scale_keeps_latents_and_undoes_it_in_the_reconstruction() -> None:
    for linear in (False, True):
        sae, x = new(linear=linear), world()
        with torch.no_grad():
            sae.b_enc.add_(0.3)
            sae.b_dec.add_(0.2)
        before = sae(0.25 * x)
        after = sae.fold_input_scale(0.25)(x)
        torch.testing.assert_close(after.acts, before.acts)
        torch.testing.assert_close(after.x_hat, before.x_hat / 0.25)


def test_terms_against_float64() -> None:
    sae, x = new(), world()
    out, context = sae(x), Context(5, None, LABELS)
    pre, acts = out.pre_acts.double(), out.acts.double()
    rows = torch.arange(60)
    ce = -pre[:, -K:].log_softmax(1)[rows, RELATION].mean()
    after = -acts[:, -K:].log_softmax(1)[rows, RELATION].mean()
    mse = (acts[:, -K:] - F.one_hot(RELATION, K)).square().mean()
    cov = (acts[:, -K:] - acts[:, -K:].mean(0)).T @ (acts[:, :-K] - acts[:, :-K].mean(0)) / 60
    heads = []
    for i, (r, a) in enumerate(LABELS.tolist()):
        hidden = torch.relu(acts[i, 17 + r] * sae.head_in[r].double() + sae.head_in_bias[r])
        logits = hidden @ sae.head_out[r].double() + sae.head_out_bias[r]
        heads.append(-logits.log_softmax(0)[a])
    expected = {
        Reconstruction(): (x - out.x_hat).double().square().mean(),
        Sparsity(2.0): 2 * acts[:, :-K].abs().mean(),
        Binding(1.0): ce,
        Binding(3.0, form="ce_post"): 3 * after,
        Binding(1.0, form="mse"): mse,
        Orthogonality(0.5): 0.5 * cov.square().sum(),
        Value(1.0): torch.stack(heads).mean(),
        terms.Independence(1.0): terms.independence(acts[:, :-K]),
    }
    for term, value in expected.items():
        found = term(sae, x, out, context)  # type: ignore[operator]
        assert float(found.detach()) == pytest.approx(float(value.detach()), rel=1e-4), term


def test_sparsity_of_a_plain_sae_is_of_all_latents() -> None:
    sae = SAE(D, 20, ReLU())
    out = sae(world())
    found = Sparsity(1.0)(sae, world(), out, Context(0, None))
    torch.testing.assert_close(found, out.acts.abs().mean())


def test_before_its_start_the_second_stage_is_reconstruction_alone() -> None:
    staged, alone = new(), new()
    history = fit(staged, terms.objective(30), n_steps=30)
    fit(alone, Objective((Reconstruction(),)), n_steps=30)
    for p, q in zip(staged.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)
    assert all(record["binding"] == record["value"] == 0 for record in history)
    heads = new()
    for name in ("head_in", "head_in_bias", "head_out", "head_out_bias"):
        assert torch.equal(getattr(staged, name), getattr(heads, name))


def test_it_binds_and_permuted_labels_bind_elsewhere() -> None:
    sae, x = new(), world()
    history = fit(sae, terms.objective(50))
    assert history[49]["binding"] == 0 < history[50]["binding"]
    matrix = binding.binding_matrix(sae.slots(sae(x).pre_acts), RELATION)
    assert binding.diagonal(matrix) > 0.95
    assert history[-1]["rec"] < 0.5 * history[0]["rec"]
    assert history[-1]["value"] < history[50]["value"]


def test_a_weight_of_zero_leaves_its_term_out() -> None:
    names = [term.name for term in terms.objective(0, value=0.0, orthogonality=0.0).terms]
    assert names == ["rec", "l1", "binding"]


def test_runs_that_differ_in_linearity_have_other_keys() -> None:
    source, cfg = Rows(world(), labels=LABELS), TrainConfig(5, 20, 1e-3)
    runs = [Run(new(linear=flag), source, cfg, terms.objective(0)) for flag in (False, True)]
    assert key_of(runs[0]) != key_of(runs[1])


def test_a_saved_one_is_no_plain_sae(tmp_path: object) -> None:
    folder = save_sae(new(), f"{tmp_path}/sae")
    with pytest.raises(CheckpointError, match=r"sae\.json"):
        load_sae(folder)


@pytest.mark.parametrize(("n_slots", "d_sae"), [(0, 5), (5, 5), (9, 5)])
def test_more_slots_than_latents_are_refused(n_slots: int, d_sae: int) -> None:
    with pytest.raises(ParameterError, match=f"n_slots={n_slots}.*d_sae={d_sae}"):
        AlignSAE(D, d_sae, n_slots, 2)


def test_bad_input_is_refused_before_training_by_name() -> None:
    relation = torch.arange(7).repeat(2)  # seven concepts, six slots
    with pytest.raises(DataError, match=r"relation of row 6=6.*0 <= relation < 6.*Add"):
        alignsae.labels(relation, torch.zeros(14), 6)
    with pytest.raises(DataError, match="one per row"):  # an answer is missing
        alignsae.labels(torch.arange(6), torch.zeros(5), 6)


def test_labels_outside_the_ontology_are_refused() -> None:
    with pytest.raises(DataError, match=r"relation of row 2=3.*ontology"):
        alignsae.labels(torch.tensor([0, 1, 3]), torch.zeros(3), 3)
    with pytest.raises(DataError, match=r"relations without a row=\[2\]"):
        alignsae.labels(torch.tensor([0, 1, 1]), torch.zeros(3), 3)
    with pytest.raises(DataError, match="answers"):
        alignsae.labels(torch.tensor([0, 1]), torch.tensor([0, -1]), 2)
    sae, x = new(), world()
    for bad, name in (((K, 0), "relation"), ((0, ANSWERS), "answer"), ((-1, 0), "relation")):
        labels = LABELS.clone()
        labels[7] = torch.tensor(bad)
        with pytest.raises(DataError, match=f"label {name}"):
            Binding(1.0)(sae, x, sae(x), Context(0, None, labels))
    with pytest.raises(DataError, match=r"labels\.shape=None"):
        Binding(1.0)(sae, x, sae(x), Context(0, None))


def test_every_level_has_a_loss_of_its_own() -> None:
    """Two ontologies over five slots cost what each costs alone; with one level nothing changes."""
    sae, x, other = AlignSAE(D, 20, 5, ANSWERS), world(), torch.arange(60) % 2
    told, out = alignsae.labels(RELATION, ANSWER, K, mood=(other, 2)), sae(world())
    assert torch.equal(told[:, :2], LABELS) and torch.equal(told[:, 2], other)
    slots = sae.slots(out.pre_acts)
    apart = [F.cross_entropy(slots[:, :K], RELATION), F.cross_entropy(slots[:, K:], other)]
    loss = Binding(1.0, levels=(K, 2))(sae, x, out, Context(0, None, told))
    torch.testing.assert_close(loss, sum(apart))
    hot = torch.cat([F.one_hot(RELATION, K), F.one_hot(other, 2)], dim=1)
    form = Binding(1.0, form="mse", levels=(K, 2))(sae, x, out, Context(0, None, told))
    wanted = (sae.slots(out.acts) - hot).square().mean(dim=0)
    torch.testing.assert_close(form, wanted[:K].mean() + wanted[K:].mean())
    one, small = new(), new()(x)
    same = Binding(1.0, levels=(K,))(one, x, small, Context(0, None, LABELS))
    assert torch.equal(same, Binding(1.0)(one, x, small, Context(0, None, LABELS)))


@pytest.mark.parametrize("levels", [(K, 1), (K, 3), (5,), (2, 3), ()])
def test_more_concepts_than_slots_are_refused_at_every_level(levels: tuple[int, ...]) -> None:
    sae, x = AlignSAE(D, 20, 5, ANSWERS), world()
    told = alignsae.labels(RELATION, ANSWER, K, mood=(torch.arange(60) % 2, 2))
    with pytest.raises(ParameterError, match="levels"):
        Binding(1.0, levels=levels)(sae, x, sae(x), Context(0, None, told))


def test_a_concept_of_any_level_without_examples_is_refused() -> None:
    for places, seen in ((torch.zeros(60), "moods without a row"), (RELATION, "mood of row 2=2")):
        with pytest.raises(DataError, match=seen):
            alignsae.labels(RELATION, ANSWER, K, mood=(places.long(), 2))


def test_a_plain_sae_has_no_slots() -> None:
    sae, x = SAE(D, 20, ReLU()), world()
    with pytest.raises(ParameterError, match="slots on='SAE'"):
        Binding(1.0)(sae, x, sae(x), Context(0, None, LABELS))
