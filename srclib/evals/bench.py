"""All eight scores of one SAE on a world of text whose truth is known.

    bench = Bench(subject, n_documents=400, n_facts=150, n_pairs=100)
    scored = tidy({(*key, draw.seed): bench.score(run.sae, draw)
                   for draw in bench.draws(3) for key, run in runs.items()}, (*runs.names, "draw"))

An unchanged benchmark moves when it is run again, so there are several draws of documents, facts
and splits. `bench.oracle(draw)` says what raw activations reach: where they fail, no SAE is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .. import rng
from ..activations import ReLU
from ..lm.harvest import token_losses
from ..lm.sites import edited
from ..lm.subject import Documents, Subject
from ..metrics import unit_rows
from ..sae import SAE
from ..worlds.text import predicates
from .absorption import word_absorption
from .asking import ENOUGH, Quiz, ravel_score, unlearning_score
from .autointerp import autointerp
from .edits import Edit
from .probes import Samples, fit_probe, mean_pool, sparse_probing
from .removal import scr, tpp

SCORES = (
    "loss_recovered",
    "autointerp",
    "sparse_probing",
    "absorption",
    "ravel",
    "scr",
    "tpp",
    "unlearning",
)
N_ROWS = 40  # rows of held-out text for the cross entropy
KS = (1, 2, 5)  # latents that a sparse probe reads
N_TPP = 5  # topics, as many as SAEBench has classes
FIRES = 30  # least number of tokens on which a judged latent fires
REACH = 5  # tokens on each side of a judged window


class Draw(NamedTuple):
    """What one evaluation seed looks at, the same for every SAE."""

    seed: int
    train: Documents
    test: Documents
    predicates: Tensor  # [n, context, n_predicates] bool, what holds of the tokens of `train`
    topic: tuple[Tensor, Tensor]  # activations on the topic to be forgotten, and on all others
    people: Tensor  # known facts about people, by index
    forget: Tensor
    retain: Tensor
    rows: Tensor  # [40] places in the subject's held-out text


@dataclass(frozen=True)
class Bench:
    """The scores of SAEs of one subject; for a named model, whose text has no truth, none.

    n_cut: latents that SCR and TPP ablate. spurious: what SCR's register is confounded with, the
    tense ("past") or the half of the topics ("topic").
    """

    subject: Subject
    n_documents: int
    n_facts: int
    n_pairs: int
    n_cut: int = 10
    spurious: str = "past"

    @cached_property
    def quiz(self) -> Quiz:
        return Quiz(self.subject)

    def draws(self, n: int) -> Iterator[Draw]:
        """`n` evaluation seeds, one after another."""
        for seed in range(n if self.subject.world else 0):
            yield self._draw(seed)

    def _draw(self, seed: int) -> Draw:
        world, known = self.quiz.world, self.quiz.known
        generator = rng.stream(world.seed, "evaluation", seed)
        topic, entity = (torch.tensor(self.quiz.facts[name])[known] for name in ("topic", "entity"))
        mixed = topic[torch.randperm(len(topic), generator=generator)]
        forgotten = next((int(each) for each in mixed if each >= 0), 0)
        people, retain = known[entity >= 0], known[topic != forgotten]
        people = people[torch.randperm(len(people), generator=generator)[: self.n_facts]]
        retain = retain[torch.randperm(len(retain), generator=generator)[: self.n_facts]]
        rows = torch.randperm(len(self.subject.test_ids), generator=generator)[:N_ROWS]
        n, documents = self.n_documents, self.subject.documents
        train, test = (documents(n, f"probe {seed} {split}") for split in ("train", "test"))
        about = documents(n // 2, f"probe {seed} topic", topic=forgotten)
        rest = documents(n, f"probe {seed} rest")
        spared = rest.mask & (torch.tensor(rest.docs["topic"]) != forgotten)[:, None]
        truth = predicates(world, train.docs, train.x.shape[1])[1]
        forget = known[topic == forgotten]
        topics = about.x[about.mask], rest.x[spared]
        return Draw(seed, train, test, truth, topics, people, forget, retain, rows)

    @torch.no_grad()
    def score(self, sae: SAE, draw: Draw, *, asking: bool = True) -> dict[str, float]:
        """{name: score}, higher is better; beside them `floor`, what the answer "none" scores.

        Absorption is turned round. Where the model knows fewer than 100 facts, and without
        `asking`, RAVEL, unlearning and `facts`, their number, are left out.
        """
        sae, quiz = sae.eval(), self.quiz
        row = {"loss_recovered": _loss_recovered(self.subject, sae, draw.rows)}
        row |= self._text_scores(sae, draw)
        row |= word_absorption(quiz.world, sae, draw.train, draw.test, draw.seed)
        if asking and len(quiz.known) >= ENOUGH:
            row["ravel"] = ravel_score(
                quiz, sae.encode, sae.decode, draw.people, self.n_pairs, draw.seed
            )
            row["unlearning"] = unlearning_score(quiz, sae, draw.topic, draw.forget, draw.retain)
            row["facts"] = len(quiz.known)
        return row

    @torch.no_grad()
    def oracle(self, draw: Draw) -> dict[str, float]:
        """What raw activations reach in the place of latents, and SCR's `range`.

        Probes read the whole residual; SCR and TPP cut a probe's own direction, RAVEL exchanges
        principal components, unlearning clamps the direction of the topic. Without known facts:
        the first four alone.
        """
        (_, train, said), (_, test, test_said) = (
            self._samples(lambda x: x, text) for text in (draw.train, draw.test)
        )
        seed, d = draw.seed, train.x.shape[1]
        probed = sparse_probing(train.x, train.labels, test.x, test.labels, (d,), seed=seed)
        few, test_few = (each.at(each.labels < N_TPP) for each in (train, test))
        own, two = (
            _along(few, few.labels == torch.arange(N_TPP)[:, None]),
            _along(said, said.labels.T),
        )
        cut = scr(_on(two, said), _on(two, test_said), two, (1,), seed=seed)[0]
        row = {"sparse_probing": probed[d], "range": cut.clean - cut.base, "scr": cut.scores[1]}
        row["tpp"] = tpp(_on(own, few), _on(own, test_few), own, (1,), seed=seed).scores[1]
        if len(self.quiz.known) >= ENOUGH:
            x, rest = draw.topic
            Q = torch.linalg.svd(rest - rest.mean(0), full_matrices=False)[2].T
            swap = (lambda x: x @ Q), (lambda z: z @ Q.T)
            row["ravel"] = ravel_score(self.quiz, *swap, draw.people, self.n_pairs, seed)
            row["unlearning"] = unlearning_score(
                self.quiz, _topic_latent(x, rest), draw.topic, draw.forget, draw.retain
            )
        return row

    def _samples(self, encode: Edit, text: Documents) -> tuple[Tensor, Samples, Samples]:
        """Latents [n, context, d_sae]; pooled documents by topic, and by two attributes."""
        docs, _, x, mask = text
        acts = encode(x.flatten(0, 1)).view(*x.shape[:2], -1)
        pooled, topic = (mean_pool(x, mask), mean_pool(acts, mask)), torch.tensor(docs["topic"])
        other = topic % 2 == 0 if self.spurious == "topic" else torch.tensor(docs["past"])
        attributes = torch.stack([torch.tensor(docs["formal"]), other], dim=1)
        return acts, Samples(*pooled, topic), Samples(*pooled, attributes)

    def _text_scores(self, sae: SAE, draw: Draw) -> dict[str, float]:
        """Probing and TPP on topics, SCR on two attributes, explanations of live latents."""
        (acts, train, said), (_, test, test_said) = (
            self._samples(sae.encode, text) for text in (draw.train, draw.test)
        )
        few, test_few = (each.at(each.labels < N_TPP) for each in (train, test))
        W_dec, seed, n = sae.W_dec.detach(), draw.seed, self.n_cut
        probed = sparse_probing(train.acts, train.labels, test.acts, test.labels, KS, seed=seed)
        told = acts * draw.train.mask[..., None]
        judged = autointerp(
            told[..., told.flatten(0, 1).count_nonzero(0) >= FIRES],
            draw.predicates,
            reach=REACH,
            seed=seed,
        )
        return {
            "sparse_probing": probed[1],
            **{f"k={k}": probed[k] for k in KS},
            "scr": scr(said, test_said, W_dec, (n,), seed=seed)[0].scores[n],
            "tpp": tpp(few, test_few, W_dec, (n,), seed=seed).scores[n],
            "autointerp": float(judged.score.nanmean()),
            "floor": float(judged.floor.nanmean()),
        }


def _along(samples: Samples, classes: Iterable[Tensor]) -> Tensor:
    """The directions of a linear probe of each class as unit rows [k, d_in]."""
    return unit_rows(torch.stack([fit_probe(samples.x, c).w for c in classes])).float()


def _on(rows: Tensor, samples: Samples) -> Samples:
    """The samples with directions in the place of latents."""
    return samples._replace(acts=samples.x @ rows.T)


def _topic_latent(x: Tensor, rest: Tensor) -> SAE:
    """One latent: the topic's mean minus the rest's, silent on all but 0.05 % of the rest."""
    p = unit_rows((x.mean(0) - rest.mean(0))[None])
    sae = SAE(x.shape[1], 1, ReLU(), decoder_norm=1.0, subtract_b_dec=False)
    sae.W_dec.copy_(p)
    sae.W_enc.copy_(p.T)
    sae.b_enc.copy_(-(rest @ p.T).quantile(0.9995))
    return sae.eval()


def loss_recovered(ce_clean: float, ce_sae: float, ce_zero: float) -> float:
    """(CE_zero - CE_sae) / (CE_zero - CE_clean): 1 as without the SAE, 0 as with zeros.

    Mean cross entropies of one model on one text with the residual left alone, replaced by
    decode(encode(x)), and replaced by zeros, at every position. Below 0 where the SAE is worse
    than zeros. NaN when zeros cost nothing.
    """
    gap = ce_zero - ce_clean
    return (ce_zero - ce_sae) / gap if gap != 0 else math.nan


def _loss_recovered(subject: Subject, sae: SAE, rows: Tensor) -> float:
    def ce(edit: Edit) -> float:
        with edited(subject.model, subject.layer, "out", edit):
            return float(token_losses(subject.model, subject.test_ids[rows]).mean())

    def spliced(whole: Tensor) -> Tensor:
        x_hat = sae(whole.flatten(0, 1) / subject.scale).x_hat
        return x_hat.view_as(whole) * subject.scale

    clean, zero = ce(lambda whole: whole), ce(torch.zeros_like)
    return loss_recovered(clean, ce(spliced), zero)
