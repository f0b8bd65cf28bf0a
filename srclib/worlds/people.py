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

from itertools import product
from typing import NamedTuple

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from ..errors import DataError, message, whole
from .engine import World, between, chance, columns, fill, unique, words_of

SPLITS = ("train", "held-out wording", "unseen people", "unseen both")
QUESTION = columns(
    "person:int relation:int wording:int prompt:text answer:text split:text taught:flag"
)
DATA = words_of("people")
RELATIONS = tuple(DATA["relations"])
# Four questions for each relation, all of one length: else the length of a prompt, which a position
# embedding shows, would tell the relation. N is the name. SAEs are trained on 0 and 1.
QUESTIONS = [
    "can you say when N was born ?|what is the birth date of N ?|"
    "when did N come into the world ?|tell me the day N was born .",
    "can you say where N was born ?|what is the birth city of N ?|"
    "where did N come into the world ?|tell me which town N comes from .",
    "can you say where N has studied ?|which university is the one N attended ?|"
    "what is the school of N called ?|tell me which university N graduated from .",
    "can you say what N has studied ?|which major is the one N chose ?|"
    "what did N take a degree in ?|tell me the main subject of N .",
    "can you say who now employs N ?|which company is it N works for ?|"
    "what is the employer of N called ?|tell me the firm that pays N .",
    "can you say where N now works ?|what is the work city of N ?|"
    "in which city does N now work ?|tell me the office town of N .",
]
MONTHS = DATA["months"].split()
DAYS, YEARS = range(1, 29), range(1950, 2006)
N_WORDINGS, TRAIN_WORDINGS = 4, (0, 1)
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
MOST_WORDS = 2000  # per ending; there are 4,970 stems, and a draw must find a new one soon


class Person(NamedTuple):
    """`name`: first, middle, last; `values`: the answers in the order of RELATIONS."""

    name: str
    values: tuple[str, ...]
    pronoun: str


class ListSizes(NamedTuple):
    """How many different names and values people are drawn from; the paper's sizes on request."""

    first: int = 40
    middle: int = 40
    last: int = 80
    city: int = 30
    university: int = 30
    major: int = 24
    employer: int = 30


def word_lists(sizes: ListSizes, seed: int) -> dict[str, list[str]]:
    """Different made-up words for each field of `sizes`; no word is in two lists.

    Raises ParameterError for a list that is longer than there are words.
    """
    lists: dict[str, list[str]] = {}
    taken: set[str] = set()
    for kind, size in sizes._asdict().items():
        endings, lists[kind] = DATA["endings"][kind].split(), []
        between(kind, size, 2, MOST_WORDS * len(endings))
        draw = chance(seed, "biographies", "words", kind)
        while len(lists[kind]) < size:
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


class BiographyWorld(World):
    """Made-up people, the first `n_known` of whom are the SAE's; a pure function of the arguments.

    sizes: of the lists of words that names and values are drawn from.
    n_bios: tellings of each person's biography. Raises ParameterError.
    """

    relations = RELATIONS

    def __init__(
        self,
        n_known: int = 36,
        n_other: int = 24,
        sizes: ListSizes | None = None,
        n_bios: int = 5,
        seed: int = 0,
    ) -> None:
        whole("n_known", n_known, 1)
        whole("n_other", n_other)
        whole("n_bios", n_bios, 1)
        self.people = draw_people(n_known + n_other, sizes or ListSizes(), seed)
        self.n_known, self.n_bios, self.seed = n_known, n_bios, seed
        texts = [text for each in QUESTIONS for text in each.split("|")]
        texts += [text for each in DATA["relations"].values() for text in each["sentences"]]
        texts += [text for p in self.people for text in (p.pronoun, p.name, *p.values)]
        words = unique("Q: A: .", *texts, slots="N P V")
        self.words = ("<pad>", "<eos>", "<unk>", *sorted(words))

    def questions(self) -> Dataset:
        """Every person, relation and wording, in this order.

        Columns: person, relation (a place in `relations`), wording, prompt (`Q: ... A:`), answer,
        split (one of SPLITS), taught (whether the language model is trained on its answer: not
        the held-out wordings of known people).
        """
        places = product(range(len(self.people)), range(len(RELATIONS)), range(N_WORDINGS))
        rows = []
        for i, relation, wording in places:
            known, usual = i < self.n_known, wording in TRAIN_WORDINGS
            rows.append(
                {
                    "person": i,
                    "relation": relation,
                    "wording": wording,
                    "prompt": self._prompt(self.people[i].name, relation, wording),
                    "answer": self.people[i].values[relation],
                    "split": SPLITS[2 * (not known) + (not usual)],
                    "taught": usual or not known,
                }
            )
        return Dataset.from_list(rows, features=QUESTION)

    def _prompt(self, name: str, relation: int, wording: int) -> str:
        said = _said(QUESTIONS[relation].split("|")[wording], N=name)
        return f"Q: {said} A:"

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
        sentences = []
        for relation in (0, *rest):
            text = draw.choice(DATA["relations"][RELATIONS[relation]]["sentences"])
            subject = person.pronoun if relation else person.name
            sentences.append(_said(text, P=subject, V=person.values[relation]) + " .")
        return " ".join(sentences)

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
            name, seen = f"answer of question {i}", questions[i]["answer"]
            raise DataError(message(name, seen, "in the vocabulary", "Use this world's tokenizer."))
    return prompts, [[*answer, int(tokenizer.eos_token_id)] for answer in answers]


def _said(text: str, **slots: str) -> str:
    return " ".join(fill(text, {name: (value,) for name, value in slots.items()}, str))


draw_world = BiographyWorld  # as notebooks call it
