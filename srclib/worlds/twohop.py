"""The two-hop world of AlignSAE: who is the boss of the friend of anna?

    world = TwoHopWorld()
    facts = world.facts()              # friend of anna is carla
    questions = world.questions()      # Q: boss of friend of anna A: carla dora
    steps = world.steps(questions)     # two prompts for each question, each with its relation

As in the paper (arXiv 2512.02004, v3) every fact is stated to the language model, questions only
for some pairs of relations; the others say whether it composes facts. The answer names the entity
in the middle first, so that each of its words follows from one relation: a slot's label. Without
this bridge a model has to take the first step by itself, and generalises late (grokking).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from datasets import Dataset

from .. import rng
from .engine import World, between, columns, one_of, words_of

RELATIONS = words_of("people")["hops"].split()
NAMES = words_of("text")["names"].split()
SPECIALS = ("<pad>", "<eos>", "<unk>")
SPLITS = ("train", "held out")
FACT = columns("text:text prompt:ints answer:ints relation:int entity:int target:int")
QUESTION = columns(
    "text:text prompt:ints answer:ints entity_1:int relation_1:int entity_2:int relation_2:int"
    " entity_3:int split:text"
)
STEP = columns("prompt:ints question:int step:int relation:int answer:int split:text")


@dataclass(frozen=True)
class TwoHopWorld(World):
    """Relations between entities; everything is a pure function of the fields.

    Each relation leads from every entity to exactly one other and to each from exactly one (a
    permutation without fixed points), so guessing is right once in `n_entities` times, whatever
    is asked. After every first hop `n_asked` second relations are asked (all of them by default),
    `n_held_out` of these in no training question; a larger number holds out those of a smaller
    one as well.

    bridge: the answer names the entity in the middle before the last one; else the last alone.

    Raises ParameterError.
    """

    seed: int = 0
    n_entities: int = 16
    n_relations: int = 8
    n_held_out: int = 2
    bridge: bool = True
    n_asked: int | None = None

    def __post_init__(self) -> None:
        rng.derive(self.seed)  # refuses what is no seed
        between("n_entities", self.n_entities, 3, len(NAMES))
        between("n_relations", self.n_relations, 2, len(RELATIONS))
        between("n_asked", self._n_asked, 2, self.n_relations)
        between("n_held_out", self.n_held_out, 1, self._n_asked - 1)
        one_of("bridge", self.bridge, (True, False))

    @property
    def entities(self) -> tuple[str, ...]:
        return tuple(NAMES[: self.n_entities])

    @property
    def relations(self) -> tuple[str, ...]:
        """The ontology: a relation's place in it is its slot."""
        return tuple(RELATIONS[: self.n_relations])

    @cached_property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        """GPT-2 has no BOS."""
        return (*SPECIALS, "Q:", "A:", "of", "is", *self.relations, *self.entities)

    @property
    def entity_ids(self) -> range:
        """The token id of each entity, in the order of `entities`."""
        return range(len(self.words) - self.n_entities, len(self.words))

    def follow(self, relation: int, entity: int) -> int:
        """Where a relation leads from an entity; all three are places in their lists."""
        return self._map[relation][entity]

    def facts(self) -> Dataset:
        """Every fact: `friend of anna is` | `carla`.

        Columns: text; prompt and answer (token ids); relation, entity, target (places).
        """
        rows = []
        for relation, name in enumerate(self.relations):
            for entity, subject in enumerate(self.entities):
                target = self.follow(relation, entity)
                row: dict[str, Any] = {"relation": relation, "entity": entity, "target": target}
                rows.append(row | self._say(f"{name} of {subject} is", [target]))
        return Dataset.from_list(rows, features=FACT)

    def questions(self) -> Dataset:
        """Every question: `Q: boss of friend of anna A:` | `carla dora`.

        Here friend is relation_1, carla entity_2, boss relation_2: friend is followed first.
        Columns: text; prompt and answer (token ids); entity_1, relation_1, entity_2, relation_2,
        entity_3 (places); split (one of SPLITS).
        """
        rows = []
        for e1, subject in enumerate(self.entities):
            for r1, first in enumerate(self.relations):
                e2, held_out = self.follow(r1, e1), self._seconds(e1, r1)[: self.n_held_out]
                for r2 in sorted(self._seconds(e1, r1)):
                    e3 = self.follow(r2, e2)
                    prompt = f"Q: {self.relations[r2]} of {first} of {subject} A:"
                    row = self._say(prompt, [e2, e3] if self.bridge else [e3])
                    row |= {"entity_1": e1, "relation_1": r1, "entity_2": e2}
                    row |= {"relation_2": r2, "entity_3": e3, "split": SPLITS[r2 in held_out]}
                    rows.append(row)
        return Dataset.from_list(rows, features=QUESTION)

    def steps(self, questions: Dataset) -> Dataset:
        """Where a language model takes each of the two steps, and the relation it follows there.

        Two rows per question. With `bridge` the prompts end before entity_2, which follows from
        relation_1, and before entity_3, which follows from relation_2. Without it they end with
        entity_1, where entity_2 can be found but is not said, and before entity_3.
        Columns: prompt (token ids; an SAE reads the last), relation (its label), answer (the
        token id of the entity found), question (a place in `questions`), step (0 or 1), split.
        """
        rows = []
        for i, row in enumerate(questions):
            before = row["prompt"] + row["answer"][:-1]
            for step, prompt in enumerate((before[:-1], before)):
                found = self.entity_ids[row[f"entity_{step + 2}"]]
                label = {"relation": row[f"relation_{step + 1}"], "answer": found}
                where = {"question": i, "step": step, "split": row["split"]}
                rows.append({"prompt": prompt} | label | where)
        return Dataset.from_list(rows, features=STEP)

    @cached_property
    def _map(self) -> tuple[list[int], ...]:
        """For each relation, where it leads from each entity."""
        return tuple(self._derangement(relation) for relation in range(self.n_relations))

    def _derangement(self, relation: int) -> list[int]:
        """Uniform over the permutations without fixed points: one draw in e hits."""
        generator = rng.stream(self.seed, "two-hop world", "relation", relation)
        here = torch.arange(self.n_entities)
        while True:
            there = torch.randperm(self.n_entities, generator=generator)
            if not (there == here).any():
                return there.tolist()

    @property
    def _n_asked(self) -> int:
        return self.n_relations if self.n_asked is None else self.n_asked

    def _seconds(self, entity: int, relation: int) -> list[int]:
        """The second relations asked after a first hop; those held out come first."""
        generator = rng.stream(self.seed, "two-hop world", "held out", entity, relation)
        order = torch.randperm(self.n_relations, generator=generator)
        return order[: self._n_asked].tolist()

    def _say(self, prompt: str, answer: Iterable[int]) -> dict[str, Any]:
        words = [self.entities[entity] for entity in answer]
        return {
            "text": " ".join([prompt, *words]),
            "prompt": [self.ids[word] for word in prompt.split()],
            "answer": [self.ids[word] for word in words],
        }
