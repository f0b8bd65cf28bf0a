"""A world of many relations: what is the X of N ? Answers have a type and a register.

    world = FavouriteWorld(n_relations=24)
    questions = world.questions()            # every person, relation and wording, with its split
    world.forms["bofu-desu"]                 # the same value in the other register: bofu-da

For the question how many concepts an ontology may have (AlignSAE, arXiv:2512.02004, names hundreds
as open) the number of relations varies and the number of facts does not: fewer people are asked
about. Relations come in groups whose values are drawn from one list, a type: an ontology of two
levels. Half of the wordings are polite and half plain, which shows in the ending of the answer and
in nothing else: a concept that is no relation. One token is one word, as in `people`, and as there
the first half of the people, the known ones, are never asked in the wordings that are held out.
"""

from __future__ import annotations

from itertools import product

from datasets import Dataset

from ..errors import ParameterError, message, whole
from .engine import World, between, chance, columns, unique
from .people import SPLITS, SYLLABLES, TRAIN_WORDINGS

QUESTION = columns(
    "person:int relation:int wording:int prompt:text answer:text split:text taught:flag"
    " group:int register:int"
)
REGISTERS = {"plain": "-da", "polite": "-desu"}  # and how an answer ends
# All of one length. X, the relation, stands in two places in each register, so that its place tells
# neither. SAEs are trained on the first two of each register.
WORDINGS = (
    "hey what is the X of N then ?|so come on name the X of N .|"
    "tell me now the X of N again .|well say what is the X of N ?",
    "please would you say the X of N ?|sir kindly state the X of N today .|"
    "pardon me what is the X of N ?|might one learn the X of N today ?",
)
N_NAMES = 20  # first names, and last names


class FavouriteWorld(World):
    """`n_facts` = people times `n_relations`; a pure function of the arguments.

    n_groups: lists of `n_values` values each; relation r is of group r % n_groups. A value is drawn
    uniformly and independently. Raises ParameterError where numbers do not divide, or fewer than
    four people are left: two known ones, of whom one chooses and one judges, and two others.

    relations: names; a place in it is a slot. values [person][relation]: stems of answers.
    kinds, forms: of each word that can be an answer the group, and its other register's form.
    """

    def __init__(
        self,
        n_relations: int = 24,
        n_facts: int = 1152,
        n_groups: int = 6,
        n_values: int = 12,
        seed: int = 0,
    ) -> None:
        whole("n_groups", n_groups, 1)
        between("n_values", n_values, 2, 100)
        between("n_relations", n_relations, n_groups, len(SYLLABLES) ** 2 // 4)
        n_people, left = divmod(n_facts, n_relations)
        if n_relations % n_groups or left or not 4 <= n_people <= N_NAMES**2 // 2:
            seen = f"{n_facts} facts, {n_relations} relations, {n_groups} groups"
            allowed = f"multiples of each other, and 4 to {N_NAMES**2 // 2} people"
            fix = "People are facts / relations, groups share relations evenly."
            raise ParameterError(message("n_facts, n_relations, n_groups", seen, allowed, fix))
        self.n_groups, self.n_known, self.seed = n_groups, n_people // 2, seed
        stems = self._stems(n_groups * (1 + n_values) + 2 * N_NAMES)
        names = [stems.pop().capitalize() for _ in range(2 * N_NAMES)]
        types = [stems.pop() for _ in range(n_groups)]
        lists = [stems[g * n_values :][:n_values] for g in range(n_groups)]
        places = range(n_relations)
        self.relations = tuple(f"{types[r % n_groups]}-{r // n_groups + 1}" for r in places)
        draw = chance(seed, "favourites", "people")
        both = draw.sample([*product(names[:N_NAMES], names[N_NAMES:])], n_people)
        self.people = tuple(map(" ".join, both))
        self.values = [[draw.choice(lists[r % n_groups]) for r in places] for _ in self.people]
        plain, polite = REGISTERS.values()
        every = [(stem, g) for g, each in enumerate(lists) for stem in each]
        self.kinds = {stem + end: g for stem, g in every for end in (plain, polite)}
        pairs = [(stem + plain, stem + polite) for stem, _ in every]
        self.forms = {word: other for a, b in pairs for word, other in ((a, b), (b, a))}
        texts = "|".join(WORDINGS).replace("|", " ")
        words = unique("Q: A:", texts, *self.relations, *names, *self.kinds, slots="X N")
        self.words = ("<pad>", "<eos>", "<unk>", *words)

    def questions(self) -> Dataset:
        """Every person, relation and wording, in this order; columns as in `people`, and two more.

        wording: 0 to 3 plain, 4 to 7 polite. group: of the relation. register: 0 plain, 1 polite.
        """
        wordings = [text for each in WORDINGS for text in each.split("|")]
        each_way = len(wordings) // len(WORDINGS)
        places = product(range(len(self.people)), range(len(self.relations)), range(len(wordings)))
        endings, rows = tuple(REGISTERS.values()), []
        for i, relation, wording in places:
            known, register = i < self.n_known, wording // each_way
            usual = wording % each_way in TRAIN_WORDINGS
            slots = {"X": self.relations[relation], "N": self.people[i]}
            said = " ".join(slots.get(word, word) for word in wordings[wording].split())
            rows.append(
                {
                    "person": i,
                    "relation": relation,
                    "wording": wording,
                    "prompt": f"Q: {said} A:",
                    "answer": self.values[i][relation] + endings[register],
                    "split": SPLITS[2 * (not known) + (not usual)],
                    "taught": usual or not known,
                    "group": relation % self.n_groups,
                    "register": register,
                }
            )
        return Dataset.from_list(rows, features=QUESTION)

    def _stems(self, n: int) -> list[str]:
        """Made-up words, all different."""
        pairs = ["".join(pair) for pair in product(SYLLABLES, SYLLABLES)]
        return chance(self.seed, "favourites", "words").sample(pairs, n)
