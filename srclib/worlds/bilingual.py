"""A corpus in English and Japanese whose every token carries its truth; nothing is downloaded.

96 concepts with their spellings, 14 relations whose facts are the same in both languages, a
small grammar (English SVO, Japanese SOV). Documents are English, Japanese, sentence by sentence
with their translation (`par`), or with glosses in brackets (`gloss`).

    world = BilingualWorld()
    tokens = column(world.documents(15_000, mix={"en": 3, "ja": 3, "gloss": 4}), "tokens")
    texts = world.documents(1_300, "analysis", mix={"en": 1, "ja": 1})
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from datasets import Dataset, Features, Sequence, Value
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .. import rng
from ..errors import DataError, ParameterError, message
from . import bilingual_lexicon as lexicon
from .bilingual_grammar import KINDS, SLOTS, TRUTH, Kind, Writer
from .bilingual_vocabulary import LANGUAGES, Concept, Fact, Language, Vocabulary
from .lexicon import BOS, SPECIALS, UNK
from .tokenizing import with_bos

INTS = Sequence(Value("int32"))
DOCUMENT = Features(
    text=Value("string"), kind=Value("string"), tokens=INTS, **dict.fromkeys(TRUTH, INTS)
)
FACT = Features(
    relation=Value("string"),
    subject=Value("int32"),
    object=Value("int32"),
    language=Value("string"),
    said_in=Sequence(Value("string")),
    prompt=INTS,
    answers=INTS,
)
LENGTH = 48  # tokens of a document behind BOS
ANALYSIS: Mapping[Kind, float] = {"en": 1, "ja": 1}  # pure texts, one to one


@dataclass(frozen=True)
class BilingualWorld:
    """`seed` draws the facts, the popularity of concepts and the texts; the words are fixed.

    Raises ParameterError for what is no seed.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        rng.derive(self.seed)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.seed)

    @property
    def words(self) -> tuple[str, ...]:
        """A word's place is its token id; `<pad> <bos> <eos> <unk>` come first."""
        return self._vocabulary.words

    @property
    def concepts(self) -> tuple[Concept, ...]:
        return self._vocabulary.concepts

    @property
    def concept_of(self) -> tuple[int, ...]:
        """The concept of each token id; -1 for function words, digits and marks."""
        return self._vocabulary.concept_of

    @property
    def categories(self) -> tuple[str, ...]:
        """Names; the category number behind the last is that of digits."""
        return self._vocabulary.categories

    @property
    def relations(self) -> tuple[str, ...]:
        """Names; the relation number behind the last is that of sentences about a year."""
        return self._vocabulary.relations

    @property
    def slots(self) -> tuple[str, ...]:
        return SLOTS

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token per word, BOS put first: `tokenizer(text)` gives a document's `tokens`."""
        model = models.WordLevel(self._vocabulary.ids, unk_token=SPECIALS[UNK])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return with_bos(tokenizer, SPECIALS)

    def documents(
        self,
        n: int,
        split: str = "train",
        *,
        mix: Mapping[Kind, float] = ANALYSIS,
        length: int = LENGTH,
    ) -> Dataset:
        """`n` documents of `length` tokens behind BOS, a pure function of (world, arguments).

        split: any name; each has streams of its own, facts are the same in all. Document i does
            not depend on n. mix: relative frequency of the kinds en, ja, par and gloss.

        Columns: text, kind, tokens (BOS first) and, as long as tokens and -1 where there is none:
        concept; category; relation and subject (a concept) of the sentence; slot; language (0 is
        English, 1 Japanese). Raises ParameterError.
        """
        for name, value in (("n", n), ("length", length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ParameterError(message(name, value, "a whole number >= 1", "Change it."))
        kinds, weights = _checked(mix)
        columns: dict[str, list[object]] = {name: [] for name in DOCUMENT}
        for i in range(n):
            # One stream per document, so that document i is the same whatever n is.
            chance = random.Random(rng.derive(self.seed, "bilingual world", "text", split, i))
            kind = chance.choices(kinds, weights)[0]
            page = Writer(self._vocabulary, kind, chance.random).document(length)
            columns["text"].append(" ".join(self.words[i] for i in page.ids[1:]))
            columns["kind"].append(kind)
            columns["tokens"].append(page.ids)
            for name in TRUTH:
                columns[name].append(page.truth[name])
        return Dataset.from_dict(columns, features=DOCUMENT)

    def facts(self) -> Dataset:
        """Every fact in each language, as a prompt and the ids that answer it.

        Columns: relation, subject and object (concepts), language of the prompt, said_in (the
        languages whose texts state the fact), prompt (BOS first, most frequent spelling), answers
        (every spelling of the object in the prompt's language).
        """
        rows = [
            self._asked(fact, language) for fact in self._vocabulary.facts for language in LANGUAGES
        ]
        return Dataset.from_list(rows, features=FACT)

    def _asked(self, fact: Fact, language: Language) -> dict[str, object]:
        v, name = self._vocabulary, self.relations[fact.relation]
        relation = lexicon.RELATIONS[name]
        before = (relation.en[0] if language == "en" else relation.ja[1]).partition("O")[0]
        subject = v.words[v.forms[language][fact.subject].things[0]]
        stand_for = {"S": subject, "D": lexicon.DETERMINERS[0]}
        prompt = [v.ids[stand_for.get(word, word)] for word in before.split()]
        return {
            "relation": name,
            "subject": fact.subject,
            "object": fact.object,
            "language": language,
            "said_in": list(fact.said_in),
            "prompt": [BOS, *prompt],
            "answers": list(v.forms[language][fact.object].things),
        }


def column(documents: Dataset, name: str) -> Tensor:
    """A column of equally long rows, `tokens` or one of the truth: int64 [n_documents, length + 1].

    Raises DataError for another column.
    """
    allowed = ("tokens", *TRUTH)
    if name not in allowed:
        raise DataError(message("name", name, ", ".join(allowed), "Pick one of them."))
    return torch.as_tensor(documents.with_format("numpy")[name][:]).long()


def _checked(mix: Mapping[Kind, float]) -> tuple[list[Kind], list[float]]:
    unknown = [kind for kind in mix if kind not in KINDS]
    if unknown or not mix or min(mix.values()) < 0 or sum(mix.values()) <= 0:
        allowed = f"weights >= 0 of {', '.join(KINDS)}, one of them positive"
        raise ParameterError(message("mix", dict(mix), allowed, 'Use {"en": 1, "ja": 1}.'))
    kinds = [kind for kind in KINDS if kind in mix]  # the order of the caller does not count
    return kinds, [mix[kind] for kind in kinds]
