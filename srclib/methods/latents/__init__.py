"""What a latent stands for, read from the texts that activate it: language trend and granularity.

A latent is described by one token per kept text, the token of its highest activation there. The
classes are those of Inaba et al. 2025 (arXiv:2503.06394v1), sections 4.2 to 4.4. They counted the
language trend by program and gave the granularity by eye; here both are rules. Tokens are decoded
text: byte-level pieces such as `Ġcat` would be read letter by letter.

All of them raise DataError for what is no list of tokens, and ParameterError for other settings.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from numbers import Integral
from typing import Literal, NamedTuple

from ...errors import DataError, ParameterError, message, whole

Label = str | int | None  # None is no label
Language = Literal["en", "ja"]
Trend = Literal["en", "ja", "mixed"]
Granularity = Literal["token", "concept", "uninterpretable", "excluded"]
Fine = Literal["token", "synonymy", "similarity", "context", "text", "uninterpretable", "excluded"]

LANGUAGES: tuple[Language, ...] = ("en", "ja")
MONOLINGUAL = 0.9  # share of the votes (section 4.2)
DIVERSE = 0.84  # normalised entropy from which tokens look unrelated
DOMINANT = 0.5  # share from which one token is the latent's token
AGREED = 0.8  # share of texts that make a ground-truth label the latent's own
JAPANESE = ("HIRAGANA", "KATAKANA", "CJK", "IDEOGRAPHIC")  # the last is for 々 and 〆
NAME = re.compile(r"<[^<>\s]+>")  # <0x0A>, </s>: the tokenizer's own words, in no language


def language(tokens: Iterable[str], rule: Literal[">=", ">"] = ">=") -> Trend:
    """The language trend of a latent. tokens: one per text; each votes by its `script`."""
    return trend([script(token) for token in _checked("tokens", tokens)], rule)


def trend(votes: Sequence[Language | None], rule: Literal[">=", ">"] = ">=") -> Trend:
    """The language that holds 0.9 of the votes, else "mixed". votes: one per text, None for none.

    Votes are document languages where these are known, else scripts. No votes: "mixed".
    Paper: its code counts punctuation as Japanese and a digit like the token before it; here: they
    leave the denominator, because they are no evidence for either language. The paper says ">=",
    its code ">": with ten texts it matters.
    """
    if rule not in (">=", ">"):
        raise ParameterError(message("rule", rule, '">=" or ">"', 'The paper says ">=".'))
    count = Counter(vote for vote in votes if vote is not None)
    for name in count.keys() - set(LANGUAGES):
        fix = "Translate the language code."
        raise DataError(message("votes", name, '"en", "ja" or None', fix))
    for winner in LANGUAGES:
        share = count[winner] / max(count.total(), 1)
        if share > MONOLINGUAL or (rule == ">=" and share == MONOLINGUAL):
            return winner
    return "mixed"


@lru_cache(maxsize=2**16)  # a vocabulary's worth: 32,768 latents show the same tokens again
def script(token: str) -> Language | None:
    """Any kana or kanji: "ja" (`Tシャツ`); else any Latin letter, also é and Ａ: "en"; else None.

    Chinese would be "ja" and French "en": this is for corpora of these two languages.
    """
    if NAME.fullmatch(token.strip()):
        return None
    # A letter's Unicode name begins with its script, behind the word for its width. Only letters:
    # the name of the dot in ジョン・スミス begins with KATAKANA too.
    letters = (unicodedata.name(letter, "") for letter in token if letter.isalpha())
    names = [name.removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ") for name in letters]
    if any(name.startswith(JAPANESE) for name in names):
        return "ja"
    return "en" if any(name.startswith("LATIN") for name in names) else None


def vote(text: Sequence[str], position: int) -> Language | None:
    """The language of token `position` of a text, for corpora that do not name it.

    A token without a script takes that of the nearest decided token to its left, else to its
    right: the 5 of `5月` is Japanese. None where the text decides nothing.
    """
    words = _checked("text", text)
    if not 0 <= position < len(words):
        allowed = f"0 <= position < {len(words)}, the tokens of the text"
        raise ParameterError(message("position", position, allowed, "Count from the first token."))
    order = [*reversed(words[: position + 1]), *words[position + 1 :]]
    return next((found for found in map(script, order) if found), None)


class Scores(NamedTuple):
    """How much the tokens of a latent differ; `classify` reads these two numbers."""

    top_share: float  # share of the texts that show the commonest token
    entropy: float  # of the tokens, over ln(number of texts): 0 one token, 1 all different


def scores(tokens: Iterable[str]) -> Scores:
    """Both scores of lower-cased, stripped tokens, one per text."""
    words = [*map(_word, _checked("tokens", tokens))]
    if not words:
        raise DataError(message("tokens", [], "one token per text", "Leave dead latents out."))
    shares = [n / len(words) for n in Counter(words).values()]
    entropy = sum(p * math.log(1 / p) for p in shares)
    return Scores(max(shares), entropy / math.log(max(len(words), 2)))  # a single text: 0 / ln 2


def classify(tokens: Iterable[str], min_texts: int = 10) -> Granularity:
    """Granularity from tokens alone, for any model. tokens: one per text; case and spaces go.

        entropy >= 0.84 -> uninterpretable; else top_share >= 0.5 -> token; else concept

    Fewer than `min_texts` texts: "excluded". The thresholds were read off the paper's 598 labels:
    three classes, synonymy and similarity as "concept", agree with a person at kappa 0.75.
    Tokens cannot tell few unrelated tokens from few related ones, so a small vocabulary calls for
    `oracle`.
    """
    whole("min_texts", min_texts, 1)
    words = [*map(_word, _checked("tokens", tokens))]
    if len(words) < min_texts:
        return "excluded"
    found = scores(words)
    if found.entropy >= DIVERSE:
        return "uninterpretable"
    return "token" if found.top_share >= DOMINANT else "concept"


def oracle(
    tokens: Iterable[str],
    concepts: Sequence[Label],
    meanings: Mapping[str, Sequence[Label]],
    neighbours: Mapping[str, Sequence[Label]],
    min_texts: int = 10,
    topics: Sequence[Label] = (),
) -> Fine:
    """Granularity from ground truth; the first kind of label that 0.8 of the texts share.

    tokens, concepts: per text, the token and its concept. meanings: by name, what concepts may
    have in common (category, relation, subject, ...): "similarity". neighbours: the tokens before
    and after: "context", which four classes count as similarity. topics: what each text is about,
    whatever the word: "text". None is no label: it agrees with nothing, so function words cannot
    share a concept. Fewer than `min_texts` texts: "excluded".
    """
    whole("min_texts", min_texts, 1)
    words = [*map(_word, _checked("tokens", tokens))]
    topics = topics if len(topics) else [None] * len(words)
    bare = {"concepts": concepts, "topics": topics}
    for name, labels in [*bare.items(), *meanings.items(), *neighbours.items()]:
        _check_labels(name, labels, len(words))
    if len(words) < min_texts:
        return "excluded"
    around = [[_word(t) if isinstance(t, str) else t for t in each] for each in neighbours.values()]
    kinds: dict[Fine, Iterable[Sequence[Label]]] = {"token": [words], "synonymy": [concepts]}
    kinds |= {"similarity": meanings.values(), "context": around, "text": [topics]}
    for kind, candidates in kinds.items():
        if any(_agreement(labels) >= AGREED for labels in candidates):
            return kind
    return "uninterpretable"


def _agreement(labels: Sequence[Label]) -> float:
    """Share of all texts that carry the commonest label; None is no label."""
    count = Counter(label for label in labels if label is not None)
    return max(count.values(), default=0) / len(labels)


def _word(token: str) -> str:
    """Lower-cased and stripped, the space that SentencePiece writes as ▁ included."""
    return token.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip().lower()


def _checked(name: str, tokens: Iterable[str]) -> list[str]:
    """The tokens as a list. A string would be taken apart, a set or Counter has lost its counts."""
    allowed, fix = "a list of strings, one per text", "Decode each token: ['cat', '猫']."
    if not isinstance(tokens, Iterable) or isinstance(tokens, str | bytes | Set | Mapping):
        raise DataError(message(name, tokens, allowed, fix))
    found = list(tokens)
    for i, token in enumerate(found):
        if not isinstance(token, str):
            raise DataError(message(f"{name}[{i}]", token, allowed, fix))
    return found


def _check_labels(name: str, labels: Sequence[Label], n: int) -> None:
    """One label per text, each compared by value: two tensors of 7 would be two labels."""
    if len(labels) != n:
        fix = "Pass one per text, None where there is none."
        raise DataError(message(f"len({name})", len(labels), f"{n}, as many as tokens", fix))
    for i, label in enumerate(labels):
        if label is not None and not isinstance(label, str | Integral):
            allowed = "a string, a whole number or None"
            raise DataError(message(f"{name}[{i}]", label, allowed, "Take .tolist() of a tensor."))
