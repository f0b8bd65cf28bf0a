"""Computing with active pairs alone: against whole tables, autograd, float64, and in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny import ACTIVATIONS, CFG, TOY, a_list, draw, make, same, uneven
from torch import Tensor

from srclib.activations import Activation, BatchTopK, JumpReLU, ReLU, TopK
from srclib.compute.fast import largest_places
from srclib.errors import CheckpointError
from srclib.methods import alignsae
from srclib.methods.alignsae import terms
from srclib.methods.gated import GatedSAE
from srclib.methods.gba import GroupBiases, hand_over_bias
from srclib.objectives import (
    L1,
    AuxK,
    Context,
    L0Target,
    ScaledPenalty,
    SquaredError,
    TanhSparsity,
)
from srclib.sae import SAE
from srclib.sources import Rows
from srclib.steps import sparse
from srclib.steps.gradients import closed_form_gradients
from srclib.steps.pairs import Acts, Everywhere, Pairs
from srclib.steps.sparse import Room
from srclib.training.backward import closed_form, takes_pairs
from srclib.training.control import Control
from srclib.training.step import update
from srclib.training.trainer import start, train

D_IN, D_SAE, BATCH = 6, 32, 17
JUMPS = [
    JumpReLU(threshold=0.3, bandwidth=0.5, log_threshold=log, through_pre=through, l0_on=on)
    for log in (False, True)
    for through in (False, True)
    for on in ("f", "pre")
]
KINDS: list[Activation] = [ReLU(), TopK(3), BatchTopK(2.5), *JUMPS]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs at every size and density."""
    monkeypatch.setattr(sparse, "LEAST", 1)
    monkeypatch.setattr(sparse, "DENSEST", 1.0)


def largest(scores: Tensor, n: int) -> list[int] | None:
    found = largest_places(scores, n, torch.empty(scores.shape, dtype=torch.bool))
    return None if found is None else found.tolist()


@pytest.mark.parametrize("n", [1, 3, 31, 32, 100])
@pytest.mark.parametrize("shape", [(1, 640), (5, 32), (7, 33), (4, 1), (1, 1), (3, 128)])
def test_the_largest_places_are_those_of_a_sort(shape: tuple[int, int], n: int) -> None:
    """On whole numbers too, where many are equal and the earlier ones win."""
    for scores in (draw(0, *shape), (3 * draw(1, *shape)).round(), draw(2, *shape) - 9):
        expected = []
        for row, values in enumerate(scores.tolist()):
            first = sorted(range(shape[1]), key=lambda i: -values[i])[:n]  # stable
            expected += sorted(row * shape[1] + i for i in first if values[i] > 0)
        assert largest(scores, n) == expected


def test_what_is_not_a_number_is_never_silent() -> None:
    scores = draw(0, 4, 64)
    scores[2, 5] = torch.nan
    assert largest(scores, 3) is None
    for activation in KINDS:
        sae = uneven(D_IN, D_SAE, activation)
        with torch.no_grad():
            sae.W_enc[0, 3] = torch.nan
        losses = closed_form_gradients(sae, draw(0, BATCH, D_IN), room=Room()).losses
        assert bool(losses["mse"].isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 6, 700])  # of 700, three latents make a block of the 2 MB
