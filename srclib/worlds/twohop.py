"""The two-hop world of AlignSAE: who is the boss of the friend of anna?

    world = TwoHopWorld()
    facts = world.facts()              # friend of anna is carla
    questions = world.questions()      # Q: boss of friend of anna A: carla dora
    steps = world.steps(questions)     # two prompts for each question, each with its relation

As in the paper (arXiv 2512.02004, v3) every fact is stated to the language model, questions only
for some pairs of relations; the others say whether it composes facts. The answer names the entity
in the middle first, so that each of its words follows from one relation: a slot's label.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from datasets import Dataset

from .. import rng
from .engine import World, between, columns, unique, words_of

RELATIONS, NAMES = unique(words_of("people")["hops"]), unique(words_of("text")["names"])
SPLITS = ("train", "held out")
FACT = columns("text:text prompt:ints answer:ints relation:int entity:int target:int")
QUESTION = columns(
    "text:text prompt:ints answer:ints entity_1:int relation_1:int entity_2:int relation_2:int"
    " entity_3:int split:text"
)
STEP = columns("prompt:ints question:int step:int relation:int answer:int split:text")


class TwoHopWorld(World):
    """Relations between entities; everything is a pure function of the arguments.

    Each relation leads from every entity to exactly one other and to each from exactly one (a
    permutation without fixed points), so guessing is right once in `n_entities` times, whatever
    is asked. After every first hop `n_asked` second relations are asked (all of them by default),
    `n_held_out` of these in no training question; a larger number holds out those of a smaller
    one as well. Raises ParameterError.

    entities, relations: names; a place in `relations` (the ontology) is a slot.
    entity_ids: the token id of each entity.
    """

    def __init__(
        self,
        seed: int = 0,
        n_entities: int = 16,
        n_relations: int = 8,
        n_held_out: int = 2,
        n_asked: int | None = None,
    ) -> None:
        asked = n_relations if n_asked is None else n_asked
        between("n_entities", n_entities, 3, len(NAMES))
        between("n_relations", n_relations, 2, len(RELATIONS))
        between("n_asked", asked, 2, n_relations)
        between("n_held_out", n_held_out, 1, asked - 1)
        self.seed, self.n_held_out, self.n_asked = seed, n_held_out, asked
        self.entities, self.relations = NAMES[:n_entities], RELATIONS[:n_relations]
        self.words = (
            "<pad>",
            "<eos>",
            "<unk>",
            "Q:",
            "A:",
            "of",
            "is",
            *self.relations,
            *self.entities,
        )
        self.entity_ids = range(len(self.words) - n_entities, len(self.words))
        self._map = [self._derangement(relation) for relation in range(n_relations)]

    def follow(self, relation: int, entity: int) -> int:
        """Where a relation leads from an entity; all three are places in their lists."""
        return self._map[relation][entity]

    def facts(self) -> Dataset:
        """Every fact: `friend of anna is` | `carla`.

        Columns: text; prompt and answer (token ids); relation, entity, target (places).
        """
        rows = []
        for relation, entity in product(range(len(self.relations)), range(len(self.entities))):
            target = self.follow(relation, entity)
            row = self._say(f"{self.relations[relation]} of {self.entities[entity]} is", target)
            rows.append({"relation": relation, "entity": entity, "target": target} | row)
        return Dataset.from_list(rows, features=FACT)

    def questions(self) -> Dataset:
        """Every question: `Q: boss of friend of anna A:` | `carla dora`.

        Here friend is relation_1, carla entity_2, boss relation_2: friend is followed first.
        Columns: text; prompt and answer (token ids); entity_1, relation_1, entity_2, relation_2,
        entity_3 (places); split (one of SPLITS).
        """
        rows = []
        for e1, r1 in product(range(len(self.entities)), range(len(self.relations))):
            e2, asked = self.follow(r1, e1), self._seconds(e1, r1)
            for r2 in sorted(asked):
                e3, held_out = self.follow(r2, e2), r2 in asked[: self.n_held_out]
                prompt = (
                    f"Q: {self.relations[r2]} of {self.relations[r1]} of {self.entities[e1]} A:"
                )
                places = {"entity_1": e1, "relation_1": r1, "entity_2": e2}
                places |= {"relation_2": r2, "entity_3": e3}
                rows.append(self._say(prompt, e2, e3) | places | {"split": SPLITS[held_out]})
        return Dataset.from_list(rows, features=QUESTION)

    def steps(self, questions: Dataset) -> Dataset:
        """Where a language model takes each of the two steps, and the relation it follows there.

        Two rows per question: the prompts end before entity_2, which follows from relation_1, and
        before entity_3, which follows from relation_2.
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

    def _derangement(self, relation: int) -> list[int]:
        """Uniform over the permutations without fixed points: one draw in e hits."""
        generator = rng.stream(self.seed, "two-hop world", "relation", relation)
        here = torch.arange(len(self.entities))
        while True:
            there = torch.randperm(len(here), generator=generator)
            if not (there == here).any():
                return there.tolist()

    def _seconds(self, entity: int, relation: int) -> list[int]:
        """The second relations asked after a first hop; those held out come first."""
        generator = rng.stream(self.seed, "two-hop world", "held out", entity, relation)
        order = torch.randperm(len(self.relations), generator=generator)
        return order[: self.n_asked].tolist()

    def _say(self, prompt: str, *answer: int) -> dict[str, Any]:
        words = [self.entities[entity] for entity in answer]
        return {
            "text": " ".join([prompt, *words]),
            "prompt": [self.ids[word] for word in prompt.split()],
            "answer": [self.ids[word] for word in words],
        }
