"""SCR and TPP on worlds where the right latents, and so the right scores, are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srclib.errors import DataError
from srclib.evals.probes import Probe, Samples
from srclib.evals.removal import ablated, scr, strongest, tpp, write_gap
from srclib.sae import SAE, TopK


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- ablation -----------------------------------------------------------------------------------


def test_ablation_keeps_the_reconstruction_error() -> None:
    """Against decode(z') + (x - decode(z)), token by token and then pooled."""
    sae = SAE(6, 10, TopK(3)).eval()
    x = draw(0, 4, 7, 6)  # [n_texts, seq, d_in]
    with torch.no_grad():
        z = sae.encode(x.reshape(-1, 6))
        cut = z.clone()
        cut[:, [2, 5]] = 0
        expected = (sae.decode(cut) + x.reshape(-1, 6) - sae.decode(z)).reshape(4, 7, 6)
        samples = Samples(x.mean(dim=1), z.reshape(4, 7, 10).mean(dim=1), torch.zeros(4))
        found = ablated(samples, torch.tensor([2, 5]), sae.W_dec)
    assert torch.allclose(found, expected.mean(dim=1), atol=1e-6)
    assert not torch.allclose(found, samples.x, atol=1e-3)


def test_strongest_takes_no_latent_without_effect() -> None:
    effect = torch.tensor([0.0, 3.0, -1.0, 0.0, 2.0])
    assert strongest(effect, 2).tolist() == [1, 4]
    assert strongest(effect, 100).tolist() == [1, 4, 2]
    assert strongest(0 * effect, 3).tolist() == []


def test_gap_times_write_is_the_change_of_the_probes_class_means() -> None:
    acts, W_dec, labels = draw(1, 30, 5).abs(), draw(2, 5, 3), torch.arange(30) % 3 == 0
    samples = Samples(acts @ W_dec, acts, labels)
    probe = Probe(draw(3, 3).double(), 0.7)
    gap, writes = write_gap(samples, labels, probe, W_dec)
    score = samples.x.double() @ probe.w + probe.b
    assert float(gap @ writes) == pytest.approx(
        float(score[labels].mean() - score[~labels].mean()), rel=1e-4
    )


# --- SCR ----------------------------------------------------------------------------------------

WEAK, STRONG = 1.0, 3.0


def two_attributes(n: int, seed: int, mixed: bool = False) -> tuple[Samples, Tensor]:
    """x = +-1 along axis 0 (attribute 0) +-3 along axis 1 (attribute 1), a latent per side.

    mixed: latents stand for the four combinations instead.
    """
    labels = torch.stack([torch.arange(n) % 2, torch.arange(n) // 2 % 2], dim=1)
    side = 2.0 * labels - 1
    x = side * torch.tensor([WEAK, STRONG]) + 0.01 * draw(seed, n, 2)
    if mixed:
        combination = 2 * labels[:, 0] + labels[:, 1]
        acts = torch.nn.functional.one_hot(combination, 4).float()
        corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
        return Samples(x, acts, labels.bool()), corners * torch.tensor([WEAK, STRONG])
    W_dec = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.6, 0.8]])
    acts = torch.cat([(x @ W_dec[:4].T).clamp(min=0), torch.zeros(n, 1)], dim=1)
    return Samples(x, acts, labels.bool()), W_dec


def test_scr_restores_all_that_the_spurious_attribute_took() -> None:
    """The biased probe follows the strong axis: 1/2 for the weak attribute, 1 for the strong."""
    (train, W_dec), (test, _) = two_attributes(200, 0), two_attributes(80, 1)
    found = scr(train, test, W_dec, (2, 4))
    weak, strong = found
    assert (weak.base, weak.clean) == (0.5, 1.0) and (strong.base, strong.clean) == (1.0, 1.0)
    assert weak.scores[2] == 1  # both latents of the strong axis are gone
    assert weak.scores[4] == 0  # with all four nothing is left of x
    assert strong.scores == {2: 0.0, 4: 0.0}  # nothing to restore


def test_scr_takes_latents_by_size_of_effect() -> None:
    """The strong axis is +5 - 2 on one side and -5 + 2 on the other; a loud latent writes nothing.

    All four must go: two of them have an effect of the other sign.
    """
    (train, _), (test, _) = two_attributes(200, 0), two_attributes(80, 1)
    W_dec = torch.tensor([[0.0, 5], [0, -2], [0, -5], [0, 2], [0, 0], [1, 0], [-1, 0]])
    parts = []
    for part in (train, test):
        on = part.labels[:, 1].float()
        spurious = torch.stack([on, on, 1 - on, 1 - on, 9 * on], dim=1)
        weak = (part.x @ W_dec[5:].T).clamp(min=0)
        parts.append(part._replace(acts=torch.cat([spurious, weak], dim=1)))
    found = scr(*parts, W_dec, (3, 4))[0]
    assert found.base == 0.5 and found.scores[4] == 1 and found.scores[3] < 1