@pytest.mark.parametrize(
    ("n_batch", "d_sae", "share"),
    [(17, 2000, 0.01), (17, 32, 0.3), (1, 32, 0.3), (17, 1, 0.5), (5, 7, 1.0), (5, 7, 0.0)],
)
def test_pairs_are_whole_tables(
    n_batch: int, d_sae: int, share: float, d: int, dtype: torch.dtype
) -> None:
    """Weights by columns too; no pair at all, a batch of one, one latent."""
    mask = draw(0, n_batch, d_sae).abs() < torch.distributions.Normal(0, 1).icdf(
        torch.tensor(0.5 + share / 2)
    )
    table = draw(1, n_batch, d_sae).to(dtype) * mask
    pairs, whole = Pairs(np.flatnonzero(mask.numpy()), n_batch, d_sae), Everywhere()
    rows, bias = draw(2, n_batch, d).to(dtype), draw(3, d).to(dtype)
    acts, vector = pairs.of(table), draw(5, d_sae).to(dtype)
    # Sums of up to 700 products of size one: a float32 has lost 1e-5 of the largest, in any order.
    near: Any = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    near = near or {"rtol": 1e-5, "atol": 1e-5 * max(1, d) ** 0.5}
    for W in (draw(4, d_sae, d).to(dtype), draw(4, d, d_sae).to(dtype).T):
        decoded = pairs.decode(acts, W, bias)
        torch.testing.assert_close(decoded, whole.decode(table, W, bias), **near)
        products = pairs.of(whole.products(rows, W))
        torch.testing.assert_close(pairs.products(rows, W), products, **near)
    torch.testing.assert_close(pairs.sum(acts), whole.sum(table), **near)
    torch.testing.assert_close(pairs.of(table * vector), acts * pairs.spread(vector), **near)
    for shape in ((d_sae, d), (d, d_sae)):
        found, expected = (torch.full(shape, 7.0, dtype=dtype) for _ in range(2))
        found, expected = (t if shape == (d_sae, d) else t.T for t in (found, expected))
        pairs.to_latents(acts, rows, found)
        whole.to_latents(table, rows, expected)
        torch.testing.assert_close(found, expected, **near)
    made = Acts(pairs, acts)
    assert torch.equal(made.dense(), table) and len(made) == n_batch
    assert torch.equal(made.firings(), (table != 0).sum(0).to(dtype))
    assert torch.equal(made.largest(), table.amax(0).clamp(min=0))


def wide(activation: Activation, dtype: torch.dtype, **keywords: Any) -> SAE:
    sae = uneven(D_IN, D_SAE, activation, **keywords)
    with torch.no_grad():
        sae.W_enc.add_(0.2 * draw(3, D_IN, D_SAE))
        sae.b_enc.copy_(0.3 * draw(1, D_SAE) - 0.2)
        sae.b_dec.copy_(0.3 * draw(2, D_IN))
    sae = sae.to(dtype)
    for p in sae.parameters():
        p.grad = torch.full_like(p, 7.0)
    return sae


