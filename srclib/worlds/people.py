"""The biography world of AlignSAE: made-up people, questions about them, and their splits.

    world = draw_world(n_known=36, n_other=24)
    questions = world.questions()            # every person, relation and wording, with its split
    tokenizer = world.tokenizer()            # one token per word

A language model cannot know beforehand that two wordings ask the same. So people are of two groups
(section 8 of our specification): the known ones are asked in wordings 0 and 1 only, the others in
all four, from which the model learns what the held-out wordings mean. Names and values are made of
syllables, so no language model knows them beforehand; a value is one word, except dates.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from ..errors import DataError, message, whole
from .engine import World, between, chance, columns, fill, one_of, unique, words_of

Grammar = Literal["plain", "paired"]
SPECIALS = ("<pad>", "<eos>", "<unk>")
SPLITS = ("train", "held-out wording", "unseen people", "unseen both")
QUESTION = columns(
    "person:int relation:int wording:int prompt:text answer:text split:text taught:flag"
)
WORDS = words_of("people")
RELATIONS = tuple(WORDS["relations"])
ENDINGS = {kind: endings.split() for kind, endings in WORDS["endings"].items()}
MONTHS, COLOURS, NUMBERS = (WORDS[name].split() for name in ("months", "colours", "numbers"))
DAYS, YEARS = range(1, 29), range(1950, 2006)
N_WORDINGS, TRAIN_WORDINGS = 4, (0, 1)
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
MOST_WORDS = 2000  # per ending; there are 4,970 stems, and a draw must find a new one soon


class Person(NamedTuple):
    """`name` (first, middle, last) is unique; `values` are the answers in order of RELATIONS."""

    name: str
    values: tuple[str, ...]
    pronoun: str


@dataclass(frozen=True)
class ListSizes:
    """How many different names and values people are drawn from; the paper's sizes on request."""

    first: int = 40
    middle: int = 40
    last: int = 80
    city: int = 30
    university: int = 30
    major: int = 24
    employer: int = 30

    def __post_init__(self) -> None:
        for kind, size in asdict(self).items():
            between(kind, size, 2, MOST_WORDS * len(ENDINGS[kind]))


def word_lists(sizes: ListSizes, seed: int) -> dict[str, list[str]]:
    """Different made-up words for each field of `sizes`; no word is in two lists."""
    taken: set[str] = set()
    lists: dict[str, list[str]] = {}
    for kind, endings in ENDINGS.items():
        draw = chance(seed, "biographies", "words", kind)
        lists[kind] = []
        while len(lists[kind]) < getattr(sizes, kind):
            stem = "".join(draw.choices(SYLLABLES, k=draw.choice((1, 2, 2))))
            word = (stem + draw.choice(endings)).capitalize()
            if word not in taken:
                taken.add(word)
                lists[kind].append(word)
    return lists


