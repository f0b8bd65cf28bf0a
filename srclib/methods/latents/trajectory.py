"""Language models at checkpoints of their training, with the texts that SAEs read there.

    lms = named(template, corpus, steps, ...) or own(world, config, mix, ...)

Both have one face. What only texts of our own can tell is empty for a named model: `known` lists
no language model, `shown` gives words and languages without concepts and meanings.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ... import metrics
from ...compute.place import place
from ...errors import ParameterError, message
from ...lm.harvest import harvest
from ...lm.hub import expand, shared_tokenizer
from ...lm.models import LMConfig, described, load_model
from ...lm.packing import read_rows
from ...lm.released import load_series
from ...lm.streamed import Blocks
from ...lm.train import train_lms
from ...runs.run import Run
from ...sources.held_out import HeldOut
from ...sources.rows import Rows, Unit, unit
from ...training.config import TrainConfig
from ...worlds.bilingual import BilingualWorld, Evidence, Shown, column
from ...worlds.bilingual_grammar import Kind
from . import vote
from .retrieval import Retrieval, retrieval

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

AT_ONCE = 2000  # texts of a named model whose activations are held in memory
BEGINNING = 32_768  # rows whose geometric median an SAE starts at
CONTEXT = 65  # tokens of a text of a named model, BOS first


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """Models by (lm, step); lm is the seed of a language model. Activations are unit vectors."""

    models: dict[tuple[int, int], PreTrainedModel] = field(repr=False)
    sae_ids: Tensor = field(repr=False)
    """[n_texts_sae, context] texts that train SAEs"""
    ids: Tensor = field(repr=False)
    """[n_texts, context] further texts, which give examples"""
    evidence: Evidence | None = field(default=None, repr=False)
    """the truth of `ids`"""
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)
    named: Mapping[str, Any] = field(default_factory=dict)
    """of named models: their kind, corpus and the tokens at hand, for the ledger"""

    @property
    def separator(self) -> str:
        """What stands between two of `words` in print."""
        return " " if self.evidence else ""

    @property
    def known(self) -> list[int]:
        """The language models whose texts carry their truth."""
        return list(dict.fromkeys(lm for lm, _ in self.models)) if self.evidence else []

    def activations(self, lm: int, step: int, layer: int, ids: Tensor) -> Tensor:
        """[n_texts, context - 1, d] behind block `layer`; the first position (BOS) is dropped."""
        return unit(harvest(self.models[lm, step], ids, layer)[0][:, 1:])

    @functools.lru_cache(maxsize=32)  # noqa: B019 (one object per run of a study)
    def x(self, lm: int, step: int, layer: int) -> Tensor:
        """Activations on the example texts; of a named model on the first 2,000 of them."""
        ids = self.ids if self.evidence else self.ids[:AT_ONCE]
        return self.activations(lm, step, layer, ids)

    def batches(self, lm: int, step: int, layer: int) -> Callable[[], Iterable[Tensor]]:
        """All example texts in pieces, again at each call: for `examples.collect`."""
        if self.evidence or len(self.ids) <= AT_ONCE:
            return functools.partial(self.x(lm, step, layer).split, 100)
        return lambda: (self.activations(lm, step, layer, ids) for ids in self.ids.split(64))

    def site(self, lm: int, step: int, layer: int) -> tuple[HeldOut, Tensor]:
        """What trains an SAE, with `x` as its test rows, and the geometric median [d] of its start.

        A named model's activations are computed when a batch asks for them.
        """
        test = self.x(lm, step, layer).flatten(0, 1)
        if self.evidence:
            x = self.activations(lm, step, layer, self.sae_ids).flatten(0, 1)
            return HeldOut(Rows(x), test), metrics.geometric_median(x[:BEGINNING])
        start = self.sae_ids[:256]
        x = self.activations(lm, step, layer, start).flatten(0, 1)
        return HeldOut(Unit(self._blocks(lm, step).at(layer)), test), metrics.geometric_median(x)

    @functools.cache  # noqa: B019 (one object per run of a study)
    def _blocks(self, lm: int, step: int) -> Blocks:
        """What all SAEs on one model read."""
        n = min(256, len(self.sae_ids))
        return Blocks(self.models[lm, step], self.sae_ids, block_rows=n, skip=1)

    def words(self, ids: Tensor) -> list[str]:
        """The tokens of a text without its BOS, decoded; ids [context]."""
        if self.evidence:
            return [self.evidence.world.words[i] for i in ids[1:].tolist()]
        assert self.tokenizer is not None
        return self.tokenizer.batch_decode(ids[1:, None])

    def shown(self, documents: Tensor, positions: Tensor) -> Shown:
        """The tokens at (document, position) of `ids`, both [n_texts], and what is known of them.

        Languages of a named model's texts are votes of their tokens.
        """
        if self.evidence:
            return self.evidence.at(documents, positions)
        texts = [self.words(row) for row in self.ids[documents]]
        places = list(zip(texts, positions.tolist(), strict=True))
        return Shown([t[i] for t, i in places], [], {}, {}, [vote(t, i) for t, i in places], [])

    def retrieval(self, x: Tensor) -> Retrieval:
        """Retrieval of concepts between the languages; x as `self.x` gives it. Needs evidence."""
        assert self.evidence is not None
        where = (self.evidence.concept.flatten(), self.evidence.language.flatten())
        return retrieval(x.flatten(0, 1), *where, _categories(self.evidence))

    def between_spellings(self, x: Tensor) -> float:
        """Its ceiling: from a concept's commonest spelling to its others in the same language and
        back, the mean of both languages."""
        assert self.evidence is not None
        concept, language = self.evidence.concept, self.evidence.language
        forms = self.evidence.world.forms.values()
        commonest = torch.tensor([form.things[0] for side in forms for form in side])
        other = (~torch.isin(self.evidence.tokens, commonest)).long().flatten()
        sides = [torch.where(language == i, concept, -1).flatten() for i in (0, 1)]
        where = other, _categories(self.evidence)
        found = [retrieval(x.flatten(0, 1), side, *where).concept for side in sides]
        return sum(found) / len(found)


def _categories(evidence: Evidence) -> Tensor:
    return torch.tensor([concept.category for concept in evidence.world.concepts])


@torch.no_grad()
def answers(model: PreTrainedModel, prompts: Iterable[Sequence[int]]) -> list[int]:
    """The most likely next token of each prompt (ids, BOS first)."""
    rows = [torch.tensor(prompt) for prompt in prompts]
    ends = torch.tensor([len(row) for row in rows]) - 1
    table = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
    logits = model(input_ids=table).logits[torch.arange(len(table)), ends]
    return [int(word) for word in logits.argmax(1)]


def fact_accuracy(model: PreTrainedModel, facts: pd.DataFrame) -> float:
    """Share of `facts` (columns prompt and answers) whose most likely next token is an answer."""
    pairs = zip(answers(model, facts["prompt"]), facts["answers"], strict=True)
    return sum(word in right for word, right in pairs) / len(facts)


def own(
    world: BilingualWorld,
    config: LMConfig,
    mix: Mapping[Kind, float],
    n_documents: int,
    seeds: Sequence[int],
    n_texts_sae: int,
    n_texts: int,
) -> Checkpoints:
    """Small models trained on `n_documents` of a world, or what equal calls stored.

    They differ in initial weights and order of the texts. mix: relative frequency of the kinds of
    document that they read; SAEs read pure English and Japanese texts of other streams.
    """
    tokens = column(world.documents(n_documents, mix=mix), "tokens")
    # Three models on two cores take turns: a second round of one would leave a core without work.
    workers = len(seeds) if len(seeds) < 2 * (os.cpu_count() or 1) else None
    runs = train_lms([replace(config, seed=seed) for seed in seeds], tokens, workers)
    folders = {(s, t): at for s, run in zip(seeds, runs, strict=True) for t, at in run.items()}
    texts = world.documents(n_texts, "examples")
    sae_ids = column(world.documents(n_texts_sae, "sae"), "tokens")
    models = {key: load_model(folder) for key, folder in folders.items()}
    return Checkpoints(models, sae_ids, column(texts, "tokens"), Evidence(world, texts))


def named(
    template: str,
    corpus: str,
    steps: Sequence[int],
    seeds: Sequence[int],
    n_texts_sae: int,
    n_texts: int,
) -> Checkpoints | None:
    """Checkpoints that exist, or None for no template (`hub.expand`); nothing is downloaded.

    corpus: what `corpora.read` takes. seeds: one, under which the series stands.
    """
    if not template:
        return None
    folders = expand(template, steps)
    tokenizer = shared_tokenizer(folders)
    rows = read_rows(corpus, tokenizer, CONTEXT, n_documents=n_texts_sae + n_texts).rows
    loaded = {step: load_model(folder, dtype=place().dtype) for step, folder in folders.items()}
    models = {(seed, step): model for seed in seeds for step, model in loaded.items()}
    sae_ids, ids = rows[:-n_texts], rows[-n_texts:]
    facts = {
        "lm": described(loaded[steps[-1]].config),
        "corpus": corpus,
        "available": sae_ids.numel(),
    }
    return Checkpoints(models, sae_ids, ids, tokenizer=tokenizer, named=facts)


def released_runs(
    lms: Checkpoints, template: str, layer: int, d_sae: int, k: int, seed: int
) -> dict[tuple[int, int, int, int], Run]:
    """Finished runs of released SAEs by (lm, step, layer, seed); none for no template.

    Raises ParameterError for models of our own, and where the SAEs reconstruct `x` no better than
    nothing, which loses 1 on unit vectors: they were trained on another block.
    """
    if not template:
        return {}
    if lms.evidence:
        fix = "Set model as well."
        raise ParameterError(message("released", template, "SAEs of a named model only", fix))
    steps = list(dict.fromkeys(step for _, step in lms.models))
    width = next(iter(lms.models.values())).config.get_text_config().hidden_size
    saes, runs = load_series(template, steps, width, d_sae, k), {}
    for lm, step in lms.models:
        source, _ = lms.site(lm, step, layer)
        with torch.no_grad():
            loss = metrics.mse(source.test, saes[step](source.test).x_hat)
        if not loss < 1:
            raise ParameterError(
                f"released: the SAEs lose {loss:.2f} of 1 on the output of block {layer}. Allowed "
                "is the block that they were trained on; set layer (counted from 0)."
            )
        run = Run(saes[step], source, TrainConfig(1, 1, 1.0))
        run.key = "released"  # finished elsewhere
        runs[lm, step, layer, seed] = run
    return runs
