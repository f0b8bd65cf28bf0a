"""Facts of a world asked of its language model, with the residual stream edited by an SAE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..lm.sites import edited, residual
from ..lm.subject import Subject
from ..sae import SAE
from .edits import Edit, make_pairs, ravel, unlearning

ENOUGH = 100  # known prompts; with fewer RAVEL and unlearning say nothing


class Quiz:
    """The facts of a subject's world as prompts; asked are those that the model completes."""

    def __init__(self, subject: Subject) -> None:
        assert subject.world is not None
        self.subject, self.world = subject, subject.world
        self.facts: Dataset = self.world.facts()
        prompts, answers = self.facts["prompt"], torch.tensor(self.facts["answer"])
        with torch.no_grad():
            parts = [self.logits(prompts[i : i + 512]) for i in range(0, len(prompts), 512)]
        said = torch.cat([logits.argmax(1) for logits in parts])
        self.known = (said == answers).nonzero().flatten()
        """[n_known] indices of the facts that the model completes correctly"""

    def logits(self, prompts: Sequence[Sequence[int]], edit: Edit | None = None) -> Tensor:
        """Next-token logits after each prompt [n, vocab]; `edit` acts on the raw residual."""
        table, last = padded(prompts), torch.tensor([len(each) - 1 for each in prompts])
        with edited(self.subject.model, self.subject.layer, "out", edit or (lambda x: x)):
            logits: Tensor = self.subject.model(input_ids=table).logits
        return logits[torch.arange(len(table)), last]

    @torch.no_grad()
    def accuracy(self, rows: Tensor, edit: Edit | None = None) -> float:
        """Share of some facts that is completed correctly."""
        asked = self.facts.select(rows)
        said = self.logits(asked["prompt"], edit).argmax(1)
        return float((said == torch.tensor(asked["answer"])).double().mean())


def padded(prompts: Sequence[Sequence[int]]) -> Tensor:
    """[n, longest] ids, 0 behind the end."""
    return pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)


def ravel_score(
    quiz: Quiz, encode: Edit, decode: Edit, rows: Tensor, n_pairs: int, seed: int
) -> float:
    """Exchange a person's city, job or animal through latents; mean of the three.

    At the last token: a middle block has moved attributes away from the name. rows: facts about
    people, by index. Doing nothing scores 1/2. See `edits.ravel`.
    """
    subject, chosen = quiz.subject, quiz.facts.select(rows)
    names = sorted(set(chosen["relation"]))
    relation = torch.tensor([names.index(each) for each in chosen["relation"]])
    entity, answer = torch.tensor(chosen["entity"]), torch.tensor(chosen["answer"])
    prompts = chosen["prompt"]
    place, table = torch.tensor([len(each) - 1 for each in prompts]), padded(prompts)
    with torch.no_grad():
        whole = residual(subject.model, table, None, subject.layer)
        acts = encode(whole[torch.arange(len(table)), place] / subject.scale)

    def logits_of(new: Tensor, index: Tensor) -> Tensor:
        def put(whole: Tensor) -> Tensor:
            at = (torch.arange(len(index)), place[index])
            return whole.index_put(at, new * subject.scale)

        return quiz.logits([prompts[i] for i in index.tolist()], put)

    found = []
    with torch.enable_grad():  # the mask over latents is trained
        for cause in range(len(names)):
            swaps = make_pairs(entity, relation, answer, cause, n_pairs, seed=seed)
            found.append(ravel(acts, decode, swaps, logits_of, seed=seed).disentangle)
    return sum(found) / len(found)


def unlearning_score(
    quiz: Quiz, sae: SAE, acts: Sequence[Tensor], forget: Tensor, retain: Tensor
) -> float:
    """Forget one topic, keep the facts of the others; BOS is left alone. See `edits.unlearning`.

    acts: [n_tokens, d_in] activations on texts of the topic and of all others; forget, retain:
    facts by index.
    """
    scale = quiz.subject.scale

    def accuracy_under(edit: Edit) -> tuple[float, float]:
        def beyond_bos(whole: Tensor) -> Tensor:
            return torch.cat([whole[:, :1], edit(whole[:, 1:] / scale) * scale], dim=1)

        return quiz.accuracy(forget, beyond_bos), quiz.accuracy(retain, beyond_bos)

    with torch.no_grad():
        on_forget, on_retain = map(sae.encode, acts)
    return unlearning(sae, on_forget, on_retain, accuracy_under)[0]
