"""Questions of a world as a language model reads them; answers as one tidy table.

    task = task_of(world)
    said = task.answered(model)                  # a row per question, index (split, person)
    todo = task.pick(said.right, 40, seed)       # which questions are asked, what is wanted
    new = task.rewritten(model, todo, {2.0: vectors}, site)  # index (alpha, person)

What varies at random (person) and what is set (alpha) stands in the index, what a row is about in
the columns: so `ledger.record(id, new.exact, by="alpha", cluster="person")` needs nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ... import rng
from ...errors import DataError, message
from ...lm import parts
from ...worlds.people import SPLITS, BiographyWorld, encode
from . import steering, swaps

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...worlds.favourites import FavouriteWorld

Rows = Sequence[int] | np.ndarray
SHORT = dict(zip(SPLITS, ("train", "held-out", "unseen", "unseen both"), strict=True))


@dataclass(frozen=True, eq=False)
class Task:
    """Every question of a world, as tokens and with its truth."""

    world: BiographyWorld | FavouriteWorld
    tokenizer: PreTrainedTokenizerBase
    table: pd.DataFrame
    """index split (values of SHORT), person; columns relation, wording, prompt, answer, taught"""
    prompts: list[list[int]]
    answers: list[list[int]]
    relation: Tensor
    """[n] places in `world.relations`"""
    first: Tensor
    """[n] the first token of each answer, as a place among the `n_first` that a head knows"""
    n_first: int

    def rows(self, split: str) -> np.ndarray:
        """Places of the questions of a split."""
        return np.flatnonzero(self.table.index.get_level_values("split") == split)

    def answered(self, model: PreTrainedModel, rows: Rows | None = None) -> pd.DataFrame:
        """`table`, or those rows of it, with what the model says and whether it is right."""
        rows = [int(i) for i in (range(len(self.prompts)) if rows is None else rows)]
        n_new = max(map(len, self.answers))
        prompts = [self.prompts[i] for i in rows]
        said = self._spoken(steering.answer(model, prompts, n_new, self.tokenizer.eos_token_id))
        frame = self.table.iloc[rows].assign(said=said)
        return frame.assign(right=swaps.exact(said, frame.answer).numpy())

    @cached_property
    def instead(self) -> list[list[str]]:
        """[n] the answers to each question if it asked about each of the relations in turn."""
        table = self.table.reset_index()
        keys = ["person", "wording"]
        asked = table.pivot(index=keys, columns="relation", values="answer")
        return asked.loc[table.set_index(keys).index].to_numpy().tolist()

    def lessons(self, n_questions: int, n_texts: int) -> list[parts.Part]:
        """Taught questions and biographies, so many a step, to train a language model on."""
        taught = np.flatnonzero(self.table.taught)
        asked = [self.prompts[i] for i in taught], [self.answers[i] for i in taught]
        found = [parts.answers(*asked, n_questions)]
        if n_texts and isinstance(self.world, BiographyWorld):  # no other world tells any
            told = self.tokenizer(list(self.world.biographies()["text"]))["input_ids"]
            found.append(parts.texts(told, n_texts))
        return found

    def pick(
        self, right: Sequence[bool], n: int, seed: int, draw: int = 0, split: str = "train"
    ) -> swaps.Swaps:
        """n rightly answered questions of a split, each with every other relation that can be told.

        right: of all questions. draw: each gives other questions. A person's second question comes
        after everyone's first. Raises DataError where the model answers fewer.
        """
        rows = [int(i) for i in self.rows(split) if right[i]]
        if len(rows) < n:
            allowed = f"at most {len(rows)}, the {split} questions that the model answers"
            raise DataError(message("n_swap", n, allowed, "Raise lm_steps, or lower n_swap."))
        order = torch.randperm(len(rows), generator=rng.stream(seed, "swap questions", split, draw))
        before, turn = Counter[int](), {}
        person = self.table.index.get_level_values("person").tolist()
        for q in (rows[i] for i in order.tolist()):
            turn[q] = before[person[q]]
            before[person[q]] += 1
        picked = sorted(turn, key=turn.__getitem__)[:n]
        return self.swapped(picked)

    def swapped(self, rows: Rows, targets: Sequence[int] | None = None) -> swaps.Swaps:
        """Questions, each with every other relation that can be told, or those of `targets`."""
        person = self.table.index.get_level_values("person").tolist()
        rows = [int(i) for i in rows]
        return swaps.all_swaps(rows, person, self.relation.tolist(), self.instead, targets)

    def kept(self, rows: Rows, touched: Tensor | None = None) -> swaps.Swaps:
        """Questions whose own answers are wanted, whatever is written. touched: [n] relations."""
        rows = [int(i) for i in rows]
        own, source = self.table.iloc[rows], self.relation[rows]
        people = own.index.get_level_values("person").tolist()
        target = source if touched is None else touched
        return swaps.Swaps(rows, people, source, target, own.answer.tolist())

    def outcomes(self, todo: swaps.Swaps, said: Sequence[str]) -> pd.DataFrame:
        """A row per swap, index person: question, source, target, wanted, said, exact, lenient."""
        import pandas as pd

        about = {"question": todo.question, "source": todo.source, "target": todo.target}
        about |= {"wanted": todo.wanted, "said": list(said)}
        about |= {"exact": swaps.exact(said, todo.wanted)}
        about |= {"lenient": swaps.lenient(said, todo.wanted)}
        return pd.DataFrame(about, index=pd.Index(todo.person, name="person"))

    def rewritten(
        self,
        model: PreTrainedModel,
        todo: swaps.Swaps,
        vectors: Mapping[Any, Tensor],
        site: int,
        where: steering.Where = "resid",
        names: Sequence[str] = ("alpha",),
    ) -> pd.DataFrame:
        """`outcomes` after {key: [swaps, d_model]} was written; keys are the index levels `names`.

        One call for all keys: what precedes the token that is written is computed once.
        """
        import pandas as pd

        n, which = len(todo.question), todo.question * len(vectors)
        n_new, eos = max(map(len, self.answers)), self.tokenizer.eos_token_id
        new = torch.cat(list(vectors.values()))
        said = self._spoken(
            steering.write(model, self.prompts, which, new, site, n_new, eos, where)
        )
        parts = {key: self.outcomes(todo, said[i * n :][:n]) for i, key in enumerate(vectors)}
        return pd.concat(parts, names=list(names))

    def tried(
        self,
        model: PreTrainedModel,
        todo: swaps.Swaps,
        handle: Callable[[float], Tensor],
        alphas: Sequence[float],
        site: int,
        also: Sequence[float] = (),
    ) -> pd.DataFrame:
        """`rewritten` at every strength, as far as `outcomes.tuned` reads it.

        handle: vectors [swaps, d_model] at a strength. People that choose are asked at all
        `alphas`, those that judge at the one that serves the former best, and at `also`.
        """
        import pandas as pd

        written, rows = {alpha: handle(alpha) for alpha in alphas}, swaps.choosing(todo.person)
        some, others = (swaps.only(todo, each) for each in (rows, ~rows))
        first = self.rewritten(model, some, {t: v[rows] for t, v in written.items()}, site)
        shares = first.groupby("alpha", sort=False).exact.mean()
        kept = dict.fromkeys([*also, shares.idxmax() if len(shares) else alphas[0]])
        last = self.rewritten(model, others, {t: written[t][~rows] for t in kept}, site)
        return pd.concat([first, last])

    def _spoken(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        return [self.tokenizer.decode(each).strip() for each in tokens]


def task_of(
    world: BiographyWorld | FavouriteWorld, model_name: str = "", head: str = "answers"
) -> Task:
    """The task of a world.

    model_name: a folder or hub name whose tokeniser is used in place of the world's own.
    head: what a value head chooses from, the first tokens of "answers" or the "vocabulary".
    """
    tokenizer = world.tokenizer()
    if model_name:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model_name, local_files_only=True)
    questions = world.questions()
    prompts, answers = encode(questions, tokenizer)
    first = sorted({answer[0] for answer in answers})
    if head == "vocabulary":
        first = list(range(len(tokenizer)))
    table = questions.to_pandas()
    table["split"] = table["split"].map(SHORT)
    return Task(
        world=world,
        tokenizer=tokenizer,
        table=table.set_index(["split", "person"]),
        prompts=prompts,
        answers=answers,
        relation=torch.tensor(table.relation.tolist()),
        first=torch.tensor([first.index(answer[0]) for answer in answers]),
        n_first=len(first),
    )
