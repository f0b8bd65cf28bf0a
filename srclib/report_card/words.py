"""What an SAE's latents say of words: languages, granularity, spelling, labels of documents.

Everything here needs the decoded tokens of a text, and is an estimate by rule where the papers
asked people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .. import rng
from ..errors import DataError, message
from ..evals.absorption import absorption
from ..evals.probes import Samples, sparse_probing
from ..methods import latents
from ..methods.latents.examples import collect
from ..sae import SAE
from .rows import Row, bare, share

MIN_TEXTS = 10  # of a latent that is read at all, as in the paper on checkpoints
MIN_WORDS = 20  # different words of a first letter that is asked for
N_WORDS = 4000  # places of words that absorption is measured on, at the most

Decode = Callable[[int], str]


def reading(sae: SAE, acts: Tensor, tokens: Tensor, decode: Decode) -> Iterator[Row]:
    """Shares of latents by language and by granularity. acts: [n_texts, seq, d_in]."""
    found = collect(sae, lambda: acts.split(64), rule="threshold", n_texts=50)
    read = []
    for text, place, n in zip(found.documents, found.positions, found.count, strict=True):
        if n >= MIN_TEXTS:
            ids = tokens[text[:n], place[:n]].tolist()
            read.append([decode(token) for token in ids])
    scripts = {latents.script(decode(token)) for token in tokens.unique().tolist()} - {None}
    kinds = [latents.classify(words, MIN_TEXTS) for words in read]
    count = f"Of {len(read)} of {sae.d_sae} latents, those active in {MIN_TEXTS} texts or more."
    says: dict[latents.Granularity, tuple[str, str]] = {
        "token": ("latents on one token", "What training learns first (LLM-jp)."),
        "concept": ("latents on related tokens", "They come later (LLM-jp)."),
        "uninterpretable": ("uninterpretable latents", "Most of them before training (LLM-jp)."),
    }
    for kind, (name, paper) in says.items():
        yield share(
            "words", name, (kinds.count(kind), len(read)), f"{paper} {count}",
            "What a person would say: a rule reads one token a text.",
        )  # fmt: skip
    if len(scripts) == 2:
        mixed = sum(latents.language(words) == "mixed" for words in read)
        yield share(
            "words", "latents of both scripts", (mixed, len(read)),
            f"Least in mid-training (LLM-jp). {count}",
            "Whether they mean the same in both languages: most do not.",
        )  # fmt: skip


def spelling(sae: SAE, acts: Tensor, tokens: Tensor, decode: Decode) -> Iterator[Row]:
    """Absorption of first letters. Paper: words of a spelling prompt; here: of any text."""
    seen = {token: decode(token).strip().lower() for token in tokens.unique().tolist()}
    word = {t: w for t, w in seen.items() if len(w) > 1 and w.isascii() and w.isalpha()}
    letters = sorted({w[0] for w in word.values()})
    groups = {c: sorted(t for t in word if word[t][0] == c) for c in letters}
    groups = {c: ids for c, ids in groups.items() if len(ids) >= MIN_WORDS}
    if len(groups) < 2:
        return
    where: dict[str, list[tuple[int, int]]] = {"train": [], "test": []}
    for i, ids in enumerate(groups.values()):
        order = torch.randperm(len(ids), generator=rng.stream(0, "report", "letters", i)).tolist()
        for j, place in enumerate(order):  # no word stands on both sides
            where["test" if j % 4 == 0 else "train"].append((ids[place], i))
    train, test = (_places(sae, acts, tokens, dict(pairs)) for pairs in where.values())
    found = absorption(train, test, sae.W_dec.detach())
    n = len(found.parents)
    yield bare(
        "words", "absorption of first letters", found.fraction,
        "A latent for a letter is silent where one for a word speaks; it grows with width and "
        f"falls with L0 (SAEBench). {n} of {len(groups)} letters can be read off the activations.",
        "Absorption of other concepts; NaN where no letter can be read.",
    )  # fmt: skip


def labels(sae: SAE, acts: Tensor, classes: Sequence[str]) -> Iterator[Row]:
    """Sparse probes for a label of each document. acts: [n_texts, seq, d_in].

    Raises DataError where labels and documents differ in number or a class has under 8 documents.
    """
    if len(classes) != len(acts):
        fix = "Give one label a document; documents that are too short are left out of both."
        raise DataError(message("labels", len(classes), f"{len(acts)}, one a document", fix))
    names = sorted(set(classes))
    few = [name for name in names if list(classes).count(name) < 8]
    if few or len(names) < 2:
        fix = "Leave rare labels out, or bring more documents."
        allowed = "two classes or more with 8 documents each"
        raise DataError(message("labels", few or names, allowed, fix))
    y = torch.tensor([names.index(name) for name in classes])
    with torch.no_grad():
        pooled = torch.stack([sae.encode(text).mean(0) for text in acts])  # [n_texts, d_sae]
    order = torch.randperm(len(y), generator=rng.stream(0, "report", "labels"))
    test = torch.zeros(len(y), dtype=torch.bool)
    for i in range(len(names)):
        own = order[y[order] == i]
        test[own[: len(own) // 4]] = True
    splits = {
        "of one latent": pooled,
        "of five latents": pooled,
        "of the activations": acts.mean(1),
    }
    for name, x in splits.items():
        k = {"of one latent": 1, "of five latents": 5}.get(name, x.shape[1])
        accuracy = sparse_probing(x[~test], y[~test], x[test], y[test], [k])[k]
        yield bare(
            "labels", f"accuracy {name}", accuracy, "Chance is one half; best near the right L0 "
            "(Sparse but Wrong). Probes on all activations are the ceiling.",
            f"Other labels. {int(test.sum())} documents judged.",
        )  # fmt: skip


def _places(sae: SAE, acts: Tensor, tokens: Tensor, letter: dict[int, int]) -> Samples:
    """Activations at the words of `letter`, at most N_WORDS of them, evenly through the text."""
    ids = torch.tensor(sorted(letter))
    text, place = torch.isin(tokens, ids).nonzero(as_tuple=True)
    step = -(-len(text) // N_WORDS) or 1
    text, place = text[::step], place[::step]
    x = acts[text, place].float()
    with torch.no_grad():
        z = sae.encode(x)
    return Samples(x, z, torch.tensor([letter[t] for t in tokens[text, place].tolist()]))
