"""The biography world of AlignSAE: people, questions about them, and their splits.

    world = draw_world(n_known=36, n_other=24)
    questions = world.questions()            # every person, relation and wording, with its split
    tokenizer = world.tokenizer()            # one token per word

A language model cannot know beforehand that two wordings ask the same. So people are of two groups
(section 8 of our specification): the known ones are asked in wordings 0 and 1 only, the others in
all four, from which the model learns what the held-out wordings mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from datasets import Dataset, Features, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..errors import DataError, ParameterError, message
from .biography_people import RELATIONS, ListSizes, Person, check_people, draw_people
from .biography_text import N_WORDINGS, TRAIN_WORDINGS, Grammar, biography, prompt, words

SPECIALS = ("<pad>", "<eos>", "<unk>")
SPLITS = ("train", "held-out wording", "unseen people", "unseen both")
QUESTION = Features(
    person=Value("int32"),
    relation=Value("int32"),
    wording=Value("int32"),
    prompt=Value("string"),
    answer=Value("string"),
    split=Value("string"),
    taught=Value("bool"),
)


@dataclass(frozen=True)
class BiographyWorld:
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
        check_people(self.people)
        if not 1 <= self.n_known <= len(self.people):
            allowed = f"1 <= n_known <= {len(self.people)} people"
            fix = "The SAE learns from the known people."
            raise ParameterError(message("n_known", self.n_known, allowed, fix))
        if self.grammar not in get_args(Grammar):
            allowed = " or ".join(map(repr, get_args(Grammar)))
            raise ParameterError(message("grammar", self.grammar, allowed, "Choose one."))
        if self.n_bios < 1:
            fix = "The model learns from biographies too."
            raise ParameterError(message("n_bios", self.n_bios, ">= 1", fix))

    @property
    def relations(self) -> tuple[str, ...]:
        return RELATIONS

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: a word's place is its token id; `<pad> <eos> <unk>` come first."""
        return (*SPECIALS, *words(self.people, self.grammar))

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token per word. GPT-2 has no BOS, and none is added."""
        ids = {word: i for i, word in enumerate(self.words)}
        tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            eos_token="<eos>",
            unk_token="<unk>",
            clean_up_tokenization_spaces=False,
        )

    def questions(self) -> Dataset:
        """Every person, relation and wording, in this order.

        Columns: person, relation (a place in `relations`), wording, prompt (`Q: ... A:`), answer,
        split (one of SPLITS), taught (whether the language model is trained on its answer: not
        the held-out wordings of known people).
        """
        rows = []
        for i, person in enumerate(self.people):
            for relation in range(len(RELATIONS)):
                for wording in range(N_WORDINGS):
                    known, usual = i < self.n_known, wording in TRAIN_WORDINGS
                    rows.append(
                        {
                            "person": i,
                            "relation": relation,
                            "wording": wording,
                            "prompt": prompt(person, relation, wording, self.grammar),
                            "answer": person.values[relation],
                            "split": SPLITS[2 * (not known) + (not usual)],
                            "taught": usual or not known,
                        }
                    )
        return Dataset.from_list(rows, features=QUESTION)

    def biographies(self) -> Dataset:
        """`n_bios` tellings of every person. Columns: person, variant, text."""
        rows = [
            {"person": i, "variant": v, "text": biography(person, self.seed, v)}
            for i, person in enumerate(self.people)
            for v in range(self.n_bios)
        ]
        return Dataset.from_list(rows)

    def values(self, relation: int) -> set[str]:
        """Every value of a relation, for the question whether an answer keeps its type."""
        return {person.values[relation] for person in self.people}


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
    for i, answer in enumerate(answers):
        unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in answer
        if not answer or (unknown and tokenizer.unk_token_id != tokenizer.eos_token_id):
            fix = "Use the tokenizer of this world."
            seen = questions[i]["answer"]
            raise DataError(message(f"answer of question {i}", seen, "in the vocabulary", fix))
    return prompts, [[*answer, int(tokenizer.eos_token_id)] for answer in answers]