def draw_people(n: int, sizes: ListSizes, seed: int) -> tuple[Person, ...]:
    """`n` people with different names; person i does not depend on n.

    The work city is that of the employer; everything else is drawn uniformly and independently.
    Raises ParameterError where there are not enough names: beyond half of all, new ones are hard
    to find.
    """
    between("n people", n, 1, sizes.first * sizes.middle * sizes.last // 2)
    lists = word_lists(sizes, seed)
    draw = chance(seed, "biographies", "employers")
    seat = {employer: draw.choice(lists["city"]) for employer in lists["employer"]}
    people: dict[str, Person] = {}
    draw = chance(seed, "biographies", "people")
    while len(people) < n:
        name = " ".join(draw.choice(lists[kind]) for kind in ("first", "middle", "last"))
        date = f"{draw.choice(DAYS)} {draw.choice(MONTHS)} {draw.choice(YEARS)}"
        drawn = [draw.choice(lists[kind]) for kind in ("city", "university", "major", "employer")]
        pronoun = draw.choice(("he", "she"))
        people.setdefault(name, Person(name, (date, *drawn, seat[drawn[-1]]), pronoun))
    return tuple(people.values())


def draw_world(
    n_known: int = 36,
    n_other: int = 24,
    sizes: ListSizes | None = None,
    grammar: Grammar = "plain",
    n_bios: int = 5,
    seed: int = 0,
) -> BiographyWorld:
    """A world of made-up people; arguments as for `BiographyWorld` and `ListSizes`."""
    people = draw_people(n_known + n_other, sizes or ListSizes(), seed)
    return BiographyWorld(people, n_known, grammar, n_bios, seed)


@dataclass(frozen=True)
class BiographyWorld(World):
    """People, the first `n_known` of whom are the SAE's; texts are a pure function of the fields.

    grammar: "plain", where words of the question name the relation, or "paired", where two
        separated words decide it together and each alone says nothing.
    n_bios: tellings of each person's biography.

    Raises ParameterError, DataError (a person twice, a person with a missing value).
    """

    people: tuple[Person, ...]
    n_known: int
    grammar: Grammar = "plain"
    n_bios: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.people)
        between("n_known", self.n_known, 1, len(self.people))
        one_of("grammar", self.grammar, get_args(Grammar))
        whole("n_bios", self.n_bios, 1)

    @property
    def relations(self) -> tuple[str, ...]:
        return RELATIONS

    @cached_property
    def words(self) -> tuple[str, ...]:  # type: ignore[override]
        """GPT-2 has no BOS."""
        kinds, plain = WORDS["relations"].values(), self.grammar == "plain"
        texts = ["Q: A: .", *(text for kind in kinds for text in kind["sentences"])]
        texts += [text for kind in kinds for text in kind["questions"] if plain]
        texts += [] if plain else [WORDS["paired"], *COLOURS, *NUMBERS]
        said = [text for each in self.people for text in (each.pronoun, each.name, *each.values)]
        # A person's initial may be the letter of a place.
        written = {*unique(*texts, slots="N P V COLOUR NUMBER"), *unique(*said)}
        return (*SPECIALS, *sorted(written))

    def questions(self) -> Dataset:
        """Every person, relation and wording, in this order.

        Columns: person, relation (a place in `relations`), wording, prompt (`Q: ... A:`), answer,
        split (one of SPLITS), taught (whether the language model is trained on its answer: not
        the held-out wordings of known people).
        """
        places = itertools.product(
            range(len(self.people)), range(len(RELATIONS)), range(N_WORDINGS)
        )
        return Dataset.from_list([self._question(*place) for place in places], features=QUESTION)

    def _question(self, i: int, relation: int, wording: int) -> dict[str, object]:
        person, known, usual = self.people[i], i < self.n_known, wording in TRAIN_WORDINGS
        if self.grammar == "plain":
            text = WORDS["relations"][RELATIONS[relation]]["questions"][wording]
        else:
            text = WORDS["paired"]
        colour = (relation + wording) % len(COLOURS)
        number = (relation - colour) % len(NUMBERS)
        said = _said(text, N=person.name, COLOUR=COLOURS[colour], NUMBER=NUMBERS[number])
        return {
            "person": i,
            "relation": relation,
            "wording": wording,
            "prompt": f"Q: {said} A:",
            "answer": person.values[relation],
            "split": SPLITS[2 * (not known) + (not usual)],
            "taught": usual or not known,
        }

    def biographies(self) -> Dataset:
        """`n_bios` tellings of every person. Columns: person, variant, text."""
        rows = [
            {"person": i, "variant": v, "text": self._biography(person, v)}
            for i, person in enumerate(self.people)
            for v in range(self.n_bios)
        ]
        return Dataset.from_list(rows)

    def _biography(self, person: Person, variant: int) -> str:
        """The birth date first and by name, the rest shuffled, one of them twice."""
        draw = chance(self.seed, "biographies", "text", person.name, variant)
        rest = list(range(1, len(RELATIONS)))
        rest.append(draw.choice(rest))
        draw.shuffle(rest)
        text = ""
        for relation in (0, *rest):
            said = draw.choice(WORDS["relations"][RELATIONS[relation]]["sentences"])
            subject = person.pronoun if relation else person.name
            text += _said(said, P=subject, V=person.values[relation]) + " . "
        return text.rstrip()

    def values(self, relation: int) -> set[str]:
        """Every value of a relation, for the question whether an answer keeps its type."""
        return {person.values[relation] for person in self.people}


def encode(
    questions: Dataset, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of prompts and of answers, the latter with the end-of-text token.

    For GPT-2's own tokenizer an answer starts with a space, as in the authors' code. Raises
    DataError naming the question whose answer is not in the vocabulary.
    """
    prompts: list[list[int]] = tokenizer(list(questions["prompt"]))["input_ids"]
    texts = [" " + answer for answer in questions["answer"]]
    answers: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}  # GPT-2 has one for both
    for i, answer in enumerate(answers):
        if not answer or unknown & {*answer}:
            fix = "Use the tokenizer of this world."
            seen = questions[i]["answer"]
            raise DataError(message(f"answer of question {i}", seen, "in the vocabulary", fix))
    return prompts, [[*answer, int(tokenizer.eos_token_id)] for answer in answers]


def _said(text: str, **slots: str) -> str:
    return " ".join(fill(text, {name: (value,) for name, value in slots.items()}, str))


def _check(people: Sequence[Person]) -> None:
    """Raises DataError without people, for a name twice, or for another number of values."""
    if not people:
        raise DataError(message("people", 0, "at least one person", "Add some."))
    seen: dict[str, int] = {}
    for i, person in enumerate(people):
        if seen.setdefault(person.name, i) != i:
            fix = "A question names its person by the name alone: rename one of them."
            allowed = f"a name of its own (person {seen[person.name]} has it already)"
            raise DataError(message(f"person {i}", person.name, allowed, fix))
        if len(person.values) != len(RELATIONS) or not all(person.values):
            allowed = f"one text for each of {', '.join(RELATIONS)}"
            raise DataError(message(f"values of person {i}", person.values, allowed, "Add it."))