def test_scr_reports_the_direction_that_was_harmed_more() -> None:
    (train, W_dec), (test, _) = two_attributes(200, 0), two_attributes(80, 1)
    turned = [s._replace(labels=s.labels.flip(1)) for s in (train, test)]
    found = scr(*turned, W_dec, (2,))
    assert found[0].base == 0.5 and found[0].scores == {2: 1}


def test_scr_of_a_dictionary_that_mixes_the_attributes_is_lower() -> None:
    (train, W_dec), (test, _) = two_attributes(200, 0, True), two_attributes(80, 1, True)
    assert scr(train, test, W_dec, (2,))[0].scores[2] < 0.6


def test_scr_balances_and_refuses_a_missing_combination() -> None:
    (train, W_dec), (test, _) = two_attributes(200, 0), two_attributes(80, 1)
    copies = torch.cat([torch.arange(80), (test.labels.all(dim=1)).nonzero().flatten().repeat(50)])
    assert scr(train, test.at(copies), W_dec, (2,))[0].base == 0.5
    assert scr(train, test, W_dec, (2,), seed=3) == scr(train, test, W_dec, (2,), seed=3)
    with pytest.raises(DataError, match=r"combinations of labels without rows=\[3\]"):
        scr(train.at(~train.labels.all(dim=1)), test, W_dec, (2,))


# --- TPP ----------------------------------------------------------------------------------------


def classes(n: int, seed: int) -> tuple[Samples, Tensor]:
    """Five classes on axes of their own; latent c is axis c; five latents more never matter."""
    labels = torch.arange(n) % 5
    x = torch.eye(8)[labels] * 3 + 0.01 * draw(seed, n, 8)
    W_dec = torch.cat([torch.eye(8)[:5], torch.nn.functional.normalize(draw(9, 5, 8), dim=1)])
    acts = torch.zeros(n, 10)
    acts[torch.arange(n), labels] = 3.0
    return Samples(x, acts, labels), W_dec


def test_tpp_of_one_latent_per_class_is_one_half() -> None:
    """Without its latent a class falls to chance; the others lose nothing."""
    (train, W_dec), (test, _) = classes(500, 0), classes(200, 1)
    found = tpp(train, test, W_dec, (1, 2))
    assert found.intended == {1: 0.5, 2: 0.5} and found.unintended == {1: 0.0, 2: 0.0}
    assert found.scores == {1: 0.5, 2: 0.5}


def test_tpp_counts_what_other_classes_lose() -> None:
    """One latent for two classes: cutting it harms both alike."""
    (train, W_dec), (test, _) = classes(500, 0), classes(200, 1)
    merged = W_dec.clone()
    merged[0] = merged[1] = 0
    merged[5] = torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0])
    for part in (train, test):
        part.acts[:, 5] = 3.0 * (part.labels < 2)
    found = tpp(train, test, merged, (1,))
    # x of class 0 becomes -3 along axis 1, so the probes of 0 and 1 lose their positives
    assert found.intended[1] == pytest.approx(0.5)
    assert found.unintended[1] == pytest.approx(2 * 0.5 / 20)  # the partner, in 2 of 20 pairs
    assert found.scores[1] == pytest.approx(0.5 - 0.05)


def test_tpp_takes_latents_of_the_positive_class_that_raise_the_probe() -> None:
    """An equally active latent that writes against the class, and one of the rest, are passed."""
    (train, W_dec), (test, _) = classes(500, 0), classes(200, 1)
    W_dec[5] = -2 * torch.eye(8)[0]  # fires with class 0 and lowers it
    W_dec[6] = -2 * torch.eye(8)[0]  # fires without class 0 and lowers it
    for part in (train, test):
        part.acts[:, 5] = 3.0 * (part.labels == 0)
        part.acts[:, 6] = 3.0 * (part.labels != 0)
    assert tpp(train, test, W_dec, (1,)).scores[1] == 0.5


def test_tpp_needs_two_classes() -> None:
    train, W_dec = classes(50, 0)
    with pytest.raises(DataError, match=r"classes=\[2\]"):
        tpp(train.at(train.labels == 2), train, W_dec, (1,))
