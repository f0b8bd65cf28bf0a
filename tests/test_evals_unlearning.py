"""Unlearning on a model that reads its answers from axes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib.activations import ReLU
from srclib.errors import DataError
from srclib.evals.edits import Edit, clamp_latents, topic_latents, unlearning
from srclib.sae import SAE

D = 6
TOPIC = torch.tensor([[4.0, 0, 0, 1, 0, 0], [0, 2.0, 0, 1, 0, 0]]).repeat(50, 1)
REST = torch.tensor([[0, 0, 3.0, 1, 0, 0], [0, 0, 5.0, 0, 1, 0]]).repeat(50, 1)


def identity_sae() -> SAE:
    """Latent i is axis i; the decoder forgets axis 5, so there is an error to keep."""
    sae = SAE(D, D, ReLU())
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(D))
        sae.W_dec.copy_(torch.eye(D))
        sae.W_dec[5] = 0
    return sae.eval()


def accuracy_under(edit: Edit) -> tuple[float, float]:
    """A question of a kind is answered as long as its axes are not pushed below -3."""
    topic, rest = edit(TOPIC), edit(REST)
    return (
        float((topic[:, :2].amin(dim=1) > -3).double().mean()),
        float((rest[:, 2:5].amin(dim=1) > -3).double().mean()),
    )


def sweep(accuracy=accuracy_under, **kwargs):  # type: ignore[no-untyped-def]
    sae = identity_sae()
    acts = [sae.encode(x).detach() for x in (TOPIC, REST)]
    return unlearning(sae, *acts, accuracy, **kwargs)


def test_the_edit_moves_only_active_latents_and_keeps_the_error() -> None:
    sae = identity_sae()
    x = torch.tensor([[[2.0, -1.0, 0.0, 1.0, 0.0, 7.0]]])  # any leading dimensions
    edited = clamp_latents(sae, torch.tensor([0, 1, 5]), torch.tensor([-8.0, -9.0, -1.0]))(x)
    assert edited.tolist() == [[[-8.0, -1.0, 0.0, 1.0, 0.0, 7.0]]]


def test_topic_latents_spare_what_the_rest_uses() -> None:
    forget = torch.zeros(1000, 5)
    forget[:500, 0] = forget[:900, 1] = forget[:, 2] = forget[:10, 3] = 1.0
    retain = torch.zeros(1000, 5)
    retain[:5, 1] = retain[:10, 2] = 1.0
    assert topic_latents(forget, retain, 0.001).tolist() == [0, 3]
    assert topic_latents(forget, retain, 0.01).tolist() == [1, 0, 3]  # "at least" spares latent 2
    assert topic_latents(forget, retain, 0.011).tolist() == [2, 1, 0, 3]


def test_a_topic_on_latents_of_its_own_is_forgotten() -> None:
    """Axes 0 and 1 fire on half the topic each, with means 4 and 2; axis 3 is shared."""
    score, tried = sweep(n_latents=(1, 2, 9), multipliers=(0.5, 1.0, 2.0))
    by_size = {(s.n_latents, s.multiplier): s for s in tried if s.threshold == 0.001}
    assert set(by_size) == {(n, m) for n in (1, 2) for m in (0.5, 1.0, 2.0)}  # 9 is cut to 2
    assert by_size[1, 0.5].forget == 1  # to -2
    assert by_size[1, 1.0].forget == 0.5  # to -4: half of the topic
    assert by_size[2, 1.0].forget == 0.5  # the other half to -2, the mean of active values alone
    assert by_size[2, 2.0].forget == 0
    assert all(s.retain == 1 for s in tried) and score == 1
    assert sweep(n_latents=(1,), multipliers=(1.0,))[0] == 0.5


def test_only_settings_that_retain_count() -> None:
    def forgetful(loss: float):  # type: ignore[no-untyped-def]
        def accuracy(edit: Edit) -> tuple[float, float]:
            forget, _ = accuracy_under(edit)
            return forget, 1.0 if forget == 1 else 1 - loss

        return accuracy

    settings = {"n_latents": (2,), "multipliers": (0.5, 2.0)}
    assert sweep(forgetful(0.01), **settings)[0] == 1  # 0.99 is enough
    assert sweep(forgetful(0.02), **settings)[0] == 0
    assert sweep(forgetful(0.02), n_latents=(2,), multipliers=(2.0,))[0] == 0  # none qualifies


def test_unlearning_refuses_questions_that_the_model_cannot_answer() -> None:
    with pytest.raises(DataError, match=r"accuracies without an edit=\(1\.0, 0\.5\)"):
        sweep(lambda edit: (1.0, 0.5))


def test_the_sweep_changes_nothing() -> None:
    sae = identity_sae()
    before: list[Tensor] = [p.clone() for p in sae.parameters()]
    topic = TOPIC.clone()
    unlearning(sae, sae.encode(TOPIC).detach(), sae.encode(REST).detach(), accuracy_under)
    assert all(torch.equal(a, b) for a, b in zip(before, sae.parameters(), strict=True))
    assert torch.equal(topic, TOPIC)
