"""Labels reach the terms of an objective beside the rows they belong to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib.activations import ReLU
from srclib.compute.fast import Adam
from srclib.errors import DataError
from srclib.objectives import Context, Objective, SquaredError
from srclib.sae import SAE, SAEOutput
from srclib.sources import Rows, Scaled
from srclib.training.config import TrainConfig
from srclib.training.trainer import train

X = torch.arange(60.0).view(20, 3)
LABELS = torch.stack([torch.arange(20), torch.arange(20) * 7], dim=1)


@pytest.mark.parametrize("step", [0, 3, 11, -1, -2])
def test_each_row_keeps_its_label(step: int) -> None:
    source = Rows(X, labels=LABELS, held_out=5, seed=1)
    labels = source.labels(step, 7)
    assert labels is not None
    torch.testing.assert_close(source.batch(step, 7)[:, 0], labels[:, 0] * 3.0)
    assert torch.equal(labels[:, 1], labels[:, 0] * 7)


def test_labels_do_not_change_the_rows() -> None:
    plain, labelled = Rows(X, seed=1), Rows(X, labels=LABELS, seed=1)
    assert plain.labels(0, 4) is None
    assert torch.equal(plain.batch(5, 9), labelled.batch(5, 9))
    assert plain.identity != labelled.identity != Rows(X, labels=LABELS + 1, seed=1).identity


def test_one_label_too_few_is_refused() -> None:
    with pytest.raises(DataError, match=r"len\(labels\).*19.*20 rows"):
        Rows(X, labels=LABELS[:19])


class Seen:
    """A term that writes down what it is shown."""

    name = "seen"

    def __init__(self) -> None:
        self.shown: list[tuple[Tensor, Tensor | None]] = []

    def __call__(self, sae: SAE, x: Tensor, out: SAEOutput, context: Context) -> Tensor:
        self.shown.append((x, context.labels))
        return out.x_hat.sum() * 0


def test_terms_see_the_labels_of_the_batch() -> None:
    for source, there in (
        (Rows(X, labels=LABELS), True),
        (Rows(X), False),
        (Scaled(Rows(X), 2.0), False),
        (Scaled(Rows(X, labels=LABELS), 2.0), True),
    ):
        seen = Seen()
        cfg = TrainConfig(4, 6, 1e-3)
        train(SAE(3, 4, ReLU()), source, cfg, objective=Objective((SquaredError(), seen)))
        assert len(seen.shown) == 4
        for x, labels in seen.shown:
            assert (labels is not None) == there
            if labels is not None:
                unit = source.factor if isinstance(source, Scaled) else 1.0
                torch.testing.assert_close(x[:, 0], labels[:, 0] * 3.0 * unit)


def test_the_first_step_of_adam_shows_eps() -> None:
    for eps in (1e-8, 0.5):
        vector, gradient = torch.zeros(3), torch.tensor([1e-3, 1.0, -2.0])
        Adam(vector, eps=eps).update(gradient, 0.1)
        torch.testing.assert_close(vector, -0.1 * gradient / (gradient.abs() + eps))
