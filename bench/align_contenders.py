"""Who takes part in the benchmark of AlignSAE: the authors' form of a step, and srclib's.

All start from the same weights and read the same batches. The stage-2 loss of both: squared error
+ 1e-3 L1 + binding + 1e-2 cross-covariance + 0.5 cross entropy of the answer. Neither clips.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srclib import rng
from srclib.methods.alignsae import AlignSAE, terms
from srclib.metrics import fvu
from srclib.sources import Rows
from srclib.training.config import TrainConfig
from srclib.training.step import update
from srclib.training.trainer import start

D_IN, N_FREE, N_SLOTS, D_HEAD, N_BATCH, LR = 768, 100_000, 6, 256, 64, 1e-3
N_IDS = 50_257  # GPT-2's vocabulary: what the published heads choose among
N_ANSWERS = 300  # first tokens that do occur as answers: what ours choose among
N_ROWS = 512


def data(split: str) -> tuple[Tensor, Tensor]:
    """x [N_ROWS, D_IN] around one centre per relation; relation and answer [N_ROWS, 2]."""
    draw = rng.stream(0, "bench align", split)
    labels = torch.stack(
        [torch.randint(n, (N_ROWS,), generator=draw) for n in (N_SLOTS, N_ANSWERS)], dim=1
    )
    centres = rng.normals(0, "bench align", "centres", shape=(N_SLOTS, D_IN))
    noise = rng.normals(0, "bench align", "noise", split, shape=(N_ROWS, D_IN))
    return centres[labels[:, 0]] + noise, labels


def batches() -> Rows:
    x, labels = data("train")
    return Rows(x, labels=labels)


def new_sae(linear: bool, n_answers: int) -> AlignSAE:
    """Scaled so that linear latents reconstruct their input, as stage 1 would have taught them."""
    sizes = (D_IN, N_FREE + N_SLOTS, N_SLOTS, n_answers)
    sae = AlignSAE(*sizes, d_head=D_HEAD, linear=linear, seed=0)
    with torch.no_grad():
        scale = (D_IN / sae.W_dec.square().sum()) ** 0.5  # then W_enc W_dec is about the identity
        sae.W_enc.mul_(scale)
        sae.W_dec.mul_(scale)
    return sae


class Srclib:
    """`srclib.train`, step by step.

    linear: no ReLU and binding by squared error, as the authors' code.
    """

    def __init__(
        self, linear: bool = False, n_answers: int = N_ANSWERS, independence: float = 0.0
    ) -> None:
        form: Any = "mse" if linear else "ce_pre"
        self.source, self.cfg = batches(), TrainConfig(1000, N_BATCH, LR, clip=math.inf)
        objective = terms.objective(0, form=form, independence=independence)
        self.sae = new_sae(linear, n_answers)
        self.state = start([self.sae], self.cfg, objective)

    def step(self) -> float:
        update(self.state, self.state.step, self.source, self.cfg)
        return sum(float(loss) for loss in self.state.members[0].newest.losses.values())

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.sae(x)
        return out.x_hat, self.sae.slots(out.pre_acts)


class Authors:
    """Linear latents, a head over the whole vocabulary called once per input, AdamW."""

    n_answers = N_IDS

    def __init__(self) -> None:
        self.source, self.steps = batches(), 0
        sae = new_sae(linear=True, n_answers=N_IDS)
        with torch.device("meta"):  # the weights come from `sae`: no second set of them
            self.encoder = nn.Linear(D_IN, N_FREE + N_SLOTS)
            self.decoder = nn.Linear(N_FREE + N_SLOTS, D_IN)
            heads = [
                nn.Sequential(nn.Linear(1, D_HEAD), nn.ReLU(), nn.Linear(D_HEAD, N_IDS))
                for _ in range(N_SLOTS)
            ]
        _fill(self.encoder, sae.W_enc.T, sae.b_enc)
        _fill(self.decoder, sae.W_dec.T, sae.b_dec)
        for k, head in enumerate(heads):
            _fill(head[0], sae.head_in[k][:, None], sae.head_in_bias[k])
            _fill(head[2], sae.head_out[k].T, sae.head_out_bias[k])
        self.heads = nn.ModuleList(heads)
        modules = (self.encoder, self.decoder, self.heads)
        self.adam = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=LR)

    def step(self) -> float:
        x = self.source.batch(self.steps, N_BATCH)
        labels = self.source.labels(self.steps, N_BATCH)
        assert labels is not None
        relation, answer = labels.T
        self.steps += 1
        z = self.encoder(x)  # [batch, N_FREE + N_SLOTS]
        free, slots = z[:, :N_FREE], z[:, N_FREE:]
        loss = F.mse_loss(self.decoder(z), x) + 1e-3 * free.abs().mean()
        loss = loss + F.mse_loss(slots, F.one_hot(relation, N_SLOTS).float())
        # independence is left out, as in the authors' code above 10,000 free latents
        cross = (slots - slots.mean(dim=0)).T @ (free - free.mean(dim=0)) / len(x)
        loss = loss + 1e-2 * cross.square().sum()
        logits = [self.heads[r](slots[i, r].view(1, 1)) for i, r in enumerate(relation.tolist())]
        loss = loss + 0.5 * F.cross_entropy(torch.cat(logits), answer)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.item()

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x)
        return self.decoder(z), z[:, N_FREE:]


def _fill(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    layer.bias = nn.Parameter(bias.detach().clone())


@torch.no_grad()
def evaluate(contender: Srclib | Authors) -> tuple[float, float]:
    """FVU and slot accuracy on inputs that no step reads."""
    x, labels = data("test")
    x_hat, slots = contender.read(x)
    return float(fvu(x, x_hat)), float((slots.argmax(dim=1) == labels[:, 0]).float().mean())
