"""SAEBench absorption: where a latent for a class stays silent and a latent for a member speaks.

Chanin et al. 2024 (arXiv:2409.14507). Parents are classes of words instead of first letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from .. import rng
from ..errors import DataError, message
from ..sae import SAE
from ..worlds.text import TextWorld
from .probes import Samples, fit_probe

if TYPE_CHECKING:
    from ..lm.subject import Documents

MIN_PROBE_F1 = 0.6  # a parent counts if a linear probe reads it this well
MIN_F1_GAIN = 0.03  # a further latent is a split of the parent if it adds this much
MAX_MAIN, L1_WEIGHT = 10, 0.01
MIN_COSINE, MIN_COSINE_FULL = 0.1, 0.025  # of an absorber with the probe
MIN_SHARE, MAX_ABSORBERS = 0.4, 3  # share of the probe's projection that these must carry
SILENT = 1e-8
PER_WORD, WORDS, TRAIN_ROWS = 5, 8, 10  # least or most: tokens of a word, words and rows of a class


class ParentAbsorption(NamedTuple):
    """One parent that a linear probe can read."""

    parent: int
    probe_f1: float
    main: tuple[int, ...]  # the latents that stand for the parent
    n_words: int  # test words of the parent that the probe gets right
    fraction: float  # mean absorption fraction of these words
    full: float  # share of them that are fully absorbed


class Absorption(NamedTuple):
    """Means over the parents that count; lower is better, 0 is none. NaN where none counts."""

    fraction: float
    full: float
    parents: tuple[ParentAbsorption, ...]


def absorption(train: Samples, test: Samples, W_dec: Tensor, *, seed: int = 0) -> Absorption:
    """Share of a parent's direction that latents of its children carry instead of its own.

    Samples are words in context with the class of the word as label [n]; test words should not
    occur in train. For each parent: (1) a linear probe, which must reach F1 > 0.6 on test;
    (2) its `main_latents`; (3) `absorbed` for each test word that the probe gets right.

    Differs from SAEBench: word classes for letters; one probe per parent instead of a joint
    multi-label one; converged logistic regressions, the L1 one on latents in units of their root
    mean square. SAEBench asks for 20 of 26 letters: see how many `parents` there are.
    Raises DataError when train and test are not of the same classes.
    """
    classes = train.labels.unique().tolist()
    if classes != test.labels.unique().tolist():
        seen = test.labels.unique().tolist()
        raise DataError(message("parents in test", seen, f"{classes}, as in train", "Split anew."))
    counted = []
    for c in classes:
        is_parent, truth = train.labels == c, test.labels == c
        probe = fit_probe(train.x, is_parent, reweigh=True)
        predicted = probe.predict(test.x)
        f1 = float(f1_score(truth.numpy(), predicted.numpy()))
        if f1 <= MIN_PROBE_F1:
            continue
        main = main_latents(train.acts, is_parent, test.acts, truth, seed)
        words = test.at(truth & predicted)
        fraction, full = absorbed(words.x, words.acts, W_dec, probe.w, main)
        scores = float(fraction.mean()), float(full.double().mean())
        counted.append(ParentAbsorption(c, f1, tuple(main.tolist()), len(words.x), *scores))
    table = torch.tensor([(p.fraction, p.full) for p in counted], dtype=torch.float64)
    fraction, full = table.reshape(-1, 2).mean(dim=0)
    return Absorption(float(fraction), float(full), tuple(counted))


def main_latents(
    acts: Tensor, labels: Tensor, test_acts: Tensor, test_labels: Tensor, seed: int = 0
) -> Tensor:
    """The latents that together stand for a class, best first: [1..10].

    Ranked by signed weight in an L1 logistic regression; one more is taken while test F1 of a
    probe on them rises by more than 0.03.
    """
    z = acts.detach().double()
    scale = float(z.square().mean().sqrt()) or 1.0
    # mean loss + 0.01 |w|_1, where scikit-learn has C * (sum of losses) + |w|_1
    C, state = 1 / (L1_WEIGHT * len(acts)), rng.derive(seed, "evals", "absorption") % 2**31
    fixed = {"l1_ratio": 1, "solver": "liblinear", "class_weight": "balanced"}
    ranking = LogisticRegression(C=C, random_state=state, **fixed)
    ranking.fit(csr_matrix((z / scale).numpy()), labels.numpy())
    order = torch.from_numpy(ranking.coef_[0]).argsort(descending=True, stable=True)
    best, n_main = 0.0, 1
    for k in range(1, min(MAX_MAIN, len(order)) + 1):
        probe = fit_probe(acts[:, order[:k]], labels, reweigh=True)
        f1 = f1_score(test_labels.numpy(), probe.predict(test_acts[:, order[:k]]).numpy())
        if k > 1 and f1 - best <= MIN_F1_GAIN:
            break
        best, n_main = f1, k
    return order[:n_main]


@torch.no_grad()
def absorbed(
    x: Tensor, acts: Tensor, W_dec: Tensor, direction: Tensor, main: Tensor
) -> tuple[Tensor, Tensor]:
    """Absorption fraction [n] and full absorption [n] bool of words that belong to a parent.

    x: [n, d_in], acts: [n, d_sae], direction: [d_in] of the parent's probe, main: its latents.
    With unit p along it, a = x . p, c_i = cos(p, W_dec_i), and t_i = z_i (W_dec_i . p), which is
    z_i c_i for unit rows; m = sum of t over main; s = sum of the 3 largest t_i > 0 among the other
    latents with c_i >= 0.1:

        fraction = 0 if m >= a or s / a < 0.4; else 1 if m <= 0;
                   else u / (u + m) with u = min(s, a - m)
        full     = main all silent, a > 0, and the largest t_i has c_i >= 0.025 and t_i / a >= 0.4
    """
    p = direction.double() / direction.double().norm()
    writes = W_dec.double() @ p  # [d_sae]
    cosine = writes / W_dec.double().norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
    a = x.double() @ p  # [n]
    t = acts.double() * writes  # [n, d_sae]
    m = t[:, main].sum(dim=1)
    candidate = cosine >= MIN_COSINE
    candidate[main] = False
    others = torch.where(candidate, t, 0.0).clamp(min=0)
    s = others.topk(min(MAX_ABSORBERS, others.shape[1]), dim=1).values.sum(dim=1)
    u = torch.minimum(s, a - m)
    fraction = torch.where(m <= 0, 1.0, u / (u + m))
    fraction[(a <= 0) | (m >= a) | (s < MIN_SHARE * a)] = 0.0

    top, top_latent = t.max(dim=1)
    silent = (acts[:, main].abs() < SILENT).all(dim=1)
    aligned = cosine[top_latent] >= MIN_COSINE_FULL
    full = silent & (a > 0) & aligned & (top >= MIN_SHARE * a)
    return fraction, full


@torch.no_grad()
def word_absorption(
    world: TextWorld, sae: SAE, train_text: Documents, test_text: Documents, seed: int
) -> dict[str, float]:
    """1 - mean absorption (`full`: by the stricter definition) over word classes; new test words.

    Classes of eight words or more; parents: how many of them a probe can read.
    """
    generator = rng.stream(seed, "absorption words")
    train_words, test_words = dict[int, int](), dict[int, int]()
    for c, name in enumerate(world.word_classes):
        words = world.members(name)
        if len(words) < WORDS or name == "special":
            continue
        mixed = [words[i] for i in torch.randperm(len(words), generator=generator).tolist()]
        cut = len(words) * 2 // 3
        train_words |= dict.fromkeys(mixed[:cut], c)
        test_words |= dict.fromkeys(mixed[cut:], c)
    train = _word_samples(sae, train_text, train_words, len(world.words))
    test = _word_samples(sae, test_text, test_words, len(world.words))
    common = [
        c
        for c in train.labels.unique().tolist()
        if (train.labels == c).sum() >= TRAIN_ROWS and (test.labels == c).any()
    ]
    keep = torch.tensor(common)
    train, test = (each.at(torch.isin(each.labels, keep)) for each in (train, test))
    found = absorption(train, test, sae.W_dec.detach(), seed=seed)
    parents = len(found.parents)
    return {"absorption": 1 - found.fraction, "full": 1 - found.full, "parents": parents}


def _word_samples(sae: SAE, text: Documents, chosen: dict[int, int], n_words: int) -> Samples:
    """One row per token whose word is in `chosen` (word -> class), at most five of each word."""
    label = torch.full((n_words,), -1)
    label[list(chosen)] = torch.tensor(list(chosen.values()))
    at = ((label[text.tokens] >= 0) & text.mask).nonzero()
    words = text.tokens[at[:, 0], at[:, 1]]
    few = torch.cat([at[words == word][:PER_WORD] for word in words.unique()])
    place = few[:, 0], few[:, 1]
    x = text.x[place]
    return Samples(x, sae.encode(x), label[text.tokens[place]])