CASES: dict[str, list[Any]] = {
    "error": [],
    "L1": [L1(0.3)],
    "both": [L1(0.2, warmup=4), TanhSparsity(0.1, c=2.0)],
    "target": [L0Target(0.5, coefficient=0.7, warmup=8), TanhSparsity(0.1)],
}
DEAD = {"none": [], "few": [4], "many": [0, 1, 3, 5, 7, 8]}


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
@pytest.mark.parametrize("more", CASES.values(), ids=CASES)
@pytest.mark.parametrize("activation", KINDS, ids=repr)
@pytest.mark.usefixtures("always")
def test_gradients_at_pairs_are_those_of_tables(
    activation: Activation, more: list[Any], dead: list[int]
) -> None:
    """Of autograd in float64, to 1e-12; of whole tables in float32, to 1e-6."""
    if isinstance(activation, ReLU | TopK | BatchTopK):
        more = [t for t in more if not isinstance(t, L0Target)]
    penalties = [t for t in more if hasattr(t, "phi")]
    targets = [t for t in more if isinstance(t, L0Target)]
    mask = torch.zeros(D_SAE).index_fill(0, torch.tensor(dead, dtype=torch.long), 1).bool()
    known = 3, penalties, targets, mask if dead else None, 0.7
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x, at_pairs = draw(0, BATCH, D_IN).to(dtype), wide(activation, dtype)
        found = closed_form_gradients(at_pairs, x, *known, room=Room())
        assert isinstance(found.acts, Acts)
        reference = wide(activation, dtype)
        if dtype == torch.float64:
            reference.zero_grad()
            out, every = reference(x), [SquaredError(), *more, *([AuxK(0.7)] if dead else [])]
            losses = {t.name: t(reference, x, out, Context(3, known[3])) for t in every}
            torch.stack(list(losses.values())).sum().backward()
            acts = out.acts.detach()
        else:
            losses, dense, smallest = closed_form_gradients(reference, x, *known)
            assert isinstance(dense, Tensor) and smallest == found.smallest_kept
            acts = dense
        assert torch.equal(found.acts.dense(), acts)
        assert losses.keys() == found.losses.keys()
        for name, loss in losses.items():
            torch.testing.assert_close(found.losses[name], loss.detach())
        for (name, p), q in zip(at_pairs.named_parameters(), reference.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None
            assert (p.grad - q.grad).norm() <= bound * q.grad.norm(), (name, dtype)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("activation", KINDS[:4], ids=repr)
def test_forty_steps_end_near_those_with_tables(
    activation: Activation, tied: bool, unit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = replace(CFG, n_steps=40, lr=1e-3, tied=tied, unit_decoder=unit)
    saes = [SAE(8, 64, activation, decoder_norm=1.0) for _ in range(2)]
    before = saes[0].W_dec.detach().clone()
    train(saes[0], TOY, cfg)
    monkeypatch.setattr(sparse, "LEAST", 1)
    monkeypatch.setattr(sparse, "DENSEST", 1.0)
    train(saes[1], TOY, cfg)
    dense, pairs = (sae.W_dec.detach() for sae in saes)
    assert (dense - before).norm() > 0.03 * before.norm()
    assert (dense - pairs).norm() < 1e-3 * (dense - before).norm()


@pytest.mark.usefixtures("always")
def test_in_a_list_as_alone() -> None:
    """Bit for bit, beside SAEs that compute with whole tables; weights end contiguous."""
    together, alone = [*a_list(), GatedSAE(8, 6)], [*a_list(), GatedSAE(8, 6)]
    del together[-1], alone[-1]
    train(together, TOY, CFG)
    for sae in alone:
        train(sae, TOY, CFG)
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))
    assert all(p.is_contiguous() for sae in together for p in sae.parameters())


