"""AlignSAE (arXiv:2512.02004): some latents are reserved, one per concept of a given ontology.

The last `n_slots` latents are the slots; the others are free. Labels are [batch, 2], relation and
answer, or wider where there are levels of concepts, from `Rows(x, labels=...)`. What an AlignSAE is
trained to minimise stands in `terms`, whether each relation drives its slot in `binding`, how slots
are written back into a language model in `steering`, and what counts as a success there in `swaps`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import rng
from ...activations import ReLU
from ...errors import DataError, ParameterError, message, whole
from ...sae import SAE

LINEAR_LAYER_NORM = 3**-0.5  # norm of a row of torch's nn.Linear at its start, whatever d_in


class AlignSAE(SAE):
    """An SAE whose last `n_slots` latents are reserved, and a small head behind each of them.

    The head of slot k predicts the answer of relation k from the slot's value alone:
    1 -> `d_head` (ReLU) -> `n_answers`. It learns together with the SAE and is otherwise unused.
    linear: no ReLU anywhere (the authors' code); by default slots and free latents are ReLU.
    """

    linear: Tensor  # a buffer, so that it is part of what is stored and of every key

    def __init__(
        self,
        d_in: int,
        d_sae: int,
        n_slots: int,
        n_answers: int,
        *,
        d_head: int = 32,
        linear: bool = False,
        seed: int = 0,
    ) -> None:
        # Paper: the input is neither centred nor scaled, W_dec starts as the transpose of W_enc.
        norm = LINEAR_LAYER_NORM
        super().__init__(d_in, d_sae, ReLU(), seed=seed, decoder_norm=norm, subtract_b_dec=False)
        if not 1 <= n_slots < d_sae:
            fix = "Leave some latents free: lower n_slots or raise d_sae."
            raise ParameterError(message("n_slots", n_slots, f"1 <= n_slots < d_sae={d_sae}", fix))
        whole("n_answers", n_answers, 1)
        whole("d_head", d_head, 1)
        self.n_slots, self.n_free = n_slots, d_sae - n_slots
        self.register_buffer("linear", torch.tensor(linear))

        def uniform(name: str, *shape: int, fan_in: int) -> nn.Parameter:
            numbers = torch.rand(*shape, generator=rng.stream(seed, "align", name))
            return nn.Parameter((2 * numbers - 1) * fan_in**-0.5)  # as nn.Linear starts

        self.head_in = uniform("in", n_slots, d_head, fan_in=1)
        self.head_in_bias = uniform("in bias", n_slots, d_head, fan_in=1)
        self.head_out = uniform("out", n_slots, d_head, n_answers, fan_in=d_head)
        self.head_out_bias = uniform("out bias", n_slots, n_answers, fan_in=d_head)

    @torch.no_grad()
    def select(self, pre_acts: Tensor) -> tuple[Tensor, float | Tensor | None]:
        gate, smallest = super().select(pre_acts)
        return torch.maximum(gate, self.linear.to(gate.dtype)), smallest

    @torch.no_grad()
    def fold_input_scale(self, factor: float) -> AlignSAE:
        """As for `SAE`, but latents keep their values, which the heads read. In place."""
        self.W_enc.mul_(factor)
        self.W_dec.div_(factor)
        self.b_dec.div_(factor)
        return self

    def slots(self, latents: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, n_slots]."""
        return latents[:, self.n_free :]

    def free(self, latents: Tensor) -> Tensor:
        """[batch, d_sae] -> [batch, n_free]."""
        return latents[:, : self.n_free]

    def answer_logits(self, relation: int, value: Tensor) -> Tensor:
        """What the head of one slot says: values [batch] -> [batch, n_answers]."""
        w_in, b_in = self.head_in[relation], self.head_in_bias[relation]  # [d_head]
        hidden = F.relu(torch.addcmul(b_in, value[:, None], w_in))
        return torch.addmm(self.head_out_bias[relation], hidden, self.head_out[relation])


def labels(
    relation: Tensor, answer: Tensor, n_relations: int, **levels: tuple[Tensor, int]
) -> Tensor:
    """[n, 2 + levels] int64 for `Rows(x, labels=...)`.

    levels: further concepts by name, [n] places and how many there are: the group of a relation,
    or what is no relation at all. Their slots follow those of the relations, see `terms.Binding`.
    Raises DataError for a concept outside the ontology, or one without any row: its slot would
    learn nothing.
    """
    for name, (places, n) in {"relation": (relation, n_relations), **levels}.items():
        for i, r in enumerate(places.tolist()):
            if not 0 <= r < n:
                allowed = f"0 <= {name} < {n}, the ontology"
                fix = f"Add the {name} to the ontology, or drop the row."
                raise DataError(message(f"{name} of row {i}", r, allowed, fix))
        if missing := set(range(n)) - set(places.tolist()):
            fix = "Ask about it, or take it out of the ontology."
            allowed = "none: each needs a training question"
            raise DataError(message(f"{name}s without a row", sorted(missing), allowed, fix))
    if len(answer) != len(relation) or bool((answer < 0).any()):
        allowed = f"{len(relation)} indices >= 0, one per row"
        raise DataError(message("answers", answer.tolist(), allowed, "Index them."))
    return torch.stack([relation, answer, *(each for each, _ in levels.values())], dim=1).long()