@pytest.mark.parametrize("kind", ["TopK", "JumpReLU"])
def test_a_density_that_changes_makes_no_jump(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """L0 moves through the bound: pairs and tables take turns, and losses are those of tables."""
    activation = TopK(4) if kind == "TopK" else JumpReLU(threshold=0.02, bandwidth=0.05)
    objective = SquaredError() if kind == "TopK" else SquaredError() + L0Target(2.0, 3.0)

    class Widening(Control):
        def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
            if kind == "TopK":
                sae.activation = TopK(4 + step % 5)

    cfg, losses, ways = replace(CFG, n_steps=40, lr=2e-2), [], set()
    for least in (10**9, 1):
        monkeypatch.setattr(sparse, "LEAST", least)
        monkeypatch.setattr(sparse, "DENSEST", 6 / 32 if kind == "TopK" else 0.4)
        state = start([SAE(8, 32, activation)], cfg, objective, Widening())
        found = []
        for step in range(cfg.n_steps):
            update(state, step, TOY, cfg)
            newest = state.members[0].newest
            found.append(float(newest.losses["mse"]))
            if least == 1:
                ways.add(type(newest.acts))
        losses.append(found)
    assert ways == {Tensor, Acts}
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.usefixtures("always")
def test_a_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = replace(CFG, checkpoint_every=20, checkpoint_dir=str(tmp_path))
    whole, half = a_list(), a_list()
    train(whole, TOY, cfg)
    train(half, TOY, cfg, resume_from=tmp_path / "step-000000020")
    assert all(same(a, b) for a, b in zip(whole, half, strict=True))
    monkeypatch.setattr(sparse, "LEAST", 10**9)  # moments in another order must not be mistaken
    with pytest.raises(CheckpointError, match="W_enc 0"):
        train(a_list(), TOY, cfg, resume_from=tmp_path)


@pytest.mark.usefixtures("always")
def test_group_biases_count_pairs_as_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    x = torch.nn.functional.normalize(draw(0, 400, 8))
    for least in (1, 10**9):
        monkeypatch.setattr(sparse, "LEAST", least)
        control = GroupBiases((0.3, 0.1), period=3, eps=1e-3)
        sae = hand_over_bias(SAE(8, 32, JumpReLU(), decoder_norm=1.0))
        cfg = replace(CFG, n_steps=20, tied=True, lr=1e-3)
        train(sae, Rows(x, repeat=True), cfg, objective=SquaredError(), control=control)
        rows.append(control.rows)
    for a, b in zip(*rows, strict=True):
        assert a["firing_rate"] == pytest.approx(b["firing_rate"], abs=1e-3)
        assert a["bias"] == pytest.approx(b["bias"], abs=1e-4)


@dataclass(frozen=True)
class Offset(ScaledPenalty):
    """It charges silent latents too."""

    name: ClassVar[str] = "offset"

    def f(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return 1 + u, torch.ones_like(u)


class Reader(Control):
    """It needs the table of acts."""

    def before_step(self, step: int, sae: SAE, x: Tensor) -> None:
        return

    def after_pass(self, step: int, sae: SAE, acts: Any) -> None:
        self.shape = tuple(acts.amax(dim=0).shape)


def test_which_runs_compute_with_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "LEAST", 6)
    objective = SquaredError() + AuxK()
    assert all(takes_pairs(objective, make(a)) for a in ACTIVATIONS)
    assert not takes_pairs(objective, make(ReLU(), d_sae=5))
    assert not takes_pairs(objective, GatedSAE(8, 6))
    assert not takes_pairs(objective + Offset(0.1), make(ReLU()))
    assert not takes_pairs(objective, make(ReLU()).to("meta"))
    reader = Reader()
    train(make(TopK(2)), TOY, CFG, control=reader)
    assert reader.shape == (6,)


@pytest.mark.parametrize("activation", [TopK(6), BatchTopK(6), ReLU()], ids=repr)
def test_dense_steps_of_a_wide_run_are_those_of_tables(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k = d_sae: whole tables, and W_enc by rows changes rounding alone."""
    plain, turned = make(activation), make(activation)
    train(plain, TOY, CFG)
    monkeypatch.setattr(sparse, "LEAST", 1)
    train(turned, TOY, CFG)
    torch.testing.assert_close(plain.W_enc, turned.W_enc, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("start_at", [0, 5], ids=["both stages", "stage 1"])
@pytest.mark.parametrize("form", ["ce_pre", "ce_post", "mse"])
@pytest.mark.parametrize("linear", [False, True])
def test_autograd_may_stop_at_the_latents(
    linear: bool, form: Any, start_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All terms of AlignSAE, heads included: gradients and losses are those of autograd."""
    objective = terms.objective(start_at, form=form, independence=0.1, orthogonality=0.3)
    relation = torch.arange(12) % 3
    labels = alignsae.labels(relation, torch.arange(12) % 4, 3)
    source = Rows(3 * draw(0, 12, 8), labels=labels)
    found = []
    for least in (10**9, 1):
        monkeypatch.setattr(sparse, "LEAST", least)
        sae = alignsae.AlignSAE(8, 23, 3, 4, d_head=5, linear=linear)
        state = start([sae], replace(CFG, n_steps=1, n_batch=12, clip=float("inf")), objective)
        assert state.members[0].room is None
        closed = closed_form(objective.terms, sae)
        assert (closed is None) == (least > 1)
        update(state, 0, source, replace(CFG, n_steps=1, n_batch=12, clip=float("inf")))
        gradients = {name: p.grad for name, p in sae.named_parameters()}
        found.append((state.members[0].newest.losses, gradients))
    (expected, reference), (losses, gradients) = found
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    for name, gradient in gradients.items():
        other = reference[name]
        assert gradient is not None and other is not None
        assert (gradient - other).norm() <= 1e-6 * other.norm(), name
